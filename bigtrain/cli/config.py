"""Commands on configs: `bigtrain config …`."""

import json
from typing import Annotated

import typer

from bigtrain.cli.options import ConfigFile, Overrides

app = typer.Typer(no_args_is_help=True, help="Show and check configs.")


@app.command()
def show(
    config: ConfigFile,
    overrides: Overrides = None,
    params: Annotated[bool, typer.Option("--params", help="Show a table of the networks' parameters instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a config with all defaults and overrides resolved."""
    from bigtrain.config import load_training
    from bigtrain.core.config import dump_yaml
    from bigtrain.planning.parameter_table import parameters_as_json, show_parameters

    loaded = load_training(config, overrides or [])
    if as_json:
        typer.echo(json.dumps(parameters_as_json(loaded) if params else loaded.model_dump(mode="json"), indent=1))
    elif params:
        show_parameters(loaded)
    else:
        typer.echo(dump_yaml(loaded), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of configs, with which editors can check them."""
    from bigtrain.config import training_schema

    typer.echo(json.dumps(training_schema(), indent=1))
