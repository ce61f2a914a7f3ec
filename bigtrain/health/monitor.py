"""The interface of a monitor, which derives the level of one symptom from the latest readings of a run.

A reading is a number by its name: a logged metric (`logits/real_mean`), or something that a probe measured
(`features/diversity`). Where a run has several discriminators or outputs, the name of each reading of one ends with it
(`logits/real_mean/D_A`, `features/diversity/A.image`), and each is assessed apart. Readings are equal on all ranks, and
a monitor is a pure function of the last few of them: so are its findings.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple

Readings = Mapping[str, float]
History = Sequence[Readings]
"""Readings of a monitor, oldest first."""


class Level(IntEnum):
    """How bad it is."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


class Finding(NamedTuple):
    """What a monitor found: how bad, and the numbers that say so."""

    level: Level
    evidence: str


class Monitor(ABC):
    """Watches for one symptom.

    Attributes:
        symptom: its name in metrics and reports.
        advice: what usually helps.
        reads: names of the readings that it needs; `prefix/*` stands for all that begin so.
        least: readings that it needs before it says anything, so that the first steps of a run raise no alarm.
        window: readings that it remembers.
        collapse: whether training cannot recover from it by itself, so that a critical finding calls for action.
    """

    symptom: ClassVar[str]
    advice: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    least: ClassVar[int] = 1
    window: ClassVar[int] = 1
    collapse: ClassVar[bool] = False

    def select(self, readings: Readings) -> dict[str, dict[str, float]]:
        """Return the readings that this monitor looks at, by the network or output that they are of.

        A reading without such a name is `""`, or goes with those of each; what has not all readings is left out.
        """
        shared: dict[str, float] = {}
        own: dict[str, dict[str, float]] = {}
        for name in self.reads:
            if name.endswith("*"):
                shared |= {key: value for key, value in readings.items() if key.startswith(name[:-1])}
            elif name in readings:
                shared[name] = readings[name]
            for key, value in readings.items():
                if key.startswith(f"{name}/"):
                    own.setdefault(key.removeprefix(f"{name}/"), {})[name] = value
        found = {part: {**shared, **mine} for part, mine in (own or {"": {}}).items()}
        return {part: mine for part, mine in found.items() if all(_holds(mine, name) for name in self.reads)}

    @abstractmethod
    def assess(self, history: History) -> Finding:
        """Return the level of the symptom from the last `least` to `window` selections."""


def _holds(readings: Readings, name: str) -> bool:
    return any(key.startswith(name[:-1]) for key in readings) if name.endswith("*") else name in readings


def grade(value: float, *, warning: float, critical: float) -> Level:
    """Return the level of a number that is bad when it is large; one that is not a number is critical."""
    if math.isnan(value) or value >= critical:
        return Level.CRITICAL
    return Level.WARNING if value >= warning else Level.OK


def column(history: History, name: str) -> list[float]:
    """Return one reading's values over time."""
    return [readings[name] for readings in history]


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
