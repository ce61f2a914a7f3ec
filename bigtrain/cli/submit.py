"""The command that hands a run to Slurm."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigtrain.cli.options import ConfigFile, Overrides

if TYPE_CHECKING:
    from bigtrain.config import TrainingConfig
    from launch.slurm.settings import SlurmConfig

app = typer.Typer()

Text = str | None


@app.command()
def submit(
    context: typer.Context,
    config: ConfigFile,
    overrides: Overrides = None,
    nodes: Annotated[int | None, typer.Option(help="Number of nodes.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(help="Number of GPUs, and of ranks, per node.")] = None,
    gpu_type: Annotated[Text, typer.Option(help="Name of the GPU type at the site, such as h100.")] = None,
    ranks_per_node: Annotated[int | None, typer.Option(help="Ranks per node; default: one per GPU.")] = None,
    cpus_per_task: Annotated[int | None, typer.Option(help="Number of cores per rank.")] = None,
    mem: Annotated[Text, typer.Option(help="Memory per node, such as 480G.")] = None,
    time: Annotated[
        Text, typer.Option(help="Time limit, such as 24:00:00, after which the job is requeued and resumes.")
    ] = None,
    partition: Annotated[Text, typer.Option(help="Partition of the cluster.")] = None,
    account: Annotated[Text, typer.Option(help="Account that is charged.")] = None,
    qos: Annotated[Text, typer.Option(help="Quality of service.")] = None,
    constraint: Annotated[Text, typer.Option(help="Features that the nodes must have.")] = None,
    array: Annotated[Text, typer.Option(help="Seeds, such as 0-4, with one run each in RUN_DIR/seed0, …")] = None,
    dependency: Annotated[
        Text, typer.Option(help="Dependency such as afterany:4711, to resume after that job.")
    ] = None,
    launch: Annotated[Text, typer.Option(help="torchrun: one agent per node; srun: one task per rank.")] = None,
    container: Annotated[
        Text, typer.Option(metavar="IMAGE", help="Container image for pyxis, or a .sif file for apptainer.")
    ] = None,
    env_file: Annotated[
        Text, typer.Option(help="Shell file that sets environment variables when the job starts.")
    ] = None,
    stage: Annotated[
        Text, typer.Option(help="Folder on a local disk of each node, to which shards are copied.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="YAML file with these and further settings, see docs/how-to/slurm.md.")
    ] = None,
    allow_config_change: Annotated[
        bool, typer.Option("--allow-config-change", help="Resume although the config in the run folder differs.")
    ] = False,
    prepare: Annotated[
        int | None,
        typer.Option(
            metavar="PARTS",
            min=1,
            help="Prepare a dataset instead, with an array of this number of tasks: submit --prepare 16 … -- SOURCE "
            "DEST [OPTION]…, with the arguments of bigtrain data prepare after --.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the job and print the batch script without queueing it.")
    ] = False,
) -> None:
    """Queue a run on Slurm, where it is requeued until it is complete.

    A job that cannot run is refused at once.
    """
    from bigtrain.build import check
    from bigtrain.checkpoint import newest_description
    from bigtrain.config import load_training
    from bigtrain.core.config import dump_yaml
    from bigtrain.planning.micro_batch import remember_micro_batch
    from bigtrain.run.folder import check_run_folder
    from launch.slurm.script import JobRequest, render
    from launch.slurm.settings import load_settings
    from launch.slurm.submission import submit as hand_in

    ours = ("context", "config", "overrides", "container", "profile", "allow_config_change", "prepare", "dry_run")
    flags: dict[str, Any] = {name: value for name, value in context.params.items() if name not in ours}
    if container:
        flags["container"] = {"image": container, "runtime": "apptainer" if container.endswith(".sif") else "pyxis"}
    settings = load_settings(profile, flags)
    if prepare is not None:
        _prepare(settings, prepare, (config, *(overrides or ())), dry_run=dry_run)
        return
    loaded = remember_micro_batch(load_training(config, overrides or []))
    configs = _configs_of(loaded, settings)
    first, *others = configs.values()
    check(first, world_size=settings.world_size, allow_change=allow_config_change, cuda=settings.gpus > 0)
    for other in others:
        check_run_folder(other, allow_change=allow_config_change)
    folder = loaded.folder.absolute()
    newest = [newest_description(one.folder / "checkpoints") for one in configs.values()]
    save_took = max(float(about.get("seconds", 0.0)) for about in newest)
    request = JobRequest(folder.name, folder, Path.cwd(), loaded.data.paths, allow_config_change, save_took)
    if dry_run:
        typer.echo(render(settings, request), nl=False)
        return
    number = hand_in(settings, request, {task: dump_yaml(one) for task, one in configs.items()})
    _print_summary(number, settings, loaded)


def _prepare(settings: "SlurmConfig", parts: int, words: tuple[str, ...], *, dry_run: bool) -> None:
    """Queue the tasks that prepare a dataset's parts, and the job that finishes it."""
    from bigtrain.cli.data import parse_prepare
    from bigtrain.core.config import ConfigError
    from launch.slurm.preparing import PreparationRequest, render
    from launch.slurm.preparing import submit as hand_in

    dest, part = parse_prepare(words)
    if part is not None or settings.array is not None:
        raise ConfigError(f"submit --prepare {parts}: submits a job for each part; leave out --part and --array")
    request = PreparationRequest(words, dest.absolute(), Path.cwd(), parts)
    if dry_run:
        first, finish = render(settings, request, after="afterok:PARTS")
        typer.echo(f"{first}\n{finish}", nl=False)
        return
    number, finishing = hand_in(settings, request)
    typer.echo(f"job {number}: {parts} parts of {dest}; job {finishing} finishes it; output in {request.folder}")
    typer.echo(f"{'follow':<10}squeue --me; tail -f {shlex.quote(str(request.folder))}/*.out")
    typer.echo(f"{'cancel':<10}scancel {number} {finishing}; the same command resumes")


def _print_summary(number: str, settings: "SlurmConfig", config: "TrainingConfig") -> None:
    """Say what was queued, and the commands that people need next."""
    seeds = f", seeds {settings.array}" if settings.array else ""
    typer.echo(f"job {number}: {settings.nodes} x {settings.ranks} ranks{seeds}, run {config.folder}")
    run = shlex.quote(config.run_dir)
    typer.echo(f"{'follow':<10}bigtrain jobs; bigtrain logs {run} --follow")
    typer.echo(f"{'cancel':<10}bigtrain cancel {run}")
    typer.echo(f"{'resume':<10}bigtrain {shlex.join(sys.argv[1:])}")


def _configs_of(config: "TrainingConfig", settings: "SlurmConfig") -> dict[int | None, "TrainingConfig"]:
    """Return the config of each task of an array, which is a seed in a folder of its own; or the one that there is."""
    from launch.slurm.settings import tasks_of
    from launch.slurm.submission import folder_of_task

    if settings.array is None:
        return {None: config}
    tracking = config.tracking.model_copy(update={"parent": config.tracking.parent or config.folder.name})
    shared = config.model_copy(update={"tracking": tracking})
    return {
        task: shared.model_copy(update={"seed": task, "run_dir": str(folder_of_task(config.folder, task))})
        for task in tasks_of(settings.array)
    }
