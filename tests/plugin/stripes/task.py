"""A task with one player: a generator whose images have the mean and the variance of the real ones, pixel by pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bigtrain.config import TrainingConfig
from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.sampler import Networks
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, Task, TaskConfig, image_of
from bigtrain.models import GeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.samplers import TaskSampler


class MomentsConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        generator: of the images.
        variance: weight of the variance beside the mean.
    """

    generator: GeneratorConfig
    variance: float = 1.0

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig."""
        return {"G": NetworkSpec("generator", "generator", self.generator, (image_of(fields, "image"),))}

    def demands(self) -> Demands:
        """See TaskConfig."""
        return {"G": {}}

    def check_task(self, networks: Mapping[str, nn.Module], *, micro_batch: int) -> None:
        """See TaskConfig."""
        if micro_batch < 2:
            raise ValueError("micro_batch: one image has no variance; use 2 or more")

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "MomentsSampler":
        """See TaskConfig."""
        return MomentsSampler(inputs={}, outputs={"image": fields["image"]})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "MomentsTask":
        """See TaskConfig."""
        return MomentsTask(self, fields, device)


class MomentsTraining(MomentsConfig, TrainingConfig):
    """A run of this task."""

    task: Literal["moments"]


class Matcher(Player):
    """The generator and its loss."""

    def __init__(self, network: nn.Module, variance: float) -> None:
        super().__init__()
        self.G, self.variance = network, variance

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """See Player."""
        real, draws = batch["image"], batch.draws.of(phase.name)
        fake = self.G(draws.of("z").normal(self.G.z_dim), torch.zeros_like(draws.index))
        loss = (fake.mean(0) - real.mean(0)).square().mean()
        loss = loss + self.variance * (fake.var(0) - real.var(0)).square().mean()
        return loss, {"loss/g_main": loss.detach()}


@dataclass(frozen=True)
class MomentsSampler(TaskSampler):
    """Latents to images."""

    kind: ClassVar[str] = "moments"

    choices: ClassVar[frozenset[str]] = frozenset({"truncation"})

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """See TaskSampler."""
        G = networks["G"]
        return {"image": G(draws.of("z").normal(G.z_dim), torch.zeros_like(draws.index), **choices)}


class MomentsTask(Task):
    """One phase a step."""

    def __init__(self, config: MomentsConfig, fields: Fields, device: torch.device) -> None:
        self.specs = config.networks(fields)
        G = self.specs["G"].build_on(device)
        self.players = {"G": Matcher(G, config.variance)}
        self.optimizers, self.averaged = dict(config.optim), {"G": G}
        self.sampler = config.build_sampler(fields, {})

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        return [Phase("g_main", player="G")]
