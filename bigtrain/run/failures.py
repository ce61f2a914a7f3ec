"""Failures of ranks: one file per rank in the run folder, and which of them was the cause."""

import json
import socket
import time
import traceback
from pathlib import Path
from typing import Any

from data_pipelines.files import write_json
from data_pipelines.secrets import hide_secrets

FOLDER = "failures"
_LOST = (
    *("DistBackendError", "DistNetworkError", "DistStoreError", "gloo/transport", "NCCL error", "NCCL communicator"),
    *("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe"),
    *("Socket Timeout", "Timed out waiting"),
)
"""What a rank says that lost another one: an effect, not the cause."""


def note_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Write down what a rank fails of; a disk that is full, or a folder that is not there, is no second failure."""
    text = hide_secrets(f"{type(error).__name__}: {error}")
    report = {
        "rank": rank,
        "host": socket.gethostname(),
        "time": time.time(),
        "error": text,
        "lost": any(sign in text for sign in _LOST),  # the batch script requeues a job whose ranks lost each other
        "traceback": hide_secrets("".join(traceback.format_exception(error))),
    }
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        write_json(folder / FOLDER / f"rank-{rank}.json", report)
    except OSError:
        return


def forget_failures(folder: Path) -> None:
    """Take back what was noted: the run is started again."""
    for path in (folder / FOLDER).glob("rank-*.json"):
        path.unlink(missing_ok=True)


def cause_of_failure(folder: Path, *, world_size: int) -> dict[str, Any] | None:
    """Return what the ranks failed of since the last start, or None if none has.

    The first rank to fail of something of its own is the cause; the others lost it. If all only lost another, it is
    one that left no word.

    Returns:
        `rank` (None where it is not known), `host`, `error` and `traceback`.
    """
    reports = [json.loads(path.read_text()) for path in (folder / FOLDER).glob("rank-*.json")]
    if not reports:
        return None
    reports.sort(key=lambda report: report["time"])
    own = [report for report in reports if not report["lost"]]
    if own:
        return {key: own[0][key] for key in ("rank", "host", "error", "traceback")}
    silent = sorted(set(range(world_size)) - {report["rank"] for report in reports})
    first = reports[0]
    if silent:
        who = " and ".join(map(str, silent))
        error = (
            f"rank {who} recorded no error (it was killed, or its node failed); rank {first['rank']}: {first['error']}"
        )
        return {"rank": silent[0], "host": "", "error": error, "traceback": first["traceback"]}
    error = f"all ranks lost their connections: check the network; rank {first['rank']}: {first['error']}"
    return {"rank": None, "host": first["host"], "error": error, "traceback": first["traceback"]}
