"""What went wrong while reading: said once, counted, and handed on."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_pipelines.secrets import hide_secrets

log = logging.getLogger("data_pipelines")


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file of a dataset.

    Attributes:
        file: its name in the manifest.
        problem: in words.
        row: of the sample that is damaged; None where it is the whole file.
    """

    file: str
    problem: str
    row: int | None = None

    def __str__(self) -> str:
        """Return a line for a person."""
        return f"{self.file}: {self.problem}" if self.row is None else f"{self.file}: sample {self.row}: {self.problem}"


@dataclass(frozen=True)
class FaultReport:
    """What happened since the last report.

    Attributes:
        replaced: samples that others stood in for.
        retries: fetches that were tried again.
        quarantined: faults that had not been met before.
    """

    replaced: int = 0
    retries: int = 0
    quarantined: tuple[Fault, ...] = ()


class FaultLog:
    """Counts faults, and says each one once in the log; threads may share it.

    Args:
        file: where damaged files and samples are listed too, a line of JSON each; processes may share it.
        stream: put before the names of files, where several streams may have files of one name.

    Attributes:
        replaced: samples that others stood in for, since the start.
        retries: fetches that were tried again.
        quarantined: every fault that was met.
    """

    def __init__(self, file: Path | None = None, stream: str = "") -> None:
        self._file, self._stream = file, stream
        self.replaced = self.retries = 0
        self.quarantined: list[Fault] = []
        self._known: set[tuple[str, int | None]] = set()
        self._reported = FaultReport()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def quarantine(self, fault: Fault) -> None:
        """Remember and say that something is damaged."""
        if self._stream:
            fault = replace(fault, file=f"{self._stream}: {fault.file}")
        with self._lock:
            if (fault.file, fault.row) in self._known:
                return
            self._known.add((fault.file, fault.row))
            self.quarantined.append(fault)
        log.warning("damaged: %s", fault)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                shown = replace(fault, file=hide_secrets(fault.file), problem=hide_secrets(fault.problem))
                file.write(json.dumps(asdict(shown)) + "\n")

    def replace(self) -> None:
        """Count a sample that another one stands in for."""
        with self._lock:
            self.replaced += 1

    def retry(self, url: str, problem: str, wait_s: float) -> None:
        """Count and say that a fetch is tried again."""
        with self._lock:
            self.retries += 1
        log.warning("%s: %s; trying again in %.1f s", url, problem.removeprefix(f"{url}: "), wait_s)

    def wait(self, seconds: float) -> bool:
        """Wait before a fetch is tried again; return whether nobody wants it any more, which ends the wait."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """End all waits: threads that ask a dead server again would go on for minutes after their stream was closed."""
        self._closed.set()

    def report(self) -> FaultReport:
        """Return what happened since the last call."""
        with self._lock:
            now = FaultReport(self.replaced, self.retries, tuple(self.quarantined))
            before, self._reported = self._reported, now
        return FaultReport(
            now.replaced - before.replaced, now.retries - before.retries, now.quarantined[len(before.quarantined) :]
        )

    def add(self, report: FaultReport) -> None:
        """Take over what another process met; it has said nothing of it."""
        for fault in report.quarantined:
            self.quarantine(fault)
        with self._lock:
            self.replaced += report.replaced
            self.retries += report.retries


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing in the log: for processes whose faults another one reports."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
