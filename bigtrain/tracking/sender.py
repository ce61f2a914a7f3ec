"""The process that copies a run's spools to MLflow: `python -m bigtrain.tracking.sender RUN [--follow PID]`.

It reads each spool from where it last stopped, so it can be killed at any time and run again. Nothing that happens to
it or to the server reaches the training process.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bigtrain.core import collector
from bigtrain.core.presence import is_held
from bigtrain.tracking.refusals import RefusedError, why_refused
from bigtrain.tracking.sent import SentState, is_alive, only_sender
from bigtrain.tracking.spool import FILE_KINDS, FILE_NAME, OTHER_SPOOLS, Record, read_records
from data_pipelines.files import confined
from data_pipelines.secrets import hide_secrets, print_line

Piece = tuple[list[Record], dict[str, int]]
"""Records that are sent at once, and the offsets after them, by spool."""

if TYPE_CHECKING:
    from bigtrain.tracking.mlflow import MlflowRun, Target

_POLL_SECONDS, _RETRY_SECONDS, _LOG_SECONDS = 1.0, 15.0, 60.0
_CHUNK = 500
"""Records that are sent between two notes of how far it is."""
_FILES = "#files"
"""What stands behind a spool's name where it says how many of its files were sent."""
_LONGEST_TIMEOUT = 60
"""Seconds that a call to a slow server may take, after shorter ones have failed."""


def send_run(folder: Path, *, uri: str | None = None, follow: int | None = None) -> bool:
    """Send everything in the spools of `folder`.

    Args:
        folder: the run folder.
        uri: the server; None for the run's own, the one used before, or the default.
        follow: go on until this process has ended and all is sent; None to send what is there and return.

    Returns:
        Whether all was sent.
    """
    with only_sender(folder, wait=follow is not None) as alone:
        if not alone:
            print_line(f"{folder}: the training that runs there is sending its records; nothing is left to do")
            return False
        return Sender(folder, uri, follow).run()


class Sender:
    """Copies the spools of a run to one server; see `send_run` for the arguments."""

    def __init__(self, folder: Path, uri: str | None, follow: int | None) -> None:
        self._folder, self._spool, self._asked, self._follow = folder, folder / FILE_NAME, uri, follow
        self._state = SentState(folder)
        self._run: MlflowRun | None = None
        self._warned = False
        self._logs: dict[Path, int] = {}
        self._outside: set[str] = set()
        self._told: set[str] = set()
        self._logs_sent = 0.0

    def run(self) -> bool:
        """Send, until the process that is followed has ended and all is sent."""
        if self._follow is None and (server := self._unexpected_server()):
            print_line(f"{self._folder} names {server} as its tracking server, and may come from somebody else:")
            print_line(f"if you trust it: bigtrain sync {self._folder} --uri {server}")
            return False
        with collector.paused():  # it takes seconds to import
            from bigtrain.tracking.mlflow import RunDeletedError, describe_failure

        failures = 0
        while True:
            gone = self._follow is not None and not is_alive(self._follow)
            ended = _has_ended(self._spool)
            last = gone or ended or self._follow is None
            if last:
                _hurry()
            try:
                self._send_all()
                self._send_logs(now=last)
                if last and not ended:
                    self._fail()
                if last:
                    return True
            except RunDeletedError as error:
                print_line(f"the run {error} was deleted in MLflow; after `mlflow runs restore --run-id {error}`,")
                print_line(f"this sends the rest: bigtrain sync {self._folder}")
                return False
            except RefusedError as error:
                self._report_refusal(str(error))
                return False
            except Exception as error:  # whatever MLflow, its server, its database or the disk raise, training goes on
                if self._run is None and (why := why_refused(error, self._find_target().uri)):
                    self._report_refusal(why)
                    return False
                failures += 1
                if failures > 1:  # one may be a hiccup: two runs that make the same thing in one moment
                    self._warn(describe_failure(error))
                    awaited = self._run is not None and self._follow is not None and not gone
                    if last and not awaited:  # who waits for this one ends it in time
                        return False
                time.sleep(_POLL_SECONDS if failures == 1 else _RETRY_SECONDS)
            else:
                failures = 0
                time.sleep(_POLL_SECONDS)

    def _send_all(self) -> None:
        """Send what was not sent, noting after each piece how far it is: files last, for a store may not take them.

        Metrics are kept in a database, files in a store of artifacts; either may fail for days while the other works.
        """
        if self._run is None:
            if not self._starts():
                return  # nothing to make a run of
            self._connect()
        spools = [self._spool, *sorted(self._folder.glob(OTHER_SPOOLS))]
        names = {str(path.relative_to(self._folder)): path for path in spools}
        names = {name: path for name, path in names.items() if self._is_inside(name)}
        offsets = self._sent.offsets
        for name in names:  # earlier versions sent all in one order
            offsets.setdefault(name + _FILES, offsets.get(name, 0))
        self._send_pieces(_numbers(names, offsets))
        seen = dict(offsets)
        for name, path in names.items():
            self._send_pieces(_files(path, name + _FILES, offsets[name + _FILES]))
            offsets[name + _FILES] = max(seen.get(name, 0), offsets[name + _FILES])
        if offsets != seen:
            self._state.save(self._target.uri, self._sent)

    def _send_pieces(self, pieces: Iterator[Piece]) -> None:
        noted = 0.0
        for records, offsets in pieces:
            for left_out in self._send(records):
                self._say_once(left_out)
            self._sent.offsets.update(offsets)
            # A picture that is sent again takes its own place: of many, not each is noted.
            if records[0]["kind"] != "image" or time.monotonic() > noted + _POLL_SECONDS:
                self._state.save(self._target.uri, self._sent)
                noted = time.monotonic()

    def _send(self, records: list[Record]) -> list[str]:
        assert self._run is not None
        return self._run.send_metrics(records) if records[0]["kind"] == "metrics" else self._run.send(records[0])

    def _connect(self) -> None:
        """Find the run on the server, or make it."""
        from bigtrain.tracking.mlflow import MlflowRun

        self._target = self._find_target()
        self._sent = self._state.at(self._target.uri)
        run = MlflowRun(self._target, self._folder, self._sent.run_id)
        if run.is_new:
            self._sent.offsets = {}
        self._sent.run_id, self._sent.experiment = run.run_id, self._target.experiment
        self._sent.experiment_id = run.experiment_id
        self._state.save(self._target.uri, self._sent)
        self._run = run

    def _find_target(self) -> "Target":
        """Tell where the run is kept: as its newest start says, or as before, or as the environment says."""
        from bigtrain.tracking.mlflow import Target

        starts = self._starts()
        first, mlflow_settings = starts[0], starts[-1]["mlflow"]
        environment = os.environ.get("MLFLOW_TRACKING_URI")
        uri = self._asked or mlflow_settings["uri"] or self._state.uri or environment
        if environment and uri == hide_secrets(environment):
            uri = environment
        return Target(
            uri=uri or self._usual_database(),
            experiment=mlflow_settings["experiment"],
            name=mlflow_settings["name"],
            parent=mlflow_settings["parent"],
            key=hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()[:32],
            started_ms=first["time_ms"],
        )

    def _unexpected_server(self) -> str | None:
        """Return the server that the run folder names and the user does not: a stranger may have chosen it."""
        if self._asked or not self._starts():
            return None
        uri = self._starts()[-1]["mlflow"]["uri"] or self._state.uri
        expected = [hide_secrets(os.environ.get("MLFLOW_TRACKING_URI") or ""), self._usual_database()]
        return None if uri is None or uri in expected else str(uri)

    def _usual_database(self) -> str:
        return f"sqlite:///{self._folder.resolve().parent / 'mlflow.db'}"

    def _send_logs(self, *, now: bool) -> None:
        """Send logs that are twice as long as when they were sent last, once a minute; or now, all that have grown.

        MLflow takes whole files only: sent each minute, the log of a month would be sent 40,000 times.
        """
        if self._run is None or not (now or time.monotonic() > self._logs_sent + _LOG_SECONDS):
            return
        for path in sorted((self._folder / "logs").glob("*.log")):
            if not self._is_inside(f"logs/{path.name}"):
                continue
            size = path.stat().st_size
            sent = self._logs.get(path, 0)
            if size >= 2 * sent > 0 or (size != sent and (now or not sent)):
                if why := self._run.send_log(path):
                    self._say_once(f"{path}: {why}")
                self._logs[path] = size
        self._logs_sent = time.monotonic()

    def _is_inside(self, name: str) -> bool:
        """Tell whether a file of the run folder is no link out of it, which a stranger's run may hold; else say so."""
        try:
            confined(self._folder, name)
        except ValueError as error:
            if name not in self._outside:
                self._outside.add(name)
                print_line(f"not sent to MLflow: {error}")
            return False
        return True

    def _say_once(self, left_out: str) -> None:
        """Say what MLflow does not get, and why: the first of each reason, for all pictures of a run may share one."""
        what, _, why = left_out.partition(": ")
        if why not in self._told:
            self._told.add(why)
            print_line(f"not sent to MLflow: {what}, and all else that it rejects for this reason: {why}")

    def _fail(self) -> None:
        """Say that the run has ended without a word, if it has."""
        if self._run is not None and not is_held(self._folder):
            self._run.fail(int(self._spool.stat().st_mtime * 1000))

    def _starts(self) -> list[Record]:
        return [record for record, _ in read_records(self._spool, kinds=("start",))]

    def _warn(self, why: str) -> None:
        """Say once that MLflow does not answer, and be more patient with it from then on."""
        timeout = int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(min(2 * timeout, _LONGEST_TIMEOUT))
        if not self._warned:
            self._warned = True
            goes_on = "training continues, " if self._follow is not None else ""
            print_line(f"MLflow at {self._find_target().uri} does not answer ({why}): {goes_on}everything is")
            print_line(f"kept in {self._spool}; send it later with: bigtrain sync {self._folder}")

    def _report_refusal(self, why: str) -> None:
        """Say once that MLflow will never take the run so, and what mends it."""
        goes_on = "training continues, and " if self._follow is not None else ""
        print_line(f"MLflow at {self._find_target().uri} rejects the run: {why}")
        print_line(
            f"{goes_on}everything is kept in {self._spool}; afterwards, send it with: bigtrain sync {self._folder}"
        )


def _numbers(spools: Mapping[str, Path], offsets: Mapping[str, int]) -> Iterator[Piece]:
    """Iterate over all spools' records without files: metrics in heaps, for a job has a spool a node; others singly."""
    heap: list[Record] = []
    after: dict[str, int] = {}
    for name, path in spools.items():
        for record, offset in read_records(path, offsets.get(name, 0)):
            if record["kind"] in FILE_KINDS:
                continue
            if heap and (record["kind"] != "metrics" or len(heap) == _CHUNK):
                yield heap, after
                heap, after = [], {}
            if record["kind"] == "metrics":
                heap.append(record)
                after[name] = offset
            else:
                yield [record], {name: offset}
    if heap:
        yield heap, after


def _files(path: Path, name: str, offset: int) -> Iterator[Piece]:
    """Iterate over a spool's records that come with files."""
    for record, after in read_records(path, offset, FILE_KINDS):
        yield [record], {name: after}


def _hurry() -> None:
    """Take the usual priority again, where the system allows it: the run has ended and waits for this process."""
    with suppress(PermissionError):  # only root may
        os.setpriority(os.PRIO_PROCESS, 0, min(0, os.getpriority(os.PRIO_PROCESS, 0)))


def _has_ended(spool: Path) -> bool:
    """Tell whether a spool's last record says that the run has ended."""
    if not spool.is_file():
        return False
    with spool.open("rb") as file:
        file.seek(max(spool.stat().st_size - 1000, 0))
        lines = file.read().splitlines()
    return bool(lines) and b'"kind": "end"' in lines[-1]


def main() -> None:
    """Run the sender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--follow", type=int)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # it ends with the process that it follows, when all is sent
    os.nice(10)  # it takes what the training leaves, and is not starved where that is nothing
    sys.exit(0 if send_run(arguments.folder, follow=arguments.follow) else 1)


if __name__ == "__main__":
    collector.spare_the_end()
    main()
