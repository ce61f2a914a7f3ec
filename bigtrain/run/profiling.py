"""Where a run's wall time goes: a timeline for Chrome's trace viewer, the operators of some steps, and a table."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from bigtrain.core.logging import console, log
from bigtrain.distributed.init import Ranks

FIRST, COUNT = 16, 3
"""The steps whose operators are recorded; lazy terms are due in the first of them, with the usual interval of 16."""

P = ParamSpec("P")
T = TypeVar("T")


class Span(NamedTuple):
    """Something that took time, in seconds since the run began.

    Attributes:
        path: the names of the spans that it lies in, and its own.
    """

    path: tuple[str, ...]
    began: float
    ended: float


@dataclass(frozen=True)
class Row:
    """All spans of one name within spans of one name.

    Attributes:
        depth: how many spans they lie in.
        seconds: together.
        share: of the run's wall time.
    """

    name: str
    depth: int
    count: int
    seconds: float
    share: float


class Profiler:
    """Takes the time of a run's parts; without effect unless active.

    A GPU works behind the host: there, spans say when the host did something, and the operators' trace what the GPU
    did.

    Args:
        folder: the run folder; it gets a folder `profile`.
        ranks: this process's place; every rank has a timeline, rank 0 a table.
        active: whether to.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, active: bool) -> None:
        self._folder, self._ranks, self.active = folder / "profile", ranks, active
        self._start = time.perf_counter()
        self._spans: list[Span] = []
        self._path: tuple[str, ...] = ()
        self._steps = 0
        self._recorder: profile | None = None

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Take the time of what is done inside."""
        return self._span(name) if self.active else nullcontext()

    def step(self) -> None:
        """Take note that a step begins: some steps have their operators recorded."""
        if not self.active:
            return
        if self._steps == FIRST:
            kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (self._ranks.device.type == "cuda")]
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports that there is no GPU as an error
            self._recorder = profile(activities=kinds)
            self._recorder.start()
        elif self._steps == FIRST + COUNT:
            with self.span("profile"), contextlib.suppress(OSError):
                self._stop_recording()
        self._steps += 1

    def rows(self) -> list[Row]:
        """Add the spans up by their paths, each after what it lies in, otherwise in the order of their first."""
        whole = time.perf_counter() - self._start
        spans: dict[tuple[str, ...], list[Span]] = {}
        for span in sorted(self._spans, key=lambda span: span.began):
            spans.setdefault(span.path, []).append(span)
        first = {path: found[0].began for path, found in spans.items()}
        in_order = sorted(spans, key=lambda path: [first.get(path[: depth + 1], 0.0) for depth in range(len(path))])
        rows = []
        for path in in_order:
            seconds = sum(span.ended - span.began for span in spans[path])
            rows.append(Row(path[-1], len(path) - 1, len(spans[path]), seconds, seconds / whole))
        return rows

    def write(self) -> list[Path]:
        """Write what was found, and show the table; return the files of this rank, none where the disk is full."""
        if not self.active:
            return []
        if self._ranks.rank == 0:
            console.print(profile_table(self.rows()))
        try:
            return self._write()
        except OSError as error:  # it costs a profile, not the run
            log.warning("%s: cannot be written (%s)", self._folder, error)
            return []

    def _write(self) -> list[Path]:
        self._stop_recording()
        self._folder.mkdir(parents=True, exist_ok=True)
        timeline = self._folder / f"timeline-rank{self._ranks.rank}.json"
        timeline.write_text(json.dumps({"traceEvents": [self._event(span) for span in self._spans]}), encoding="utf-8")
        if self._ranks.rank:
            return [timeline]
        table = self._folder / "table.json"
        table.write_text(json.dumps([row.__dict__ for row in self.rows()], indent=1), encoding="utf-8")
        return [table, *sorted(self._folder.glob("*-rank0.*"))]

    @contextmanager
    def _span(self, name: str) -> Iterator[None]:
        outside, began = self._path, time.perf_counter() - self._start
        self._path = (*outside, name)
        try:
            with record_function(name):
                yield
        finally:
            self._spans.append(Span(self._path, began, time.perf_counter() - self._start))
            self._path = outside

    def _stop_recording(self) -> None:
        if self._recorder is None:
            return
        recorder, self._recorder = self._recorder, None
        recorder.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        recorder.export_chrome_trace(str(self._folder / f"operators-rank{self._ranks.rank}.json.gz"))
        if self._ranks.rank == 0:
            sort_by = "self_cuda_time_total" if self._ranks.device.type == "cuda" else "self_cpu_time_total"
            summary = recorder.key_averages().table(sort_by=sort_by, row_limit=40)
            (self._folder / "operators-rank0.txt").write_text(summary, encoding="utf-8")

    def _event(self, span: Span) -> dict[str, object]:
        place = {"pid": self._ranks.rank, "tid": 0, "ph": "X"}
        return {"name": span.path[-1], "ts": 1e6 * span.began, "dur": 1e6 * (span.ended - span.began), **place}


def profile_table(rows: list[Row]) -> Table:
    """Show where the wall time went; what lies in something else is indented."""
    table = Table("where", "times", "s", "ms each", "share of the run")
    for row in rows:
        each = 1000 * row.seconds / row.count
        table.add_row(
            "  " * row.depth + row.name, str(row.count), f"{row.seconds:.1f}", f"{each:.1f}", f"{row.share:.1%}"
        )
    rest = 1 - sum(row.share for row in rows if row.depth == 0)
    table.add_row("the rest", "", "", "", f"{rest:.1%}")
    return table
