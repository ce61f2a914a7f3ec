"""The command that sweeps."""

from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import Overrides
from bigtrain.core.errors import ConfigError

app = typer.Typer()


@app.command()
def tune(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="YAML file of a sweep; configs/sweeps/ contains examples.")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Resume the sweep in this folder.")] = None,
) -> None:
    """Search hyperparameters with Ray Tune, or resume such a sweep.

    Exit code 3: stopped by a signal, with all state saved.
    """
    from bigtrain.core.logging import console, log, set_up_logging
    from bigtrain.sweep.page import write_page
    from bigtrain.sweep.results import RESULTS, WINNER, summary, write_results
    from bigtrain.sweep.sweep import open_sweep, reopen_sweep
    from bigtrain.sweep.table import LiveTable, remove_stopped_checkpoints, start_publisher, table
    from bigtrain.sweep.trial_scheduler import TrialScheduler
    from launch.slurm.client import queue
    from launch.slurm.settings import load_settings
    from launch.sweep import Resources, run_trials
    from launch.sweep.driver import ResourcesError

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
    set_up_logging()
    scheduler, own = TrialScheduler(found, notify=log.info), found.config.trial
    resources = Resources(
        cpus=None if own.cpus == "node" else own.cpus,
        gpus=own.gpus,
        memory=None if own.memory_gib is None else own.memory_gib * 2**30,
        at_once=own.at_once,
        retries=own.retries,
        remote=found.config.backend.kind == "slurm",
    )
    try:
        with LiveTable(found, lambda: scheduler.trials, lambda: scheduler.direction):
            stopped = run_trials(scheduler, found.folder, resources, hours=found.config.budget.hours)
    except ResourcesError as error:
        raise ConfigError(f"{found.source}: {error}") from None
    remove_stopped_checkpoints(found, scheduler.trials)
    ranked = write_results(found, scheduler.trials, scheduler.direction)
    page = write_page(found, scheduler.trials, scheduler.direction)
    console.print(table(found, scheduler.trials, scheduler.direction))
    if (publisher := start_publisher(found)) is not None:
        publisher.wait()
    typer.echo(f"{'table':<10}{found.folder / RESULTS}\n{'charts':<10}{page}")
    if ranked:
        typer.echo(f"{'winner':<10}{found.folder / WINNER}: {summary(ranked, scheduler.direction)}")
    if stopped is not None or not all(trial.ended for trial in scheduler.trials.values()):
        typer.echo(f"stopped by {stopped}; go on with: bigtrain tune --resume {found.folder}")
        raise typer.Exit(3)
    raise typer.Exit(0 if ranked else 1)
