"""Submit a run: freeze its config, write the batch script, have Slurm check it, queue it, and note the job down."""

from collections.abc import Mapping
from pathlib import Path

from bigtrain.core.config import ConfigError
from launch.slurm import client
from launch.slurm.job_log import FOLDER, JobLog
from launch.slurm.script import JobRequest, render
from launch.slurm.settings import SlurmConfig

SCRIPT, CONFIG = "train.sbatch", "config.yaml"


def folder_of_task(run: Path, task: int) -> Path:
    """Return the run folder of an array's task; the batch script knows it by the same name."""
    return run / f"seed{task}"


def submit(settings: SlurmConfig, request: JobRequest, configs: Mapping[int | None, str]) -> str:
    """Queue a job; return its number.

    Args:
        settings: what it asks for.
        request: what it is for.
        configs: the YAML of each task of an array, or of None.

    Raises:
        ConfigError: a job of this folder is alive, and the new one does not wait for it.
        SlurmError: Slurm refuses, or could never run it; then nothing is queued.
    """
    logs = {task: JobLog(request.run if task is None else folder_of_task(request.run, task)) for task in configs}
    if settings.dependency is None:
        _refuse_a_second_job(list(logs.values()))
    text = render(settings, request)
    client.check_request(text)
    script = request.run / FOLDER / SCRIPT
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text)
    for task, config in configs.items():
        logs[task].folder.mkdir(parents=True, exist_ok=True)
        (logs[task].folder / CONFIG).write_text(config)
    number = client.submit(script)
    for task, log in logs.items():
        log.note_submission(number if task is None else f"{number}_{task}", nodes=settings.nodes, ranks=settings.ranks)
    return number


def _refuse_a_second_job(logs: list[JobLog]) -> None:
    queue = client.queue()
    for log in logs:
        for one in log.jobs(queue):
            if one.is_alive:
                raise ConfigError(
                    f"{log.run}: job {one.number} is {one.state} here; cancel it (bigtrain cancel {log.run}), or "
                    f"queue after it (--dependency afterany:{one.number.split('_')[0]})"
                )
