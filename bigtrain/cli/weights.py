"""Commands on the weights of feature extractors."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Download and list the weights of feature extractors.")

Name = Annotated[str, typer.Argument(help="inception-v3-compat, vgg16 or lpips-vgg16.")]


@app.command()
def fetch(
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: the folder weights in the cache.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Address of a mirror, instead of the published addresses.")
    ] = None,
) -> None:
    """Download published weights and check their SHA-256. An interrupted download resumes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from bigtrain.cli.options import one_of
    from bigtrain.core.logging import console
    from bigtrain.evaluation.fetching import fetch_weights
    from bigtrain.models.pretrained.weights import WEIGHTS, weights_folder

    weights = WEIGHTS[one_of("NAME", name, tuple(WEIGHTS))]
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=round(weights.megabytes * 1e6))
        path = fetch_weights(
            weights,
            to or weights_folder(),
            urls=tuple(url or ()),
            report=lambda size: progress.update(task, completed=size),
        )
    typer.echo(f"{path}: {weights.sha256} ({weights.licence})")


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List published weights, and where they are on this machine."""
    from bigtrain.models.pretrained.weights import WEIGHTS, WeightsError, find_weights

    found = []
    for name, weights in WEIGHTS.items():
        try:
            place = str(find_weights(name).path)
        except WeightsError as error:
            place = f"missing: {error}" if "sha256" in str(error) else "missing"
        found.append({"name": name, "megabytes": weights.megabytes, "licence": weights.licence, "place": place})
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for one in found:
        typer.echo(f"{one['name']:20} {one['megabytes']:8.3f} MB  {one['licence']:14} {one['place']}")
