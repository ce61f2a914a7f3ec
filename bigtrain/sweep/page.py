"""The report of a sweep, a page with charts: best score so far, parallel coordinates, importance of parameters."""

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from plotly import graph_objects, offline

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.results import best_so_far, rank_settings, summary
from bigtrain.sweep.searchers import study_of
from bigtrain.sweep.space import Ratio
from bigtrain.sweep.sweep import Sweep
from bigtrain.sweep.table import short_name

if TYPE_CHECKING:
    import optuna

PAGE = "sweep.html"
_FEWEST = 4
"""Number of trials with a score below which importances are not computed."""


def write_page(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> Path:
    """Write `sweep.html`, which needs no other files, into the sweep's folder; return its path."""
    charts = {
        "Best score so far": _best(sweep, trials, direction),
        "Parallel coordinates": _parallel(sweep, trials, direction),
        "What matters": importance_chart(sweep, trials, direction),
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


def importance_chart(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> graph_objects.Figure | None:
    """Return a chart of each parameter's share of the score's variance (PED-ANOVA, Watanabe et al. 2023)."""
    import optuna

    study = _study(sweep, trials, direction)
    if len(study.trials) < _FEWEST:
        return None
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        return optuna.visualization.plot_param_importances(study, evaluator, target_name=sweep.metric.name)
    except (ValueError, RuntimeError):  # all scores alike, or no parameter in all trials
        return None


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
    import optuna

    study = _study(sweep, trials, direction)
    if len(study.trials) < _FEWEST:
        return None
    return optuna.visualization.plot_parallel_coordinate(study, target_name=sweep.metric.name)


def _label(sweep: Sweep, key: str) -> str:
    """Return a short name of what is searched: a key, or the ratio of two."""
    parameter = sweep.space.parameters[key]
    return f"{short_name(key)} / {short_name(parameter.of)}" if isinstance(parameter, Ratio) else short_name(key)


def _study(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> "optuna.Study":
    base = sweep.space.base_point()
    searched = {
        n: replace(trial, point={**base, **trial.point}) for n, trial in trials.items() if trial.repeats is None
    }
    return study_of(sweep.space, searched, direction, names=lambda key: _label(sweep, key))
