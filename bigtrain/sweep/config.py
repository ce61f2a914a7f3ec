"""The config of a sweep: base config, search space, searcher, scheduler and budget."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from bigtrain.core.config import Config
from bigtrain.sweep.metric import MetricConfig
from bigtrain.sweep.presets import PresetName
from bigtrain.sweep.schedulers import AnyScheduler, NoScheduler
from bigtrain.sweep.searchers import AnySearcher, RandomSearch
from bigtrain.sweep.space import AnyParameter


class BudgetConfig(Config):
    """Limits of a sweep.

    Attributes:
        trials: number of trials of the search, with the base config as the first one. Each is trained for at most the
            base config's `total_kimg`.
        hours: after this time, one call of the command stops all trials, as a signal does; null for no limit.
    """

    trials: PositiveInt
    hours: PositiveFloat | None = None


class FinalistsConfig(Config):
    """Repetition of the best settings with other seeds.

    Attributes:
        count: number of settings, besides the base config.
        seeds: seeds of the repetitions.
    """

    count: PositiveInt = 2
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class TrialConfig(Config):
    """Resources of one trial.

    Attributes:
        nproc: number of ranks.
        cpus: CPU cores that Ray reserves for a trial, which may be a fraction; `node` for all cores of a node.
        gpus: GPUs that Ray reserves for a trial, which may be a fraction.
        retries: how often a trial that fails is resumed from its last checkpoint.
        at_once: maximum number of trials that run at the same time; null for as many as fit.
        memory_gib: memory in GiB that Ray reserves for a trial; null for none.
    """

    nproc: PositiveInt = 1
    cpus: PositiveFloat | Literal["node"] = 1.0
    gpus: NonNegativeFloat = 0.0
    retries: NonNegativeInt = 2
    at_once: PositiveInt | None = None
    memory_gib: PositiveFloat | None = None


class RayBackend(Config):
    """Trials are processes on the nodes of a Ray cluster: this machine, or the cluster at $RAY_ADDRESS."""

    kind: Literal["ray"] = "ray"


class SlurmBackend(Config):
    """Each trial is a Slurm job on one or more nodes, which do not run Ray; see docs/how-to/slurm.md.

    Attributes:
        profile: YAML file with settings of the jobs, as for `bigtrain submit --profile`.
        settings: settings of the jobs, which override those of the profile; a node has `trial.nproc` ranks.
    """

    kind: Literal["slurm"]
    profile: str | None = None
    settings: dict[str, Any] = Field(default={})

    @property
    def nodes(self) -> int:
        """Nodes of a job."""
        return int(self.settings.get("nodes", 1))


class SweepConfig(Config):
    """A sweep.

    Attributes:
        base: YAML file of the base training config.
        overrides: values that all trials change in the base config, nested or with dotted keys.
        sweep_dir: folder of the sweep, with the run folders of its trials; the sweep is named after it.
        seed: seed of the search and of all its trials.
        presets: names of predefined search spaces: ttur, r1, ttur_r1, ada, ema.
        space: parameters by dotted key of the training config; they override those of the presets.
        constraints: conditions on values, such as `optim.D.lr >= optim.G.lr`.
        metric: metric by which trials are compared.
        scheduler: rule that stops trials early, or PBT.
        searcher: search algorithm.
        budget: limits of the sweep.
        finalists: repetition of the best settings with other seeds; null for none.
        trial: resources of one trial.
        backend: where trials run.
        publish_seconds: seconds between two reports of the sweep to MLflow; there is always one at the end.
        champion: whether the winner's registered model gets the alias `champion`.
    """

    base: str
    overrides: dict[str, Any] = Field(default={})
    sweep_dir: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    presets: tuple[PresetName, ...] = ()
    space: dict[str, AnyParameter] = Field(default={})
    constraints: tuple[str, ...] = ()
    metric: MetricConfig = MetricConfig()
    scheduler: AnyScheduler = NoScheduler()
    searcher: AnySearcher = RandomSearch()
    budget: BudgetConfig
    finalists: FinalistsConfig | None = None
    trial: TrialConfig = TrialConfig()
    backend: Annotated[RayBackend | SlurmBackend, Field(discriminator="kind")] = RayBackend()
    publish_seconds: PositiveFloat = 300.0
    champion: bool = False

    @field_validator("sweep_dir")
    @classmethod
    def _is_a_name(cls, folder: str) -> str:
        if not Path(folder).name:
            raise ValueError("name a folder")
        return folder

    @property
    def folder(self) -> Path:
        """Folder of the sweep."""
        return Path(self.sweep_dir)
