"""The tables of a report: what a run came to, what it cost, what it ran on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bigtrain.report.runs import Run


class Row(NamedTuple):
    """A line of a table: what it is about, and a cell a run."""

    about: str
    cells: list[str]


def outcome(runs: Sequence[Run]) -> list[Row]:
    """Return what each run came to."""
    return _rows(
        runs,
        {
            "status": lambda run: run.status,
            "trained": lambda run: f"{run.kimg:g} of {run.total_kimg:g} kimg",
            "best score": _best,
            "last score": _last,
            "speed": lambda run: f"{speed:.0f} images/s" if (speed := _speed(run)) else "",
            "dataset": lambda run: str(run.dataset.get("name", "")),
            "health": _health,
        },
    )


def cost(runs: Sequence[Run], price: float | None) -> list[Row]:
    """Return what each run took.

    Args:
        runs: of the report.
        price: of an hour of one device, in whatever money; None if it is not known.
    """
    wanted: dict[str, Callable[[Run], str]] = {
        "begun": lambda run: f"{run.attempts[0][0]:%Y-%m-%d %H:%M} UTC" if run.attempts else "",
        "attempts": lambda run: str(len(run.attempts)),
        "time": lambda run: duration(run.hours),
        "effective time": lambda run: run.goodput,
        "devices": lambda run: str(run.devices),
        "device hours": lambda run: f"{run.hours * run.devices:.3g}",
        "images a device hour": lambda run: f"{_kimg_an_hour(run):.3g} k" if run.hours else "",
        "time to the best score": _time_to_best,
    }
    if price is not None:
        wanted["price"] = lambda run: f"{run.hours * run.devices * price:.2f}"
    return _rows(runs, wanted)


def hardware(runs: Sequence[Run]) -> list[Row]:
    """Return what each run ran on; of several attempts, the last."""
    machine = "hardware"
    return _rows(
        runs,
        {
            "host": lambda run: str(run.environment.get("host", "")),
            "GPUs": lambda run: ", ".join(run.environment.get(machine, {}).get("gpus", [])) or "none",
            "processor": lambda run: str(run.environment.get(machine, {}).get("processor") or ""),
            "cores": lambda run: str(run.environment.get("cpus", "")),
            "memory": lambda run: f"{size} GiB" if (size := run.environment.get(machine, {}).get("memory_gib")) else "",
            "platform": lambda run: str(run.environment.get("platform", "")),
            "ranks": lambda run: str(run.devices),
            "code": _code,
            "packages": lambda run: ", ".join(f"{k} {v}" for k, v in run.environment.get("packages", {}).items()),
            "command": lambda run: str(run.environment.get("command", "")),
        },
    )


def duration(hours: float) -> str:
    """Return a time in words: `3 h 12 min`."""
    minutes, seconds = divmod(round(hours * 3600), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    days, left = divmod(minutes // 60, 24)
    return f"{days} d {left} h" if days else f"{left} h {minutes % 60} min"


def _rows(runs: Sequence[Run], wanted: dict[str, Callable[[Run], str]]) -> list[Row]:
    rows = [Row(about, [tell(run) for run in runs]) for about, tell in wanted.items()]
    return [row for row in rows if any(row.cells)]


def _score(run: Run, choose: Callable[[Any], tuple[float, float]]) -> str:
    if run.score is None:
        return ""
    kimg, value = choose(run.metrics[run.score])
    return f"{value:.4g} at kimg {kimg:g} ({run.score.removeprefix('eval/')})"


def _best_point(run: Run) -> tuple[float, float] | None:
    """Return place and value of the best score; None where it is not known whether higher or lower is better."""
    if run.score is None:
        return None
    known = run.scores.get(run.score)
    if known is None and not run.score.startswith("eval/fid"):
        return None
    choose = max if known is not None and known["higher_is_better"] else min
    return choose(run.metrics[run.score], key=lambda point: point[1])


def _best(run: Run) -> str:
    best = _best_point(run)
    return _score(run, lambda points: best) if best is not None else ""


def _last(run: Run) -> str:
    return _score(run, lambda points: points[-1])


def _speed(run: Run) -> float:
    """Return the median: a pause or an evaluation does not move it."""
    values = sorted(value for _, value in run.metrics.get("time/img_per_s", []))
    return values[len(values) // 2] if values else 0.0


def _health(run: Run) -> str:
    ill = [line for line in run.symptoms if line["state"] in ("warning", "critical")]
    return ", ".join(f"{line['symptom']}: {line['state']}" for line in ill) or ("well" if run.symptoms else "")


def _kimg_an_hour(run: Run) -> float:
    return run.kimg / (run.hours * run.devices)


def _time_to_best(run: Run) -> str:
    best = _best_point(run)
    return f"about {duration(run.hours * best[0] / run.kimg)}" if best is not None and run.kimg else ""


def _code(run: Run) -> str:
    commit = run.environment.get("git_commit")
    return f"{commit[:12]}{' with local changes' if run.environment.get('git_dirty') else ''}" if commit else ""
