"""Render the batch script: every value is quoted by the template's engine, so that none is ever run."""

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bigtrain.core.config import ConfigError
from launch.slurm.settings import SlurmConfig

TEMPLATES = Path(__file__).parents[2] / "slurm"
_TEMPLATE = "train.sbatch.j2"
_SHARED_OPTIONS = ("partition", "account", "qos", "constraint", "time", "mem", "array", "dependency")


@dataclass(frozen=True)
class JobRequest:
    """What a batch script is written for.

    Attributes:
        name: of the job.
        run: the run's folder; an array's tasks have theirs in it, `seed0`, `seed1`, …
        here: where paths in the config begin.
        data: the datasets' places.
        allow_config_change: see `bigtrain train`.
        save_took: seconds that the run's newest checkpoint took to write; 0 if there is none.
    """

    name: str
    run: Path
    here: Path
    data: tuple[str, ...]
    allow_config_change: bool = False
    save_took: float = 0.0


class _Bash(str):
    """A piece of the script that is ours, and is not quoted."""


def render(settings: SlurmConfig, request: JobRequest) -> str:
    """Return the batch script.

    Raises:
        ConfigError: a value that cannot stand in a batch script.
    """
    settings = settings.for_run(request.save_took)
    folder = str(request.run).replace("%", "%%")
    data = {Path(place).absolute() for place in request.data if "://" not in place}
    return render_template(
        _TEMPLATE,
        settings,
        name=request.name,
        run=str(request.run),
        here=str(request.here),
        options=options_of(settings),
        output=f"{folder}/seed%a/slurm/job-%A_%a.out" if settings.array else f"{folder}/slurm/job-%j.out",
        container_words=container_words(settings, {request.here, request.run, *data}, request.here),
        task_words=_task(settings, request),
        allow_config_change=request.allow_config_change,
    )


def render_template(template: str, settings: SlurmConfig, *, output: str, here: str, **values: Any) -> str:
    """Return a template of `slurm/` with a job's settings and further values in it.

    Raises:
        ConfigError: a value that cannot stand in a batch script.
    """
    if "\\" in f"{output}{here}":
        raise ConfigError(f"submit: {output}: Slurm cannot write into a folder with a backslash in its path")
    engine = Environment(  # noqa: S701 - no HTML
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.filters |= {"directive": _directive, "words": lambda words: _Bash(" ".join(map(_quote, words)))}
    more_options = [_Bash(_quote_option(option)) for option in settings.sbatch]
    known = settings.model_dump(exclude={"sbatch", *values})
    return engine.get_template(template).render(**known, **values, output=output, here=here, more_options=more_options)


def options_of(settings: SlurmConfig) -> list[tuple[str, str]]:
    """Return what the job asks Slurm for."""
    agents = settings.launch == "torchrun"
    cpus = settings.cores * (settings.ranks if agents else 1)
    gpus = f"{settings.gpu_type}:{settings.gpus_per_node}" if settings.gpu_type else str(settings.gpus_per_node)
    options = {
        "nodes": str(settings.nodes),
        "ntasks-per-node": str(1 if agents else settings.ranks),
        "cpus-per-task": str(cpus),
        **({"gpus-per-node": gpus} if settings.gpus_per_node else {}),
        **{name: getattr(settings, name) for name in _SHARED_OPTIONS},
    }
    return [(name, value) for name, value in options.items() if value is not None]


def _task(settings: SlurmConfig, request: JobRequest) -> list[str]:
    """Return what srun runs on each node, or for each rank."""
    own = settings.python or ("python" if settings.venv or settings.conda or settings.container else sys.executable)
    task = [own, "-m", "launch.slurm.task", f"--form={settings.launch}", f"--ranks-per-node={settings.ranks}"]
    task += [f"--save-seconds={settings.save_seconds}"]
    task += [f"--threads={settings.cores}"]
    task += [f"--interface={settings.interface}"] if settings.interface else []
    task += [f"--stage={settings.stage}", *(f"--data={place}" for place in request.data)] if settings.stage else []
    return task


def container_words(settings: SlurmConfig, places: Iterable[Path], here: Path) -> list[str]:
    """Return what stands before a task that runs in a container: options of srun, or another program.

    Args:
        settings: of the job.
        places: folders that the task needs, besides those that the settings mount.
        here: where it runs.

    Raises:
        ConfigError: a folder that cannot be mounted.
    """
    container = settings.container
    if container is None:
        return []
    for place in (found := set(places)):
        if divided := {":", ","} & set(str(place)):
            raise ConfigError(
                f"submit: {place}: a container cannot mount a folder with {divided.pop()!r} in its path; rename it, or "
                "use a symbolic link"
            )
    mounts = [f"{place}:{place}" for place in sorted(map(str, found))] + list(container.mounts)
    if container.runtime == "pyxis":
        options = [f"--container-image={container.image}", f"--container-mounts={','.join(mounts)}"]
        return [*options, f"--container-workdir={here}"]
    bound = [word for mount in mounts for word in ("--bind", mount)]
    gpus = ["--nv"] if settings.gpus else []
    return ["apptainer", "exec", *gpus, *bound, "--pwd", str(here), container.image]


def _quote_option(option: str) -> str:
    """Quote the value of an option such as `--gres=gpu:8`; a bare one has none."""
    name, separator, value = option.partition("=")
    if not name.startswith("-") or shlex.quote(name) != name:
        raise ConfigError(f"submit: sbatch {option!r}: write an option of sbatch, such as --exclusive")
    return f"{name}={_directive(value)}" if separator else name


def _directive(value: str) -> _Bash:
    """Quote for a line that begins with #SBATCH, which sbatch reads by rules of its own: a backslash always escapes."""
    return _Bash(_quote(value.replace("\\", "\\\\")))


def _quote(value: Any) -> str:
    if isinstance(value, _Bash):
        return value
    text = str(value)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ConfigError(f"submit: {text!r}: a batch script cannot contain line breaks or control characters")
    return shlex.quote(text)
