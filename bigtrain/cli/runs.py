"""Commands on runs: start, go on, look, send."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import ConfigFile, Overrides
from bigtrain.cli.plugins import NamesPlugins
from bigtrain.core.errors import ConfigError
from bigtrain.core.signals import NOTHING_BEGUN, end_on_signals

app = typer.Typer()


@app.command(cls=NamesPlugins)
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    nproc: Annotated[
        int | None, typer.Option(help="Number of ranks on this machine; default: one per GPU, or one.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="Number of failures after which the run restarts by itself.")
    ] = 0,
    allow_config_change: Annotated[
        bool, typer.Option("--allow-config-change", help="Resume although the config in the run folder differs.")
    ] = False,
) -> None:
    """Train, or resume a run: the same command on an existing run folder resumes it.

    Exit code 3: stopped by a signal, with all state saved.
    """
    end_on_signals(NOTHING_BEGUN, at_once=True)
    began = time.time()
    import torch

    from bigtrain.build import check
    from bigtrain.config import load_training
    from bigtrain.core.logging import set_up_logging
    from bigtrain.core.presence import refuse_if_held
    from bigtrain.planning.micro_batch import remember_micro_batch
    from bigtrain.run.folder import how_it_ended
    from bigtrain.run.supervision import supervise
    from launch.local import Launcher

    nproc = nproc or max(torch.cuda.device_count(), 1)
    loaded = remember_micro_batch(load_training(config, overrides or []))
    check(loaded, world_size=nproc, allow_change=allow_config_change)
    arguments = [config, *(overrides or []), *(["allow_config_change=true"] if allow_config_change else [])]
    set_up_logging()
    refuse_if_held(loaded.folder)
    launcher = Launcher("bigtrain.train", arguments, nproc=nproc)
    code = supervise(loaded.folder, launcher.run, lambda: launcher.asked, max_restarts=max_restarts)
    ending, code = how_it_ended(loaded, code, None if launcher.forced else launcher.asked, since=began)
    typer.echo(ending)
    raise typer.Exit(code)


@app.command()
def sync(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    uri: Annotated[str | None, typer.Option(help="MLflow server; default: that of the run.")] = None,
) -> None:
    """Send the records of a run to MLflow that have not been sent."""
    from bigtrain.core.logging import counted
    from bigtrain.tracking.sender import send_run

    if not (run / "metrics.jsonl").is_file():
        raise ConfigError(f"{run}: not a run folder, metrics.jsonl is missing")
    with counted("sending", None):
        sent = send_run(run, uri=uri)
    raise typer.Exit(0 if sent else 1)


@app.command()
def health(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the health of a run: symptoms, since when, the evidence, and what helps.

    The exit code is 1 if a symptom is critical.
    """
    from bigtrain.core.logging import console
    from bigtrain.health.report import is_critical, read_report, table

    report = read_report(run)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        console.print(table(report))
    raise typer.Exit(1 if is_critical(report) else 0)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the state of a run: progress, time left, speed, score, health, failures and machine."""
    from bigtrain.core.logging import console
    from bigtrain.run.status import status_of, table

    found = status_of(run)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.print(table(found))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what this machine provides, what is missing, and which features need it."""
    from bigtrain.run.doctor import examine, show

    found = examine()
    if as_json:
        typer.echo(json.dumps([vars(requirement) for requirement in found], indent=1))
    else:
        show(found)
