"""The report of a sweep, a page with charts: best score so far, parallel coordinates, importance of parameters."""

import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from plotly import graph_objects, offline

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.results import best_so_far, rank_settings, summary
from bigtrain.sweep.searchers import OptunaSearch
from bigtrain.sweep.space import Value
from bigtrain.sweep.sweep import Sweep
from bigtrain.sweep.table import short_name

PAGE = "sweep.html"
_FEWEST = 4
"""Number of trials with a score below which importances are not computed."""


def write_page(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> Path:
    """Write `sweep.html`, which needs no other files, into the sweep's folder; return its path."""
    charts = {
        "Best score so far": _best(sweep, trials, direction),
        "Parallel coordinates": _parallel(sweep, trials, direction),
        "What matters": _importance(sweep, trials, direction),
    }
    name = escape(sweep.folder.resolve().name)
    parts = [f"<h1>{name}</h1><p>{escape(summary(rank_settings(trials, direction), direction))}.</p>"]
    for title, figure in charts.items():
        parts.append(f"<h2>{title}</h2>")
        if figure is None:
            parts.append(f"<p>fewer than {_FEWEST} trials have a score</p>")
        else:
            figure.update_layout(height=420, margin={"l": 90, "r": 60, "t": 50, "b": 50}, template="plotly_white")
            parts.append(offline.plot(figure, output_type="div", include_plotlyjs=False))
    style = "body{font:15px system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}"
    script = f"<script>{offline.get_plotlyjs()}</script>"
    head = f"<meta charset='utf-8'><title>{name}</title><style>{style}</style>{script}"
    path = sweep.folder / PAGE
    path.write_text(f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>", encoding="utf-8")
    return path


def importances(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> dict[str, float]:
    """Return each parameter's share of the score's variance (PED-ANOVA, Watanabe et al. 2023); empty for few trials."""
    import optuna

    search = OptunaSearch(kind="optuna")
    base = sweep.space.base_point()
    scored = {n: Trial(n, {**base, **t.point}, t.seed, None, t.scores) for n, t in trials.items() if t.repeats is None}
    study = search.study(sweep.space, scored, direction, seed=0)
    if len(study.trials) < _FEWEST:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), normalize=True
        )
    except (ValueError, RuntimeError):  # all scores alike, or no parameter in all trials
        return {}
    return {name: float(share) for name, share in found.items()}


def _best(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> graph_objects.Figure | None:
    points = best_so_far(trials, direction, sweep.folder)
    if not points:
        return None
    figure = graph_objects.Figure()
    figure.add_scatter(
        x=[seen / 1000 for seen, _, _ in points],
        y=[best for _, _, best in points],
        mode="lines+markers",
        line_shape="hv",
    )
    figure.update_layout(xaxis_title="kimg of all trials together", yaxis_title=sweep.metric.name)
    return figure


def _parallel(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> graph_objects.Figure | None:
    base = sweep.space.base_point()
    scored = [trial for trial in trials.values() if trial.repeats is None and trial.last is not None]
    scored = [trial for trial in scored if trial.last is not None and math.isfinite(trial.last.value)]
    if len(scored) < _FEWEST:
        return None
    axes = []
    for key in sweep.space.varying:
        values = [{**base, **trial.point}.get(key) for trial in scored]
        axes.append(_axis(short_name(key), values, log=getattr(sweep.space.parameters[key], "kind", "") != "uniform"))
    score = [trial.last.value for trial in scored if trial.last is not None]
    axes.append({"label": sweep.metric.name, "values": score})
    line = {"color": score, "colorscale": "Viridis", "reversescale": not direction.maximize, "showscale": True}
    return graph_objects.Figure(
        graph_objects.Parcoords(dimensions=axes, line={**line, "cmin": min(score), "cmax": max(score)})
    )


def _axis(label: str, values: list[Value], *, log: bool) -> dict[str, Any]:
    """Return an axis: logarithmic for numbers if `log`; values that are not numbers are evenly spaced."""
    numbers = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) == len(values) and log and min(numbers) > 0:
        ticks = sorted(set(numbers))[:: max(len(set(numbers)) // 6, 1)]
        logs = [math.log10(one) for one in numbers]
        return {
            "label": label,
            "values": logs,
            "tickvals": [math.log10(t) for t in ticks],
            "ticktext": [f"{t:.3g}" for t in ticks],
        }
    if len(numbers) == len(values):
        return {"label": label, "values": numbers}
    names = sorted({json.dumps(one) for one in values})
    places = [names.index(json.dumps(one)) for one in values]
    return {"label": label, "values": places, "tickvals": list(range(len(names))), "ticktext": names}


def _importance(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> graph_objects.Figure | None:
    shares = importances(sweep, trials, direction)
    if not shares:
        return None
    ranked = sorted(shares.items(), key=lambda one: one[1])
    figure = graph_objects.Figure()
    figure.add_bar(x=[share for _, share in ranked], y=[name for name, _ in ranked], orientation="h")
    figure.update_layout(xaxis_title="share of the score's variance (PED-ANOVA)")
    return figure
