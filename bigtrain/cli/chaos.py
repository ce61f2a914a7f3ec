"""The command that breaks a run on purpose."""

import json
from collections import Counter
from typing import Annotated

import typer

from bigtrain.cli.options import ConfigFile, Overrides
from bigtrain.core.errors import ConfigError

app = typer.Typer()


@app.command()
def chaos(
    config: ConfigFile,
    overrides: Overrides = None,
    kills: Annotated[int, typer.Option(min=0, help="Number of processes to kill.")] = 20,
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further fault: hang, stop, disk or damage. Can be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of moments and processes.")] = 0,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train twice, the second time with killed processes, and compare the results bit by bit.

    The exit code is 1 if they differ.
    """
    from bigtrain.chaos.breaking import break_run
    from bigtrain.chaos.faults import FAULTS
    from bigtrain.chaos.starts import Starts
    from bigtrain.config import load_training
    from bigtrain.core.logging import progress_bars

    loaded, others = load_training(config, overrides or []), also or []
    if unknown := [name for name in others if name not in FAULTS]:
        raise ConfigError(f"--also {unknown[0]}: choose one of {', '.join(FAULTS)}")
    if "hang" in others and (loaded.watchdog.step_seconds is None or nproc < 2):
        raise ConfigError("--also hang: only a run with watchdog.step_seconds and several ranks detects a hang")
    total = kills + len(others)
    words = [config, *(overrides or []), "--nproc", str(nproc), "--max-restarts", str(total)]
    starts = Starts(loaded)
    disturbed = loaded.folder / "disturbed"
    often = f"checkpoint.interval_kimg={starts.checkpoint_kimg}"
    with progress_bars() as bars:
        task = bars.add_task("breaking", total=total, note="an undisturbed run first")
        report = break_run(
            lambda folder: ["train", *words, f"run_dir={folder}", *([often] if folder == disturbed else [])],
            loaded.folder,
            kills=kills,
            others=others,
            seed=seed,
            hang_seconds=loaded.watchdog.longest,
            on_fault=lambda number, what: bars.update(task, completed=number, note=what),
        )
    first = starts.met(disturbed)
    if as_json:
        typer.echo(json.dumps({**vars(report), "first_phases": first}, indent=1))
    else:
        happened = ", ".join(f"{what} {count} times" for what, count in sorted(Counter(report.faults).items()))
        typer.echo(f"{happened}; resumed {report.restarts} times after a fault")
        lost = f"{report.lost_kimg:g} kimg of {loaded.total_kimg:g}, at most {report.most_lost_kimg:g} at once"
        typer.echo(f"repeated: {lost} (a checkpoint every {starts.checkpoint_kimg:g})")
        typer.echo(f"first phases after a start: {', '.join(f'{kind} {count} times' for kind, count in first.items())}")
        typer.echo("\n".join(report.differences[:20]) or "the same bits as the undisturbed run, and the same curves")
    raise typer.Exit(1 if report.differences else 0)
