"""The command that plans."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import ConfigFile, Overrides

app = typer.Typer()


@app.command()
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    gpu: Annotated[str, typer.Option(help="GPU type, such as h100, a100 or v100.")] = "h100",
    nodes: Annotated[int, typer.Option(min=1, help="Number of nodes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Number of GPUs per node.")] = 8,
    link: Annotated[
        str | None,
        typer.Option(
            help="Network of a node, for all its GPUs together: 400Gb, 8x400Gb; default: usual for the GPU type."
        ),
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="Price of a GPU hour in USD.")] = None,
    hardware: Annotated[
        Path | None,
        typer.Option(help="YAML file with further GPUs or measurements, like bigtrain/planning/hardware.yaml."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="PNG file for a plot of the efficiency on 1 to 1024 GPUs.")] = None,
) -> None:
    """Predict the memory, messages, speed, duration and cost of a run. Needs neither its data nor a GPU."""
    from bigtrain.config import load_training
    from bigtrain.core.logging import answering_in_json, counted
    from bigtrain.planning.hardware import Cluster, find_gpu, load_hardware, parse_rate
    from bigtrain.planning.plan import make_plan
    from bigtrain.planning.show import plot_efficiency, show

    known = load_hardware(hardware)
    card = find_gpu(known, gpu)
    network = card.network_gbit_s * 1e9 / 8 if link is None else parse_rate(link)
    cluster = Cluster(card, known.assumed, nodes, gpus_per_node, network)
    with answering_in_json(as_json):
        with counted("planning", None):
            made = make_plan(load_training(config, overrides or []), cluster, price=price)
        if as_json:
            typer.echo(json.dumps(made.as_json(), indent=1))
        else:
            show(made, Path(config).stem)
        if plot is not None:
            with counted("drawing", None):
                plot_efficiency(made, Path(config).stem, plot)
            typer.echo(f"{plot}: efficiency on 1 to 1024 GPUs", err=True)
