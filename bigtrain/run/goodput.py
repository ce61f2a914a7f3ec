"""Effective training time: the share of a run's wall time that went into steps that counted, and what the rest was.

Each life of a run (from a start of its ranks to their end) adds up where its time goes; the heartbeat carries the
account, and the event of the next start keeps it. So it is known of lives that were killed, too, up to their last
heartbeat.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from bigtrain.core.stop import LAUNCHER
from bigtrain.tracking.events import Event

ACCOUNT, BEFORE = "account", "before"
"""Where the account stands: in the heartbeat, and that of the former life in the event of a start."""
_KINDS = {
    "train_step": "steps",
    "next_batches": "data",
    "evaluate": "evaluation",
    "preview": "evaluation",
    "examine": "evaluation",
    "snapshot": "checkpoints",
    "save": "checkpoints",
    "roll_back": "checkpoints",
    "count_operations": "start",  # of the first step of each kind
}
"""Span of the trainer -> what its time counts as."""
PARTS = ("steps", "start", "data", "evaluation", "checkpoints", "redone", "queue", "failures", "other")
"""What wall time is spent on: `steps` are those that counted, `redone` those whose work was lost, `queue` is the time
between a stop that saved and the next start, `failures` that between a life that broke off and the next one."""


class TimeAccount:
    """Adds up where the time of this process goes, from its start on, with that of a launcher that started it alone."""

    def __init__(self) -> None:
        self._began = _began()
        self._seconds = dict.fromkeys(dict.fromkeys(_KINDS.values()), 0.0)
        self._inside = False

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the time of what is done inside, once, where spans lie in each other."""
        if self._inside or (name not in _KINDS and name != "start"):
            yield
            return
        self._inside, began = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            if name == "start":  # with what the interpreter and its imports took before
                self._seconds["start"] += time.time() - self._began
            else:
                self._seconds[_KINDS[name]] += time.perf_counter() - began

    def read(self) -> dict[str, Any]:
        """Return the account, for the heartbeat."""
        return {"began": self._began, "seconds": {name: round(value, 3) for name, value in self._seconds.items()}}


def _began() -> float:
    """Return when this life began, UNIX time: with its launcher, unless that had started other ranks before."""
    own = psutil.Process()
    if os.environ.get(LAUNCHER) == str(own.ppid()) and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(own.ppid())
    return float(own.create_time())


def goodput_of(events: Sequence[Event], heartbeat: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how effective a run's time was; None where its events tell nothing of it, as those of former versions.

    Args:
        events: of the run.
        heartbeat: the newest.

    Returns:
        `share` of the wall time in steps that counted; `share_without_start`, of the wall time without starts;
        `wall_s`; `seconds` by `PARTS`.
    """
    starts = [place for place, event in enumerate(events) if event["event"] in ("start", "resumed")]
    lives = [events[place].get(BEFORE) for place in starts[1:]] + [_account_of(heartbeat)]
    if not starts or any(life is None for life in lives):
        return None
    seconds = dict.fromkeys(PARTS, 0.0)
    for number, (place, life) in enumerate(zip(starts, lives, strict=True)):
        end = starts[number + 1] if number + 1 < len(starts) else len(events)
        _add_life(seconds, life, events[place:end], events[end] if end < len(events) else None)
        if end < len(events):
            gap = max(lives[number + 1]["began"] - life["until"], 0.0)
            seconds["queue" if events[end - 1]["event"] == "stopped" else "failures"] += gap
    wall = sum(seconds.values())
    trained = seconds["steps"]
    return {
        "share": round(trained / wall, 4) if wall else 0.0,
        "share_without_start": round(trained / (wall - seconds["start"]), 4) if wall > seconds["start"] else 0.0,
        "wall_s": round(wall, 1),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _account_of(heartbeat: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a life's account as its last heartbeat has it, with the time of that."""
    account = heartbeat.get(ACCOUNT)
    return None if account is None else {**account, "until": heartbeat["time"], "reached": heartbeat["samples_seen"]}


def former_life(heartbeat: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the event of a start keeps of the life before."""
    account = _account_of(heartbeat)
    return {} if account is None else {BEFORE: account}


def _add_life(seconds: dict[str, float], life: Mapping[str, Any], events: Sequence[Event], after: Event | None) -> None:
    spent: Mapping[str, float] = life["seconds"]
    taken_back = sum(max(e["begun_kimg"] - e["kimg"], 0.0) for e in events if e["event"] == "rollback")
    made = max(life["reached"] / 1000 - events[0].get("kimg", 0.0), 0.0) + taken_back
    lost = taken_back + (after.get("lost_kimg", 0.0) if after is not None else 0.0)
    redone = spent.get("steps", 0.0) * min(lost / made, 1.0) if made > 0 else 0.0
    for name, value in spent.items():
        seconds[name] += value
    seconds["steps"] -= redone
    seconds["redone"] += redone
    seconds["other"] += max(life["until"] - life["began"] - sum(spent.values()), 0.0)


def in_words(goodput: Mapping[str, Any]) -> str:
    """Return it for people: `93 % in steps that counted; start 4 %, redone 3 %`."""
    wall = goodput["wall_s"] or 1.0
    rest = {name: value / wall for name, value in goodput["seconds"].items() if name != "steps"}
    shares = [f"{name} {share:.1%}" for name, share in sorted(rest.items(), key=lambda one: -one[1]) if share >= 0.001]
    return f"{goodput['share']:.1%} of the time in steps that counted" + (f"; {', '.join(shares)}" if shares else "")
