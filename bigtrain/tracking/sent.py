"""How much of a run has been sent where: `mlflow.json` in the run folder."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bigtrain.core.presence import NO_LOCKS
from data_pipelines.files import write_json
from data_pipelines.secrets import hide_secrets

STATE_FILE = "mlflow.json"
_LOCK = ".mlflow.lock"


@dataclass
class Sent:
    """What a server has of a run.

    Attributes:
        run_id: of the run there; None before it was made.
        experiment: its experiment's name.
        experiment_id: its experiment's number; empty before it was made.
        offsets: bytes that were sent of each spool, by its path in the run folder; with `#files` behind it, of its
            records that come with files.
    """

    run_id: str | None = None
    experiment: str = ""
    experiment_id: str = ""
    offsets: dict[str, int] = field(default_factory=dict)


class SentState:
    """Remembers for each server what it has; the one that was used last stands first.

    A secret in a server's address is not written down.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE_FILE
        document = _read(self._path)
        # Addresses are compared in the form of `hide_secrets`, in which earlier versions kept the user's name.
        self._others: dict[str, dict[str, Any]] = {
            hide_secrets(uri): known for uri, known in document.pop("others", {}).items()
        }
        uri = document.pop("uri", None)
        self.uri: str | None = hide_secrets(uri) if uri is not None else None
        if self.uri is not None:
            self._others[self.uri] = document

    def at(self, uri: str) -> Sent:
        """Return what a server has."""
        known = self._others.get(hide_secrets(uri), {})
        return Sent(**{name: known[name] for name in vars(Sent()) if name in known})

    def page(self) -> str | None:
        """Return the address of the run's page, opened among trained models; None where no server runs."""
        sent = self.at(self.uri) if self.uri is not None and self.uri.startswith("http") else Sent()
        if not sent.experiment_id:
            return None
        return f"{self.uri}/#/experiments/{sent.experiment_id}/runs/{sent.run_id}?workflowType=machine_learning"

    def save(self, uri: str, sent: Sent) -> None:
        """Write down what a server has."""
        self.uri = hide_secrets(uri)
        self._others[self.uri] = vars(sent)
        others = {other: known for other, known in self._others.items() if other != self.uri}
        write_json(self._path, {"uri": self.uri, **vars(sent), "others": others})


@contextmanager
def only_sender(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the right to send a run: two senders at once would send things twice.

    Args:
        folder: the run folder.
        wait: for a sender that is at work to end.

    Yields:
        Whether it was got; always, on a file system that knows no locks.
    """
    with (folder / _LOCK).open("w") as lock:
        alone = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            alone = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield alone


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine runs; one that has ended and that nobody has asked after does not."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Read the file; one that is damaged counts as none: the run is found again by its tag, and sent anew."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document
