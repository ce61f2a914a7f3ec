"""The curves of a run's metrics, of bounded size however long the run is, kept in a roll-up beside the spool."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.files import write_json

FILE_NAME = "metrics.rollup.json"
POINTS = 2000
"""A metric has at least half as many points, where it was reported so often; each stands for as many reports."""

Points = list[tuple[float, float]]


class Curve:
    """Points of one metric: all of the first 2,000, then every second, every fourth, and so on; and the last one.

    Args:
        points: (kimg, value), in order.
        stride: reports a point.
        behind: reports since the last point that is kept.
        last: the last report.
    """

    def __init__(
        self, points: Points | None = None, stride: int = 1, behind: int = 0, last: tuple[float, float] | None = None
    ) -> None:
        self._points, self._stride, self._behind, self.last = points or [], stride, behind, last

    def add(self, kimg: float, value: float) -> None:
        """Add a report."""
        self.last = kimg, value
        self._behind += 1
        if self._behind >= self._stride:
            self._points.append(self.last)
            self._behind = 0
        if len(self._points) > POINTS:
            self._points = self._points[1::2]
            self._stride *= 2

    def roll_back(self, kimg: float) -> None:
        """Forget what came after a place."""
        self._points = [point for point in self._points if point[0] <= kimg]
        if self.last is not None and self.last[0] > kimg:
            self.last = self._points[-1] if self._points else None

    @property
    def points(self) -> Points:
        """The points, with the last report at the end."""
        return self._points if self.last is None or self.last in self._points[-1:] else [*self._points, self.last]

    def document(self) -> list[Any]:
        """Return what JSON can hold, in the order of the arguments."""
        return [self._points, self._stride, self._behind, self.last]

    @classmethod
    def parse(cls, document: list[Any]) -> "Curve":
        """Return the curve of a document."""
        points, stride, behind, last = document
        return cls([(kimg, value) for kimg, value in points], stride, behind, tuple(last) if last else None)


class Curves:
    """All metrics of a run.

    Attributes:
        offset: bytes of the spool that they are made of.
        starts: how often the run was started, as far as that tells.
    """

    def __init__(self, curves: Mapping[str, Curve] | None = None, *, offset: int = 0, starts: int = 0) -> None:
        self._curves, self.offset, self.starts = dict(curves or {}), offset, starts

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._curves)

    def add(self, record: Mapping[str, Any], offset: int) -> None:
        """Add a record of the spool, which ends at a byte of it."""
        kimg = record["samples_seen"] / 1000
        if record["kind"] == "metrics":
            for name, value in record["metrics"].items():
                self._curves.setdefault(name, Curve()).add(kimg, value)
        if record["kind"] == "rollback":
            for curve in self._curves.values():
                curve.roll_back(kimg)
        self.starts += record["kind"] == "start"
        self.offset = offset

    def points(self) -> dict[str, Points]:
        """Return the points (kimg, value) of each metric that has some."""
        return {name: curve.points for name, curve in self._curves.items() if curve.points}

    def save(self, folder: Path) -> None:
        """Write the roll-up of a run."""
        curves = {name: curve.document() for name, curve in self._curves.items()}
        write_json(folder / FILE_NAME, {"offset": self.offset, "starts": self.starts, "curves": curves})

    @classmethod
    def load(cls, folder: Path, spool: Path) -> "Curves":
        """Read the roll-up of a run; empty where there is none that fits its spool."""
        try:
            document = json.loads((folder / FILE_NAME).read_bytes())
            curves = {name: Curve.parse(one) for name, one in document["curves"].items()}
            found = cls(curves, offset=int(document["offset"]), starts=int(document["starts"]))
            return found if found.offset <= spool.stat().st_size else cls()
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
