"""Commands on jobs of Slurm: which there are, what they say, end them."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigtrain.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from launch.slurm.client import Queued
    from launch.slurm.job_log import Job

app = typer.Typer()

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the folder with the runs of an array.")]
_COLOURS = {"RUNNING": "green", "COMPLETED": "green", "FAILED": "bold red", "GONE": "bold red"}


@app.command()
def jobs(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Run folders; default: all that you submitted.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show jobs on Slurm, and the progress of their runs."""
    from bigtrain.core.logging import console
    from launch.slurm.client import queue
    from launch.slurm.job_log import known_runs, runs_in

    folders, queued = [one for run in runs for one in runs_in(run)] if runs else known_runs(), queue()
    every = [_jobs_of(folder, queued) for folder in folders]
    found = [_facts(job) for mine in every for job in mine if job.is_alive or job is mine[-1]]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.print(_table(found) if found else "no jobs; bigtrain submit starts one")


@app.command()
def logs(
    run: Run,
    rank: Annotated[int | None, typer.Option(min=0, help="Show the log of this rank, including tracebacks.")] = None,
    lines: Annotated[int, typer.Option(min=1, help="Number of last lines to show.")] = 40,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new lines as they appear, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what a run's newest job, or one of its ranks, has printed."""
    from launch.slurm.job_log import JobLog

    path = run / "logs" / f"rank{rank}.log"
    if rank is None:
        path = JobLog(run).output(_jobs_of(run, {})[-1].number)
    if not path.is_file() and not follow:
        raise ConfigError(f"{path}: there is no log yet; --follow waits for it")
    command = ["tail", f"--lines={lines}", *(["-F"] if follow else []), str(path)]
    os.execvp(command[0], command)  # noqa: S606 - a list, no shell


@app.command()
def cancel(
    run: Run,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait: let Slurm kill the job after its usual grace time.")
    ] = False,
) -> None:
    """End the jobs of a run. A running job saves first, for as long as that takes."""
    from launch.slurm import client
    from launch.slurm.job_log import JobLog, runs_in

    queued = client.queue()
    alive = [job for one in runs_in(run) for job in _jobs_of(one, queued) if job.is_alive]
    if not alive:
        typer.echo(f"{run}: no job is queued or running")
    for job in alive:
        JobLog(job.run).ask_to_end(job.number)
        if job.state == "RUNNING" and not now:
            client.cancel(job.number, signal="TERM")
            typer.echo(f"job {job.number} saves and ends; bigtrain submit, as before, resumes from there")
        else:
            client.cancel(job.number)
            typer.echo(f"job {job.number} is cancelled")


def _jobs_of(run: Path, queued: "dict[str, Queued]") -> "list[Job]":
    """Return a run folder's jobs, oldest first, at least one."""
    from launch.slurm.job_log import JobLog

    found = JobLog(run).jobs(queued)
    if not found:
        raise ConfigError(f"{run}: no job was submitted here")
    return found


def _facts(job: "Job") -> dict[str, Any]:
    """Put a job together with how far its run is."""
    from bigtrain.run.status import status_of

    begun = (job.run / "config.yaml").is_file()
    status = status_of(job.run) if begun else {"kimg": 0.0, "total_kimg": None, "eta_s": None, "scores": {}}
    fid = next((score["value"] for name, score in status["scores"].items() if "fid" in name), None)
    progress = {name: status[name] for name in ("kimg", "total_kimg", "eta_s")}
    return {**vars(job), "run": str(job.run), **progress, "fid": fid}


def _table(jobs: list[dict[str, Any]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from bigtrain.run.status import duration

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("job", "run", "state", "kimg", "FID", "restarts", "ETA"):
        right = name in ("kimg", "FID", "restarts", "ETA")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == "job")
    for job in jobs:
        reason = f" {job['reason']}" if job["reason"] else ""
        table.add_row(
            job["number"],
            os.path.relpath(job["run"]) if Path(job["run"]).is_relative_to(Path.cwd()) else job["run"],
            f"[{_COLOURS.get(job['state'], 'yellow')}]{job['state']}[/]{escape(reason)}",
            f"{job['kimg']:.1f}" + (f" of {job['total_kimg']:g}" if job["total_kimg"] else ""),
            "" if job["fid"] is None else f"{job['fid']:.2f}",
            str(job["requeues"]),
            "" if job["eta_s"] is None else duration(job["eta_s"]),
        )
    return table
