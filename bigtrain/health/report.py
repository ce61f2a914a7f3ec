"""The health report of a run: a JSON file in its folder, and a table on the console."""

import contextlib
import json
from pathlib import Path
from typing import Any

from rich.table import Table

from bigtrain.core.errors import UserError
from bigtrain.core.state import Progress
from bigtrain.health.health import Health
from bigtrain.health.recovery import Recovery
from data_pipelines.files import write_json

_FILE = "health.json"
_COLOURS = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}


class HealthError(UserError):
    """There is no report on a run's health."""


def write_report(folder: Path, health: Health, recovery: Recovery, progress: Progress) -> None:
    """Write the report into a run folder; on a full disk, the one before stays."""
    report = {"kimg": progress.kimg, "rollbacks": recovery.rollbacks, "symptoms": health.report()}
    with contextlib.suppress(OSError):
        write_json(folder / _FILE, report)


def read_report(folder: Path) -> dict[str, Any]:
    """Read the newest report on a run.

    Raises:
        HealthError: there is none.
    """
    if not (folder / "config.yaml").is_file():
        raise HealthError(f"{folder}: not a run folder, config.yaml is missing")
    if not (folder / _FILE).is_file():
        raise HealthError(f"{folder}: there are no health readings before the first log interval")
    report: dict[str, Any] = json.loads((folder / _FILE).read_text())
    return report


def is_critical(report: dict[str, Any]) -> bool:
    """Tell whether anything in a report is critical."""
    return any(line["state"] == "critical" for line in report["symptoms"])


def table(report: dict[str, Any]) -> Table:
    """Lay a report out, the worst first."""
    rollbacks = f", after {report['rollbacks']} rollbacks" if report["rollbacks"] else ""
    rows = Table(title=f"at kimg {report['kimg']:.1f}{rollbacks}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("symptom", "state", "first seen"):
        rows.add_column(heading, no_wrap=True)
    rows.add_column("evidence, and what usually helps", overflow="fold")
    order = ["critical", "warning", "ok", "unknown"]
    for line in sorted(report["symptoms"], key=lambda line: order.index(line["state"])):
        seen = "" if line["first_seen_kimg"] is None else f"kimg {line['first_seen_kimg']:.1f}"
        advice = f"\n→ {line['advice']}" if line["state"] in ("critical", "warning") else ""
        colour = _COLOURS[line["state"]]
        rows.add_row(line["symptom"], f"[{colour}]{line['state']}[/]", seen, line["evidence"] + advice)
    return rows
