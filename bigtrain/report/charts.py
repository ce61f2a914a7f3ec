"""A chart for each metric, with every run that has it in its own colour."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from plotly import graph_objects

from bigtrain.report.runs import Points, Run, is_bound

COLOURS = ("#3f6fd8", "#e0702f", "#1a9c78", "#9557c9", "#d9477a", "#1593a5", "#b58900", "#6b7f8c")
"""One a run, in turn; readable on white and on black."""

_POINTS = 800


class Section(NamedTuple):
    """Charts that belong together: what they are called, which metrics they show, and whether they are open at once."""

    title: str
    prefixes: tuple[str, ...]
    open: bool


SECTIONS = (
    Section("Scores", ("eval/",), True),
    Section("Losses and penalties", ("loss/", "reg/"), True),
    Section("Discriminator", ("logits/", "signs/", "augment/"), True),
    Section("Health", ("health/",), True),
    Section("Throughput", ("time/img_per_s", "time/data_wait_share", "compute/", "memory/"), True),
    Section("Optimisation", ("gradient_norm/", "skipped_step/", "lr/", "ema/", "weights/"), False),
    Section("Everything else", ("",), False),
)
"""A metric is in the first section that has its prefix."""


def charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the sections that have something to show.

    Returns:
        Of each, `title`, `open`, `silent` (symptoms that never showed), and `charts`: `name` and Plotly's `figure`.
    """
    names = sorted({name for run in runs for name, points in run.metrics.items() if points and not is_bound(name)})
    sections = []
    for section in SECTIONS:
        mine = [name for name in names if name.startswith(section.prefixes)]
        names = [name for name in names if name not in mine]
        silent = [name for name in mine if name.startswith("health/") and _is_silent(name, runs)]
        drawn = [{"name": name, "figure": _figure(name, runs)} for name in mine if name not in silent]
        if mine:
            silent_names = [name.removeprefix("health/").replace("_", " ") for name in silent]
            sections.append({"title": section.title, "open": section.open, "silent": silent_names, "charts": drawn})
    return sections


def _is_silent(name: str, runs: Sequence[Run]) -> bool:
    return not any(value for run in runs for _, value in run.metrics.get(name, []))


def _figure(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    figure = graph_objects.Figure()
    for number, run in enumerate(runs):
        points, colour = run.metrics.get(name, []), COLOURS[number % len(COLOURS)]
        low, high = run.metrics.get(f"{name}_low", []), run.metrics.get(f"{name}_high", [])
        if low and high:
            _add_interval(figure, low, high, colour)
        if points:
            few = name.startswith("eval/") or len(points) < 3
            kimg, values = zip(*_thinned(points), strict=True)
            figure.add_scatter(
                x=[round(place, 3) for place in kimg],
                y=[float(f"{value:.5g}") for value in values],
                name=run.name,
                mode="lines+markers" if few else "lines",
                line={"color": colour, "width": 2, "shape": "hv" if name.startswith("health/") else "linear"},
                marker={"size": 6},
                hovertemplate="%{y:.5g} at %{x:.5g} kimg",
            )
    document: dict[str, Any] = figure.to_plotly_json()
    return {"data": document["data"]}


def _add_interval(figure: graph_objects.Figure, low: Points, high: Points, colour: str) -> None:
    """Shade what lies between the ends of a score's intervals."""
    for points, fill in ((low, None), (high, "tonexty")):
        kimg, values = zip(*points, strict=True)
        figure.add_scatter(
            x=list(kimg),
            y=list(values),
            mode="lines",
            line={"color": colour, "width": 0},
            fill=fill,
            fillcolor=f"{colour}33",
            hoverinfo="skip",
        )


def _thinned(points: Points) -> Points:
    """Leave out points that no screen could show; the last one stays."""
    step = -(-len(points) // _POINTS)
    return points[::-1][::step][::-1]
