"""The journal of a sweep: everything that was decided, one JSON object a line. It is the truth; a resume replays it."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bigtrain.sweep.metric import Scored
from bigtrain.sweep.space import Point

FILE_NAME = "journal.jsonl"

State = Literal["waiting", "running", "complete", "stopped", "failed"]
"""Of a trial: `stopped` by the scheduler; `failed` once too often; a run that collapsed has failed too."""

Event = dict[str, Any]


@dataclass
class Trial:
    """What is known of a trial.

    Attributes:
        number: counts from 0, the base config.
        point: what it changes now; PBT moves it.
        seed: of its run.
        repeats: the trial whose setting it repeats with another seed; None for one of the search.
        scores: by their place in the run.
        state: see there.
        why: it has that state.
        host: where it ran last.
    """

    number: int
    point: Point
    seed: int
    repeats: int | None = None
    scores: dict[int, Scored] = field(default_factory=dict)
    state: State = "waiting"
    why: str = ""
    host: str = ""

    @property
    def name(self) -> str:
        """What it is called, and its run folder."""
        return f"trial-{self.number:03}"

    @property
    def last(self) -> Scored | None:
        """Its newest score."""
        return self.scores[max(self.scores)] if self.scores else None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in ("complete", "stopped", "failed")

    def first_from(self, samples_seen: int) -> Scored | None:
        """Return the first score at this place or after it."""
        places = [place for place in self.scores if place >= samples_seen]
        return self.scores[min(places)] if places else None


class Journal:
    """Appends events, and knows the trials that they tell of.

    Args:
        folder: of the sweep.

    Attributes:
        trials: by number.
        generations: what PBT decided, oldest first.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self.trials: dict[int, Trial] = {}
        self.generations: list[Event] = []
        for event in read_events(folder):
            self._take(event)
        if self._path.is_file() and not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")  # a crash cut the last line off

    def write(self, event: str, **facts: Any) -> None:
        """Add an event, flushed to disk before anybody acts on it."""
        record = {"event": event, "time_ms": int(time.time() * 1000), **facts}
        with self._path.open("ab", buffering=0) as file:
            file.write((json.dumps(record) + "\n").encode())
            os.fsync(file.fileno())
        self._take(record)

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "trial":
                self.trials[event["number"]] = Trial(event["number"], event["point"], event["seed"], event["repeats"])
            case "start":
                trial = self.trials[event["number"]]
                trial.state, trial.host = "running", event["host"]
            case "score":
                scored = Scored(event["samples_seen"], event["value"], event["error"], event["img_per_s"])
                self.trials[event["number"]].scores[scored.samples_seen] = scored
            case "end":
                trial = self.trials[event["number"]]
                trial.state, trial.why = event["state"], event["why"]
            case "generation":
                self.generations.append(event)
                for move in event["moves"]:
                    self.trials[move["number"]].point = move["point"]


def read_events(folder: Path) -> Iterator[Event]:
    """Iterate over the events of a sweep, oldest first; a line that a crash cut off is passed over."""
    path = folder / FILE_NAME
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the keys in which two points differ, with both values."""
    keys = sorted(before.keys() | after.keys())
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}
