"""What a job asks Slurm for: the site's defaults, a profile, and the command line, each over the one before."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from bigtrain.core.config import Config, ConfigError, parse_config, read_yaml
from data_pipelines.files import in_home
from data_pipelines.secrets import hide_secrets

_SITE_IN_REPO = Path("slurm/site.yaml")
_SECRET = re.compile(r"(?i)password|secret|token|api_?key")
_SAVE_SECONDS = 120
_SAVES = 3
"""How many times the time of a measured save a run has to save: the step before it ends first, and disks are busy."""
_GPUS = re.compile(
    r"--gres=(?:[^,]+,)*(?:gres[:/])?gpu(?::[A-Za-z][\w.-]*)?(?::(?P<gres>\d+))?(?:[,(].*)?|--gpus-per-node=(?:[\w.-]+:)?(?P<gpus>\d+)"
)
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")

CORES_OF_A_GPU = 8


class ContainerConfig(Config):
    """The container that the ranks run in; the batch script itself runs outside.

    Attributes:
        image: image as the runtime expects it: `nvcr.io#nvidia/pytorch:26.01-py3`, or a file.
        runtime: `pyxis` is NVIDIA's plugin of srun, with enroot; `apptainer` also reads .sif files.
        mounts: mounts as `OUTSIDE:INSIDE`; the working directory, the run folder and the dataset are always mounted.
    """

    image: str
    runtime: Literal["pyxis", "apptainer"] = "pyxis"
    mounts: tuple[str, ...] = ()


class SlurmConfig(Config):
    """A job; `sbatch` describes the keys that it shares with it.

    Attributes:
        nodes: number of nodes.
        gpus_per_node: number of GPUs per node, which is also the number of ranks; 0 if `sbatch` requests them, as in
            `--gres=gpu:8`.
        gpu_type: name of the GPU type at the site, such as `h100`.
        ranks_per_node: number of ranks per node; null for one per GPU, or for one if there is no GPU.
        cpus_per_task: number of cores per rank; null for 8 if it has a GPU (two launch kernels, NCCL and the checkpoint
            writer use others, the rest read and decode), and otherwise for one.
        time: time limit of the job, after which it is requeued; null for that of the partition.
        array: seeds, such as `0-4`, with one run each.
        dependency: dependency such as `afterany:4711`, to resume in the same run folder after that job.
        launch: `torchrun` starts one agent per node, `srun` one task per rank.
        venv: folder of a virtual environment.
        conda: name or folder of a conda environment.
        modules: environment modules to load.
        python: the interpreter; null for that of the environment, or otherwise the one that submits.
        container: container in which the ranks run.
        env: environment variables to set.
        env_file: a shell file that sets environment variables; it is read when the job starts, and is the place for
            passwords.
        interface: network interface for the ranks' messages; null for the one through which a node reaches the first
            node.
        stage: folder on a local disk of each node, to which shards are copied before training.
        save_seconds: how long before the time limit the ranks are asked to save; null for 120, or for three times what
            the newest checkpoint of the run took, if that is more.
        max_requeues: maximum number of requeues of a job; null for no limit.
        max_vain_requeues: maximum number of consecutive requeues without a new checkpoint.
        sbatch: further options of sbatch, such as `--exclusive`.
    """

    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    gpu_type: str | None = None
    ranks_per_node: PositiveInt | None = None
    cpus_per_task: PositiveInt | None = None
    mem: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array: str | None = None
    dependency: str | None = None
    launch: Literal["torchrun", "srun"] = "torchrun"
    venv: str | None = None
    conda: str | None = None
    modules: tuple[str, ...] = ()
    python: str | None = None
    container: ContainerConfig | None = None
    env: dict[str, str] = Field(default_factory=dict)
    env_file: str | None = None
    interface: str | None = None
    stage: str | None = None
    save_seconds: Annotated[int, Field(ge=5)] | None = None
    max_requeues: NonNegativeInt | None = None
    max_vain_requeues: PositiveInt = 5
    sbatch: tuple[str, ...] = ()

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, time: str | None) -> str | None:
        seconds_of(time or "1")
        return time

    @field_validator("array")
    @classmethod
    def _is_an_array(cls, array: str | None) -> str | None:
        tasks_of(array or "0")
        return array

    @field_validator("env")
    @classmethod
    def _has_names(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not a valid name of a variable")
        return env

    @field_validator("env")
    @classmethod
    def _holds_no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if _SECRET.search(name) or hide_secrets(value) != value:
                raise ValueError(
                    f"{name} looks like a secret, and would be written into the batch script; set it in env_file"
                )
        return env

    @field_validator("container")
    @classmethod
    def _has_mounts(cls, container: ContainerConfig | None) -> ContainerConfig | None:
        for mount in container.mounts if container else ():
            if "," in mount or not 1 <= mount.count(":") <= 2:
                raise ValueError(f"mounts: {mount!r}: write OUTSIDE:INSIDE, or OUTSIDE:INSIDE:ro, without a comma")
        return container

    def for_run(self, save_took: float) -> Self:
        """Return the settings of a run of which a checkpoint took so many seconds to write; 0 for a new one.

        Raises:
            ConfigError: the time of the job leaves nothing beside saving.
        """
        seconds = self.save_seconds or max(_SAVE_SECONDS, math.ceil(_SAVES * save_took))
        if self.time and seconds_of(self.time) < 2 * seconds:
            raise ConfigError(f"submit: a time of {self.time} leaves nothing beside save_seconds {seconds}")
        return self.model_copy(update={"save_seconds": seconds})

    @property
    def gpus(self) -> int:
        """GPUs of a node, also where the site takes them as `sbatch: ["--gres=gpu:8"]` only."""
        found = filter(None, map(_GPUS.fullmatch, self.sbatch))
        asked = [int(match["gres"] or match["gpus"] or 1) for match in found]
        return self.gpus_per_node or max(asked, default=0)

    @property
    def ranks(self) -> int:
        """Ranks of a node."""
        return self.ranks_per_node or max(self.gpus, 1)

    @property
    def cores(self) -> int:
        """Cores of a rank."""
        return self.cpus_per_task or (CORES_OF_A_GPU if self.gpus else 1)

    @property
    def world_size(self) -> int:
        """Ranks of the job."""
        return self.nodes * self.ranks


def load_settings(profile: Path | None, flags: Mapping[str, Any]) -> SlurmConfig:
    """Put the site's defaults, a profile and the command line together.

    Args:
        profile: a YAML file; the site's defaults are `~/.config/bigtrain/slurm.yaml`, or else `slurm/site.yaml` here.
        flags: from the command line; None where one was not given.

    Raises:
        ConfigError: no such file, an unknown key, a value that Slurm would not take.
    """
    values: dict[str, Any] = {}
    for path in [*_site_file(), *([profile] if profile else [])]:
        found = read_yaml(path)
        parse_config(SlurmConfig, found, source=str(path))  # so that the message names the file
        values |= found
    values |= {name: value for name, value in flags.items() if value is not None}
    settings = parse_config(SlurmConfig, values, source="submit")
    if settings.gpus and settings.ranks > settings.gpus:
        raise ConfigError(f"submit: {settings.ranks} ranks a node, but {settings.gpus} GPUs: use one rank per GPU")
    settings.for_run(0.0)
    if settings.venv and settings.conda:
        raise ConfigError("submit: set venv or conda, not both")
    for name in ("env_file", "venv"):
        value = getattr(settings, name)
        if value and not Path(value).exists():
            raise ConfigError(f"submit: {name} {value}: no such file")
    return settings


def seconds_of(time: str) -> int:
    """Read a time as Slurm does: `MIN`, `MIN:SEC`, `H:MIN:SEC`, `D-H`, `D-H:MIN`, `D-H:MIN:SEC`.

    Raises:
        ValueError: it is none of these.
    """
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"{time!r} is not a time: write 30, 24:00:00 or 2-12:00:00")
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is None:
        hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
        return 3600 * hours + 60 * minutes + seconds
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return 86400 * int(match["days"]) + 3600 * hours + 60 * minutes + seconds


def tasks_of(array: str) -> list[int]:
    """Return the numbers of an array's tasks: `0-4`, `1,5,7`, `0-15:4`, each perhaps with `%N` at once.

    Raises:
        ValueError: it is no such list.
    """
    tasks: list[int] = []
    for part in array.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is None:
            raise ValueError(f"{array!r} is not an array: write 0-4, or 1,5,7, or 0-9%2 for two at once")
        first = int(match[1])
        tasks += range(first, int(match[2] or first) + 1, int(match[3] or 1))
    return tasks


def _site_file() -> list[Path]:
    own = in_home(os.environ.get("XDG_CONFIG_HOME", "~/.config")) / "bigtrain" / "slurm.yaml"
    return [path for path in (own, _SITE_IN_REPO) if path.is_file()][:1]
