"""Scores for a person to read."""

from collections.abc import Mapping

from rich.table import Table

from bigtrain.evaluation.protocol import Score


def score_table(scores: Mapping[str, Score], *, title: str | None = None) -> Table:
    """Return scores with their noise and the stamps of their protocols."""
    table = Table(title=title, box=None, pad_edge=False)
    table.add_column("score", overflow="fold")
    for heading in ("value", "95 % interval", "protocol"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        between = f"{score.noise.low:.4g} to {score.noise.high:.4g}" if score.noise else ""
        table.add_row(name.removeprefix("eval/"), f"{score.value:.6g}", between, score.protocol.stamp)
    return table
