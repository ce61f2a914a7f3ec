"""The event log of a sweep: a file with one JSON object a line for each decision. A resume reads it from the start."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bigtrain.core import former_names
from bigtrain.sweep.metric import Direction, TrialScore
from bigtrain.sweep.space import Point

FILE_NAME = "events.jsonl"

State = Literal["waiting", "running", "complete", "stopped", "failed"]
"""State of a trial. `stopped`: ended early by the scheduler; `failed`: failed more often than it is retried, or its
training collapsed."""

Event = dict[str, Any]


@dataclass
class Trial:
    """A trial and its scores so far.

    Attributes:
        number: trials are numbered from 0, which is the base config.
        point: values that the trial changes in the base config; PBT changes them during training.
        seed: seed of the run.
        repeats: number of the trial whose values this trial repeats with another seed; None for a trial of the search.
        scores: scores by the number of images seen.
        state: current state.
        why: reason for the state; empty if there is none.
        host: host on which the trial ran last.
    """

    number: int
    point: Point
    seed: int
    repeats: int | None = None
    scores: dict[int, TrialScore] = field(default_factory=dict)
    state: State = "waiting"
    why: str = ""
    host: str = ""

    @property
    def name(self) -> str:
        """Name of the trial and of its run folder."""
        return f"trial-{self.number:03}"

    @property
    def last(self) -> TrialScore | None:
        """The newest score."""
        return self.scores[max(self.scores)] if self.scores else None

    @property
    def ended(self) -> bool:
        """Whether the trial is complete, stopped or failed."""
        return self.state in ("complete", "stopped", "failed")


class SweepEventLog:
    """Appends events to the log of a sweep, and keeps the trials that follow from them.

    Args:
        folder: folder of the sweep.
        observe: called with each event, beginning with those that are in the log.

    Attributes:
        trials: all trials, by number.
        direction: whether the metric is minimised or maximised; minimised until the first score is known.
        generations: the decisions of PBT, oldest first.
    """

    def __init__(self, folder: Path, observe: Callable[[Event], None] = lambda event: None) -> None:
        self._path, self._observe = event_file(folder), observe
        self.trials: dict[int, Trial] = {}
        self.generations: list[Event] = []
        self.direction = Direction()
        for event in read_events(folder):
            self._apply(event)
        if self._path.is_file() and not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")  # a crash cut the last line off

    def write(self, event: str, **facts: Any) -> None:
        """Append an event; it is on disk when this returns, so that no decision is acted on before it is recorded."""
        line = json.dumps({"event": event, "time_ms": int(time.time() * 1000), **facts})
        with self._path.open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())
            os.fsync(file.fileno())
        self._apply(json.loads(line))

    def _apply(self, event: Event) -> None:
        match event["event"]:
            case "trial":
                self.trials[event["number"]] = Trial(event["number"], event["point"], event["seed"], event["repeats"])
            case "start":
                trial = self.trials[event["number"]]
                trial.state, trial.host = "running", event["host"]
            case "score":
                score = TrialScore(event["samples_seen"], event["value"], event["error"], event["img_per_s"])
                self.trials[event["number"]].scores[score.samples_seen] = score
                self.direction = Direction(maximize=event["higher_is_better"])
            case "end":
                trial = self.trials[event["number"]]
                trial.state, trial.why = event["state"], event["why"]
            case "generation":
                self.generations.append(event)
                for move in event["moves"]:
                    self.trials[move["number"]].point = move["point"]
        self._observe(event)


def event_file(folder: Path) -> Path:
    """Return the event log's file in a sweep's folder, which need not exist."""
    former = folder / former_names.SWEEP_EVENTS
    return former if former.is_file() else folder / FILE_NAME


def read_events(folder: Path) -> Iterator[Event]:
    """Iterate over the events of a sweep, oldest first; a line that a crash cut off is skipped."""
    path = event_file(folder)
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the keys in which two points differ, each with both values."""
    keys = sorted(before.keys() | after.keys())
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}
