"""The run folder: its config and environment, and the check that one folder holds one run."""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bigtrain.config import TrainingConfig, parse_training
from bigtrain.core.config import ConfigError, dump_yaml, flatten, read_yaml
from bigtrain.core.hardware import describe_hardware
from bigtrain.core.presence import LOCK, read_heartbeat, read_place
from bigtrain.core.signals import STOPPED, signal_of
from bigtrain.distributed.watchdog import HUNG
from bigtrain.run.failures import FOLDER as FAILURES
from bigtrain.run.failures import cause_of_failure, forget_failures
from bigtrain.tracking.events import EventLog, read_events
from data_pipelines.files import atomic_write, write_json
from data_pipelines.secrets import hide_secrets

_CONFIG, _ENVIRONMENT, _STOPPED = "config.yaml", "environment.json", "stopped.json"
_MISTAKE = 2
_EARLY = (LOCK, FAILURES, "slurm")
"""What may be in a folder before its run begins: `slurm` is what `bigtrain submit` needs."""
_FREE = ("run_dir", "profile")
"""Keys that may differ when a run goes on: they do not change what it computes."""
_PACKAGES = ("torch", "numpy", "mlflow", "pydantic", "safetensors", "bigtrain")


def check_run_folder(config: TrainingConfig, *, allow_change: bool) -> None:
    """See that the folder is new, or holds a run of this config.

    Raises:
        ConfigError: it holds a run of another config, or something else.
    """
    folder = Path(config.run_dir)
    saved = folder / _CONFIG
    if not saved.is_file():
        if folder.exists() and (not folder.is_dir() or any(path.name not in _EARLY for path in folder.iterdir())):
            raise ConfigError(f"{folder}: exists and is not a run folder; choose another run_dir")
        return
    changes = _differences(read_yaml(saved), config.model_dump(mode="json"))
    if changes and not allow_change:
        raise ConfigError(
            f"{folder}: contains a run with another config ({'; '.join(changes)}); "
            "choose another run_dir, or continue with --allow-config-change"
        )


def digest_of(config: TrainingConfig) -> str:
    """Return the SHA-256 of a resolved config."""
    return hashlib.sha256(dump_yaml(config).encode()).hexdigest()


def open_run_folder(config: TrainingConfig) -> Path:
    """Make the folder and write the resolved config and what the run runs on."""
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / _CONFIG) as file:
        file.write(dump_yaml(config).encode())
    write_json(folder / _ENVIRONMENT, environment())
    forget_stop(folder)
    _keep_cause(folder)
    forget_failures(folder)
    return folder


def _keep_cause(folder: Path) -> None:
    """Note in the run's events what the ranks failed of, before it is forgotten, unless the launcher has noted it."""
    cause = cause_of_failure(folder, world_size=read_place(folder).get("world_size", 1))
    if cause is not None and [event["event"] for event in read_events(folder)[-1:]] != ["restart"]:
        who = "" if cause["rank"] is None else f"rank {cause['rank']}: "
        EventLog(folder).append("failed", cause=f"{who}{cause['error']}".partition("\n")[0])


def mark_stopped(folder: Path, *, signal: str, samples_seen: int, by_signal: bool = True) -> None:
    """Leave word that the run was stopped and has saved its state; whoever launched it reads this.

    Args:
        folder: the run folder.
        signal: what stopped it, in words.
        samples_seen: where.
        by_signal: whether it was asked from outside, and so may be started again without thinking.
    """
    write_json(folder / _STOPPED, {"signal": signal, "samples_seen": samples_seen, "by_signal": by_signal})


def forget_stop(folder: Path) -> None:
    """Take back what `mark_stopped` left: the run is started again."""
    (folder / _STOPPED).unlink(missing_ok=True)


def read_stopped(folder: Path) -> dict[str, Any] | None:
    """Return what `mark_stopped` wrote since the run was last started, or None."""
    path = folder / _STOPPED
    return json.loads(path.read_text()) if path.is_file() else None


def how_it_ended(
    config: TrainingConfig, exit_code: int, asked: str | None = None, *, since: float = 0.0
) -> tuple[str, int]:
    """Say in words, for the terminal, how a run ended and where its results are.

    Args:
        config: of the run.
        exit_code: of its launcher.
        asked: name of the signal by which somebody asked the launcher to stop; None where a second one forced its end.
        since: when the command began (UNIX time): the run may have been there before.

    Returns:
        The words, and the exit code that fits them: 3 for a run that was stopped and has saved its state.
    """
    folder = Path(config.run_dir)
    stopped = read_stopped(folder)
    if stopped:
        kimg = stopped["samples_seen"] / 1000
        return (
            f"stopped by {stopped['signal']} at kimg {kimg:.1f}, all saved; the same command resumes",
            STOPPED,
        )
    by = signal_of(exit_code) or (asked if exit_code not in (0, _MISTAKE) else None)
    if by and [event["event"] for event in read_events(folder)[-1:]] == ["complete"]:
        exit_code = 0  # it came when all was done
    elif by and read_heartbeat(folder).get("time", 0.0) < since:
        return f"stopped by {asked or by} before training began; the same command starts it", STOPPED
    elif by:
        cause = cause_of_failure(folder, world_size=read_place(folder).get("world_size", 1))
        failed = "" if cause is None else " (it failed: " + cause["error"].partition("\n")[0][:200] + ")"
        words = f"stopped by {asked or by} while it was starting or ending{failed}"
        return f"{words}; the same command resumes from the last checkpoint", STOPPED
    if exit_code == HUNG:
        return f"hung, and was ended; see {folder / 'hangs'}; the same command resumes from the last checkpoint", HUNG
    if exit_code:
        return f"failed with exit code {exit_code}; the run folder is {folder}", exit_code
    snapshot = max((folder / "snapshots").iterdir())
    grids = sorted((folder / "images" / "samples").glob("*.png"))
    lines = [f"{'samples':<10}{grids[-1]}"] if grids else []
    lines += [f"{'snapshot':<10}{snapshot}", f"{'curves':<10}{folder / 'curves.png'}"]
    roles = {spec.role for spec in config.networks(config.data.field_specs()).values()}
    more = f"sample {snapshot} --seeds 0-63 --out grid.png"
    given = "FILMS" if any(spec.kind == "video" for spec in config.data.field_specs().values()) else "IMAGES"
    more = f"apply {snapshot} {given} --out translated" if "translator" in roles else more
    more = f"apply {snapshot} IMAGES --style IMAGE --out stylised" if "styliser" in roles else more
    lines += [f"{'more':<10}{_command('bigtrain')} {more}"]
    if config.tracking.mlflow:
        uri = json.loads((folder / "mlflow.json").read_text())["uri"] if (folder / "mlflow.json").is_file() else None
        lines += [f"{'MLflow':<10}{_command('mlflow')} ui --backend-store-uri {uri}"] if uri else []
    return "\n".join(lines), 0


def _command(name: str) -> str:
    """Return how to call a command of this environment from here: by name where the shell finds it."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def environment() -> dict[str, Any]:
    """Return the code version, package versions and machine."""
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "command": hide_secrets(" ".join(sys.argv)),
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "hardware": describe_hardware(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
    }


def environment_tags() -> dict[str, str]:
    """Return what MLflow's runs are searched by, and what its table of runs has columns for."""
    facts = environment()
    tags = {
        "git.commit": facts["git_commit"],
        "git.dirty": facts["git_dirty"],
        "host": facts["host"],
        "slurm.job_id": facts["slurm_job_id"],
        "slurm.restarts": os.environ.get("SLURM_RESTART_COUNT"),
        "slurm.array_task_id": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "mlflow.user": _user(),
        "command": facts["command"],
        "mlflow.source.name": "bigtrain train",
        "mlflow.source.type": "JOB" if facts["slurm_job_id"] else "LOCAL",
        "mlflow.source.git.commit": facts["git_commit"],
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _user() -> str | None:
    """Return who runs this; a container may not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that this code runs from; None where it is not one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Compare a saved config with a new one; keys that came up since it was written have had their defaults."""
    with contextlib.suppress(ConfigError):
        old = parse_training(old, source=_CONFIG).model_dump(mode="json")
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in _FREE
    ]
