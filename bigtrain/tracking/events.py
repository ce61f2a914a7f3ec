"""What happened to a run, one JSON object a line in `events.jsonl`: starts, stops, faults, and what was done then.

The ranks and whoever restarts them append to it, so that it tells the whole story, where `metrics.jsonl` tells that of
the training.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE_NAME = "events.jsonl"

Event = dict[str, Any]
"""`time` (UTC, ISO 8601), `event`, `kimg` where it has a place in the run, and facts."""


class EventLog:
    """Appends to a run's event log; several processes may.

    Args:
        folder: the run folder, which must be there when something is appended.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def append(self, event: str, *, kimg: float | None = None, **facts: Any) -> None:
        """Add a line."""
        place = {} if kimg is None else {"kimg": kimg}
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **place, **facts}
        line = (json.dumps(record) + "\n").encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line)  # in one piece, whoever else is writing
        finally:
            os.close(file)


def read_events(folder: Path) -> list[Event]:
    """Return all events of a run, oldest first; a line that a crash left unfinished is passed over."""
    return events_from(folder, 0)[0]


def events_from(folder: Path, offset: int) -> tuple[list[Event], int]:
    """Return the events from byte `offset` of the log on, and the offset after them."""
    path = folder / FILE_NAME
    if not path.is_file():
        return [], offset
    events = []
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") and offset:
                break  # somebody is writing it
            offset += len(line)
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
    return events, offset
