"""The command that sweeps."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigtrain.cli.options import Overrides
from bigtrain.core.errors import ConfigError

if TYPE_CHECKING:
    from bigtrain.sweep.results import RankedSetting
    from bigtrain.sweep.sweep import Sweep
    from bigtrain.sweep.trial_scheduler import TrialScheduler

app = typer.Typer()


@app.command()
def tune(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="YAML file of a sweep; configs/sweeps/ contains examples.")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Resume the sweep in this folder.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON, and everything else on stderr.")
    ] = False,
) -> None:
    """Search hyperparameters with Ray Tune, or resume such a sweep.

    Exit code 3: stopped by a signal, with all state saved.
    """
    from bigtrain.core.logging import answering_in_json
    from bigtrain.sweep.sweep import open_sweep, reopen_sweep
    from launch.slurm.client import queue
    from launch.slurm.settings import load_settings
    from launch.sweep.driver import set_ray_environment

    set_ray_environment()
    if sweep is not None and "=" in sweep:  # after --resume DIR there may be overrides alone
        overrides, sweep = [sweep, *(overrides or [])], None
    if resume is not None:
        found = reopen_sweep(resume, sweep, overrides or [])
    elif sweep is not None:
        found = open_sweep(sweep, overrides or [])
        found.write()
    else:
        raise ConfigError("tune: name a sweep's YAML file, or --resume DIR")
    backend = found.config.backend
    if backend.kind == "slurm":
        settings = {**backend.settings, "ranks_per_node": found.config.trial.nproc}
        load_settings(Path(backend.profile) if backend.profile else None, settings)
        queue()  # Slurm answers
    with answering_in_json(as_json):
        scheduler, stopped = _run(found)
        ranked = _show(found, scheduler, stopped, as_json=as_json)
    if stopped is not None or not all(trial.ended for trial in scheduler.trials.values()):
        typer.echo(f"stopped by {stopped}; resume it with: bigtrain tune --resume {found.folder}", err=as_json)
        raise typer.Exit(3)
    raise typer.Exit(0 if ranked else 1)


def _run(sweep: "Sweep") -> "tuple[TrialScheduler, str | None]":
    """Run the trials; return what became of them, and what stopped them early.

    Raises:
        ConfigError: the machine does not have what a trial needs.
    """
    from bigtrain.core.logging import log, set_up_logging
    from bigtrain.sweep.table import LiveTable, remove_stopped_checkpoints
    from bigtrain.sweep.trial_scheduler import TrialScheduler
    from launch.sweep import Resources, run_trials
    from launch.sweep.driver import ResourcesError

    set_up_logging()
    scheduler, own = TrialScheduler(sweep, notify=log.info), sweep.config.trial
    resources = Resources(
        cpus=None if own.cpus == "node" else own.cpus,
        gpus=own.gpus,
        memory=None if own.memory_gib is None else own.memory_gib * 2**30,
        at_once=own.at_once,
        retries=own.retries,
        remote=sweep.config.backend.kind == "slurm",
    )
    try:
        with LiveTable(sweep, lambda: scheduler.trials, lambda: scheduler.direction):
            stopped = run_trials(scheduler, sweep.folder, resources, hours=sweep.config.budget.hours)
    except ResourcesError as error:
        raise ConfigError(f"{sweep.source}: {error}") from None
    remove_stopped_checkpoints(sweep, scheduler.trials)
    return scheduler, stopped


def _show(sweep: "Sweep", scheduler: "TrialScheduler", stopped: str | None, *, as_json: bool) -> "list[RankedSetting]":
    """Write and print the results; return the ranked settings."""
    from bigtrain.core.logging import console
    from bigtrain.sweep.page import write_page
    from bigtrain.sweep.results import RESULTS, WINNER, summary, write_results
    from bigtrain.sweep.table import start_publisher, table

    ranked = write_results(sweep, scheduler.trials, scheduler.direction)
    page = write_page(sweep, scheduler.trials, scheduler.direction)
    console.print(table(sweep, scheduler.trials, scheduler.direction))
    if (publisher := start_publisher(sweep)) is not None:
        publisher.wait()
    results, winner = sweep.folder / RESULTS, sweep.folder / WINNER
    if as_json:
        with results.open(newline="", encoding="utf-8") as file:
            trials = list(csv.DictReader(file))
        best = str(winner) if ranked else None
        typer.echo(json.dumps({"trials": trials, "winner": best, "charts": str(page), "stopped_by": stopped}, indent=1))
        return ranked
    typer.echo(f"{'table':<10}{results}\n{'charts':<10}{page}")
    if ranked:
        typer.echo(f"{'winner':<10}{winner}: {summary(ranked, scheduler.direction)}")
    return ranked
