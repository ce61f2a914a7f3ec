"""The config of a sweep: a base config, a space around it, who searches, who goes on, and for how long."""

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
    """How much.

    Attributes:
        trials: of the search, the base config's included, which is the first; each may see the base's `total_kimg`.
        hours: after which one call of the command stops all, as a signal does; null for no limit.
    """

    trials: PositiveInt
    hours: PositiveFloat | None = None


class FinalistsConfig(Config):
    """The best settings once more, from other seeds.

    Attributes:
        count: of settings; the base config is one more.
        seeds: of the repetitions.
    """

    count: PositiveInt = 2
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class TrialConfig(Config):
    """What one trial takes.

    Attributes:
        nproc: ranks.
        cpus: cores that are set aside for it, or a part of one; `node` for all of a node.
        gpus: GPUs likewise.
        retries: how often a trial that fails goes on from its last checkpoint.
        at_once: trials at a time, at most; null for as many as fit.
        memory_gib: set aside for it; null for none.
    """

    nproc: PositiveInt = 1
    cpus: PositiveFloat | Literal["node"] = 1.0
    gpus: NonNegativeFloat = 0.0
    retries: NonNegativeInt = 2
    at_once: PositiveInt | None = None
    memory_gib: PositiveFloat | None = None


class RayBackend(Config):
    """Trials are processes on the nodes of a Ray cluster: this machine's, or that of $RAY_ADDRESS."""

    kind: Literal["ray"] = "ray"


class SlurmBackend(Config):
    """Each trial is a Slurm job of its own, on one or more nodes, none of which runs Ray; see docs/slurm.md.

    Attributes:
        profile: YAML file of what a job asks for, as `bigtrain submit --profile` takes it.
        settings: the same, here, and before the profile's. Ranks of a node are `trial.nproc`.
    """

    kind: Literal["slurm"]
    profile: str | None = None
    settings: dict[str, Any] = Field(default={})

    @property
    def nodes(self) -> int:
        """Of a job."""
        return int(self.settings.get("nodes", 1))


class SweepConfig(Config):
    """A sweep.

    Attributes:
        base: YAML file of the training config that everything starts from.
        overrides: what all trials change in it, nested or dotted.
        sweep_dir: the sweep's folder, with the trials' run folders in it; its name is the sweep's.
        seed: of all trials and of the search.
        presets: spaces by name: ttur, r1, ttur_r1, ada, ema.
        space: parameters by dotted key of the training config, which go before those of presets.
        constraints: such as `optim.D.lr >= optim.G.lr`.
        metric: what trials are judged by.
        scheduler: who goes on.
        searcher: where points come from.
        budget: how much.
        finalists: the best from other seeds; null for none.
        trial: what one trial takes.
        backend: where trials run.
        publish_seconds: between two reports of the sweep to MLflow; the end has one in any case.
        champion: give the winner's registered model the alias `champion`.
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
        """The sweep's folder."""
        return Path(self.sweep_dir)
