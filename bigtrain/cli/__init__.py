"""The `bigtrain` command: one thin function a sub-command. What it does lives elsewhere; here it is named and shown."""

import os
import sys
from typing import Annotated

import typer

from bigtrain.cli import (
    chaos,
    config,
    data,
    evaluation,
    interop,
    jobs,
    models,
    plan,
    probe,
    report,
    runs,
    scores,
    submit,
    tune,
    weights,
)
from bigtrain.core import collector
from bigtrain.core.errors import UserError
from bigtrain.core.launchers import forget_launchers
from bigtrain.core.signals import restore_signals
from data_pipelines.errors import DataError
from data_pipelines.files import set_home
from data_pipelines.secrets import hide_in_tracebacks, print_line
from data_pipelines.trust import TRUSTED

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for group in (runs, plan, submit, jobs, chaos, evaluation, scores, models, report, tune):
    app.add_typer(group.app)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(interop.app, name="interop")
app.add_typer(probe.app, name="probe")
app.add_typer(weights.app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(metadata.version("bigtrain"))
        raise typer.Exit


@app.callback()
def options_of_all_commands(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    trusted_data: Annotated[
        str | None,
        typer.Option(
            envvar=TRUSTED,
            metavar="FOLDER[:FOLDER]...",
            help="Datasets, or folders of datasets, whose manifests may run shell commands (pipe:).",
        ),
    ] = None,
) -> None:
    """Train generative adversarial networks, on one machine or on many nodes."""
    if context.invoked_subcommand != "train":  # which answers signals itself, from its first line on
        restore_signals()
    if trusted_data is not None:
        os.environ[TRUSTED] = trusted_data  # the ranks that a command starts inherit it


def main() -> None:
    """Run the command; a user's mistake is one line and exit code 2, never a traceback."""
    os.umask(os.umask(0o002) | 0o002)  # nothing that is made here can be changed by everybody
    set_home()
    collector.spare_the_end()
    forget_launchers(os.environ)  # of the shell: a command is started alone, and starts its ranks itself
    hide_in_tracebacks()
    try:
        app()
    except (UserError, DataError) as error:
        print_line(str(error))
        sys.exit(2)
