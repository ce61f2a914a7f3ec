"""The command that breaks a run on purpose."""

import json
from typing import Annotated

import typer

from bigtrain.cli.options import ConfigFile, Overrides

app = typer.Typer()


@app.command()
def chaos(
    config: ConfigFile,
    overrides: Overrides = None,
    kills: Annotated[int, typer.Option(min=1, help="Processes to kill.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the choice of moments and processes.")] = 0,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train twice, the second time killing ranks, loaders and launchers; exit code 1 if the results differ by a bit."""
    from bigtrain.chaos.killing import run_with_kills
    from bigtrain.config import AnyTraining
    from bigtrain.core.config import load_config
    from bigtrain.core.logging import progress_bars

    loaded = load_config(AnyTraining, config, overrides or [])
    words = [config, *(overrides or []), "--nproc", str(nproc), "--max-restarts", str(kills)]
    with progress_bars() as bars:
        task = bars.add_task("killing", total=kills, note="a run in peace first")
        report = run_with_kills(
            lambda folder: ["train", *words, f"run_dir={folder}"],
            loaded.folder,
            kills=kills,
            seed=seed,
            on_kill=lambda number, what: bars.update(task, completed=number, note=f"{what} killed"),
        )
    if as_json:
        typer.echo(json.dumps(vars(report), indent=1))
    else:
        killed = ", ".join(f"{role} {report.kills.count(role)} times" for role in sorted(set(report.kills)))
        typer.echo(f"killed: {killed}; resumed {report.restarts} times after a fault")
        interval = loaded.checkpoint.interval_kimg
        lost = f"{report.lost_kimg:g} kimg of {loaded.total_kimg:g}, at most {report.most_lost_kimg:g} at once"
        typer.echo(f"done again: {lost} (a checkpoint every {interval:g})")
        typer.echo("\n".join(report.differences[:20]) or "the same bits as the undisturbed run, and the same curves")
    raise typer.Exit(1 if report.differences else 0)
