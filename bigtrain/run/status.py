"""The status of a run, read from its folder alone, wherever the run is and whether or not it is alive."""

import json
import time
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from bigtrain.core.config import ConfigError, read_yaml
from bigtrain.core.presence import is_held, read_heartbeat, read_place
from bigtrain.run.failures import cause_of_failure
from bigtrain.run.folder import read_stopped
from bigtrain.run.goodput import BEFORE, goodput_of, in_words
from bigtrain.run.journal import faults_of
from bigtrain.tracking.events import Event, read_events
from bigtrain.tracking.sent import SentState
from bigtrain.tracking.spool import FILE_NAME, OTHER_SPOOLS, read_curves

_SILENT_SECONDS = 120.0
_SHOWN_EVENTS = 6
_COLOURS = {"running": "green", "complete": "green", "stopped": "yellow", "failed": "bold red", "silent": "bold red"}
_FOR_PROGRAMS = ("boot", "namespace", "command")
"""What tells processes of several machines and containers apart; `--json` shows it."""
Status = dict[str, Any]


def status_of(folder: Path) -> Status:
    """Gather what a run folder tells.

    Raises:
        ConfigError: it is not a run folder.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: not a run folder, config.yaml is missing")
    total = float(read_yaml(folder / "config.yaml")["total_kimg"])
    metrics, events, heartbeat = read_curves(folder), read_events(folder), read_heartbeat(folder)
    kimg = max(heartbeat.get("samples_seen", 0) / 1000, 0.0)
    state = _state(folder, kimg, total, heartbeat)
    speed = metrics["time/img_per_s"][-1][1] if "time/img_per_s" in metrics else None
    left = None
    if "time/left_s" in metrics and state == "running":
        when, seconds = metrics["time/left_s"][-1]
        left = seconds * (total - kimg) / (total - when) if when < total else 0.0
    return {
        "run": str(folder),
        "state": state,
        "kimg": kimg,
        "total_kimg": total,
        "img_per_s": speed,
        "eta_s": left,
        "scores": {name: dict(zip(("kimg", "value"), points[-1], strict=True)) for name, points in _scores(metrics)},
        "health": _health(folder),
        "failure": cause_of_failure(folder, world_size=read_place(folder).get("world_size", 1)),
        **_faults(folder, events, metrics),
        "checkpoint": max((path.name for path in (folder / "checkpoints").glob("kimg*[0-9]")), default=None),
        "where": read_place(folder),
        "heartbeat_age_s": round(time.time() - heartbeat["time"], 1) if heartbeat else None,
        "mlflow": _mlflow(folder),
        "events": events[-_SHOWN_EVENTS:],
        "goodput": goodput_of(events, heartbeat),
    }


def table(status: Status) -> Table:
    """Lay a status out for a person."""
    rows = Table(Column(no_wrap=True), Column(overflow="fold"), box=None, show_header=False, padding=(0, 2, 0, 0))
    rows.add_row("run", status["run"])
    rows.add_row("state", f"[{_COLOURS[status['state']]}]{status['state']}[/]{_since(status)}")
    share = min(100 * status["kimg"] / status["total_kimg"], 100.0)  # the last step may go beyond the end
    rows.add_row("progress", f"kimg {status['kimg']:.1f} of {status['total_kimg']:g} ({share:.0f} %)")
    if status["img_per_s"]:
        left = f", {duration(status['eta_s'])} left" if status["eta_s"] is not None else ""
        rows.add_row("speed", f"{status['img_per_s']:.1f} img/s{left}")
    if status["goodput"]:
        rows.add_row("time", f"{duration(status['goodput']['wall_s'])}, {in_words(status['goodput'])}")
    for name, score in status["scores"].items():
        rows.add_row(name.removeprefix("eval/"), f"{score['value']:.3f} at kimg {score['kimg']:.1f}")
    rows.add_row("health", ", ".join(f"{name} {state}" for name, state in status["health"].items()) or "no symptoms")
    rows.add_row("faults", _fault_counts(status))
    if failure := status["failure"]:
        rank = "" if failure["rank"] is None else f"rank {failure['rank']}"
        place = f"{rank}{' on ' * bool(rank and failure['host'])}{failure['host']}"
        rows.add_row("failed", f"[bold red]{escape(place)}: {escape(failure['error'])}[/]")
        rows.add_row("", escape(failure["traceback"].rstrip()))
    rows.add_row("checkpoint", status["checkpoint"] or "none yet")
    where = [f"{name} {value}" for name, value in status["where"].items() if name not in _FOR_PROGRAMS]
    rows.add_row("where", ", ".join(where) or "not started yet")
    if status["mlflow"]:
        unsent, page = (status["mlflow"][name] for name in ("unsent_bytes", "page"))
        run = page or f"run {status['mlflow']['run_id']}"
        rows.add_row("MLflow", run + (f", {unsent} bytes not sent yet" if unsent else ""))
    for event in status["events"]:
        rows.add_row(event["time"][:19].replace("T", " "), _event_line(event))
    return rows


def _state(folder: Path, kimg: float, total: float, heartbeat: dict[str, Any]) -> str:
    if is_held(folder):
        silent = bool(heartbeat) and time.time() - heartbeat["time"] > _SILENT_SECONDS
        return "silent" if silent else "running"
    if read_stopped(folder):
        return "stopped"
    return "complete" if kimg >= total else "failed"


def _scores(metrics: dict[str, list[tuple[float, float]]]) -> list[tuple[str, list[tuple[float, float]]]]:
    return sorted((name, points) for name, points in metrics.items() if name.startswith("eval/"))


def _health(folder: Path) -> dict[str, str]:
    """Return the symptoms that are not well, and how bad they are."""
    path = folder / "health.json"
    symptoms = json.loads(path.read_text())["symptoms"] if path.is_file() else []
    return {line["symptom"]: line["state"] for line in symptoms if line["state"] in ("warning", "critical")}


def _faults(folder: Path, events: list[Event], metrics: dict[str, list[tuple[float, float]]]) -> Status:
    kinds = [event["event"] for event in events]
    return {
        **faults_of(folder),
        "stops": kinds.count("stopped"),
        "rollbacks": kinds.count("rollback"),
        "skipped_steps": kinds.count("skipped_step"),
        "replaced_samples": sum(event["count"] for event in events if event["event"] == "replaced_sample"),
    }


def _mlflow(folder: Path) -> Status | None:
    state = SentState(folder)
    if state.uri is None:
        return None
    sent = state.at(state.uri)
    spools = [path for path in (folder / FILE_NAME, *folder.glob(OTHER_SPOOLS)) if path.is_file()]
    unsent = sum(path.stat().st_size - sent.offsets.get(str(path.relative_to(folder)), 0) for path in spools)
    return {"run_id": sent.run_id, "page": state.page(), "unsent_bytes": max(unsent, 0)}


def _since(status: Status) -> str:
    age = status["heartbeat_age_s"]
    return "" if age is None or status["state"] == "running" else f", last heartbeat {duration(age)} ago"


def _fault_counts(status: Status) -> str:
    restarts, lost = status["restarts"], status["lost_kimg"]
    counted = [f"{restarts} restart{'s' * (restarts != 1)}, {lost:g} kimg repeated"] if restarts else []
    for name in ("rollbacks", "skipped_steps", "replaced_samples"):
        counted += [f"{status[name]} {name.replace('_', ' ')}"] if status[name] else []
    return ", ".join(counted) or "none"


def _event_line(event: Event) -> str:
    facts = ", ".join(
        f"{name} {value}"
        for name, value in event.items()
        if name not in ("time", "event", "kimg", BEFORE, *_FOR_PROGRAMS)
    )
    place = f"kimg {event['kimg']:.1f} " if "kimg" in event else ""
    return f"{place}{event['event']}{': ' if facts else ''}{facts}"


def duration(seconds: float) -> str:
    """Write seconds as H:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
