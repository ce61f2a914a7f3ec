"""Put the scores of two evaluations side by side, if they follow the same protocol."""

import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from bigtrain.evaluation.protocol import ProtocolError, Score, pair_up
from bigtrain.tracking.spool import FILE_NAME, WATCH_NAME, read_records


def read_scores(path: Path) -> dict[str, Score]:
    """Return the scores in a JSON file of `bigtrain evaluate --json`, a snapshot folder, or, the newest, a run folder.

    Raises:
        ProtocolError: it holds none, or is something else.
    """
    if (path / FILE_NAME).is_file():
        found = {
            record["key"]: (record["samples_seen"], record["score"])
            for name in (FILE_NAME, WATCH_NAME)
            for record, _ in read_records(path / name, kinds=("score",))
        }
        documents = {name: score for name, (_, score) in found.items()}
    else:
        documents = _read_json(path)
    if not documents:
        raise ProtocolError(
            f"{path}: contains no scores with their protocols; make some with: bigtrain evaluate --json"
        )
    try:
        return {name: Score.from_json(document) for name, document in documents.items()}
    except ProtocolError as error:
        raise ProtocolError(f"{path}: {error}") from None


def compare(one: Path, other: Path) -> Table:
    """Return a table of the scores that two evaluations have both: their values, and below them the verdict.

    Raises:
        ProtocolError: they cannot be compared; it says what differs.
    """
    table = Table(title=f"first:  {one}\nsecond: {other}", title_justify="left", box=None, pad_edge=False)
    table.add_column("score", overflow="fold")
    for heading in ("first", "second", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, ours, theirs in pair_up(read_scores(one), read_scores(other)):
        values = [
            f"{score.value:.5g}" + (f" ± {1.96 * score.error:.2g}" if score.noise else "") for score in (ours, theirs)
        ]
        difference = theirs.value - ours.value
        table.add_row(name.removeprefix("eval/"), *values, f"{difference:+.3g}")
        table.add_row(f"  {_verdict(ours, theirs)}", "protocol", ours.protocol.stamp, "")
    return table


def compare_as_json(one: Path, other: Path) -> dict[str, dict[str, Any]]:
    """Return what `compare` shows, by the score's name: both values, their difference and the verdict.

    Raises:
        ProtocolError: they cannot be compared; it says what differs.
    """
    return {
        name: {
            "first": ours.value,
            "second": theirs.value,
            "difference": theirs.value - ours.value,
            "verdict": _verdict(ours, theirs),
            "protocol": ours.protocol.stamp,
        }
        for name, ours, theirs in pair_up(read_scores(one), read_scores(other))
    }


def _verdict(ours: Score, theirs: Score) -> str:
    if not ours.noise or not theirs.noise:
        return "noise not known" if ours.value != theirs.value else "equal"
    if theirs.beats(ours):
        return "second is better"
    if ours.beats(theirs):
        return "first is better"
    return f"within the noise (± {1.96 * math.hypot(ours.error, theirs.error):.2g})"


def _read_json(path: Path) -> dict[str, dict[str, object]]:
    file = path / "snapshot.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ProtocolError(f"{path}: neither scores nor a run nor a snapshot ({error})") from None
    if isinstance(document, dict):  # of `bigtrain evaluate --json`, the scores are all there is
        document = document.get("scores", {} if path.is_dir() else document)
    if not isinstance(document, dict):
        raise ProtocolError(f"{path}: not the JSON of: bigtrain evaluate --json")
    return document
