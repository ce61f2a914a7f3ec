"""The command that reports."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, which are shown side by side.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; default: report.html in the run folder, or above several.")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="Price of a device hour, to compute the cost.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Maximum number of pictures of each kind and run.")] = 12,
) -> None:
    """Write a self-contained HTML page about runs: config, curves, pictures, events, hardware, cost."""
    from bigtrain.core.logging import counted
    from bigtrain.report.page import write_page
    from bigtrain.report.runs import read_runs

    above = runs[0] if len(runs) == 1 else Path(os.path.commonpath([run.resolve().parent for run in runs]))
    out = out or above / "report.html"
    with counted("writing the report", None):
        found = read_runs(runs)
        write_page(found, out, price=price, pictures=pictures)
    typer.echo(f"{out}: {len(found)} run{'s' * (len(found) > 1)}, {out.stat().st_size / 2**20:.1f} MiB")
