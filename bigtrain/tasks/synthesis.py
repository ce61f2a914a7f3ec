"""Image synthesis: a generator against a discriminator, conditional on a class or not."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule, OptimizerConfig, Schedule
from bigtrain.core.state import Progress
from bigtrain.distributed.player import Phase, Player, Rivals, Stats
from bigtrain.models import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, ImageSpec
from bigtrain.objectives.adversarial import ADVERSARIAL, AdversarialName
from bigtrain.objectives.regularizers import r1_penalty
from bigtrain.tasks.base import Task


class ObjectiveConfig(Config):
    """What the players want.

    Attributes:
        adversarial: the game, see `objectives.adversarial`.
        r1_gamma: weight of the R1 penalty (gamma / 2 multiplies it); 0 for none.
        r1_interval: steps between two R1 penalties, which are then weighted by the interval ("lazy").
    """

    adversarial: AdversarialName = "non_saturating"
    r1_gamma: NonNegativeFloat = 0.0
    r1_interval: PositiveInt = 16


class OptimConfig(Config):
    """Adam for both players; two learning rates make it TTUR (Heusel et al. 2017).

    Attributes:
        lr_g: the generator's learning rate.
        lr_d: the discriminator's.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        clip_norm: bound on the L2 norm of a player's gradient.
        clip_value: bound on each element of the gradient.
    """

    lr_g: Schedule
    lr_d: Schedule
    beta1: Schedule = ConstantSchedule(value=0.0)
    beta2: Schedule = ConstantSchedule(value=0.99)
    eps: PositiveFloat = 1e-8
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None

    def adam(self, lr: Schedule) -> OptimizerConfig:
        """Return one player's optimizer."""
        return OptimizerConfig(
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
        )


class SynthesisConfig(Config):
    """The part of a run's config that this task reads."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig

    def networks(self) -> dict[str, GeneratorConfig | DiscriminatorConfig]:
        """Return the configs of all networks by their keys."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def build_task(
        self, image: ImageSpec, class_histogram: Sequence[int], *, seed: int, device: torch.device
    ) -> "SynthesisTask":
        """Build the task; see SynthesisTask for the arguments."""
        return SynthesisTask(self, image, class_histogram, seed=seed, device=device)


class GeneratorPlayer(Player):
    """G, moved by D's opinion of what it makes."""

    def __init__(self, network: Generator, objective: ObjectiveConfig) -> None:
        super().__init__()
        self.G = network
        self.game = ADVERSARIAL[objective.adversarial]

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return G's loss on one fake a sample of the batch, with that sample's label."""
        draws = batch.draws.of(phase.name)
        fake = self.G(draws.of("z").normal(self.G.z_dim), batch.label, draws=draws)
        logits = rivals["D"](fake, batch.label)
        loss = self.game.generator(logits).mean()
        return loss, {"loss/g_main": loss.detach(), "signs/fake": logits.detach().sign().mean()}


class DiscriminatorPlayer(Player):
    """D, moved by the difference between real and fake."""

    def __init__(self, network: Discriminator, objective: ObjectiveConfig) -> None:
        super().__init__()
        self.D = network
        self.game = ADVERSARIAL[objective.adversarial]

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return D's loss on the batch and as many fakes, with R1 folded in where it is due."""
        draws = batch.draws.of(phase.name)
        generator: Any = rivals["G"]
        with torch.no_grad():
            fake = generator(draws.of("z").normal(generator.z_dim), batch.label, draws=draws)
        real = batch.real.detach().requires_grad_("r1" in phase.values)
        real_logits, fake_logits = self.D(real, batch.label), self.D(fake, batch.label)
        loss = self.game.discriminator(real_logits, fake_logits).mean()
        stats = {
            "loss/d_main": loss.detach(),
            "logits/real_mean": real_logits.detach().mean(),
            "logits/fake_mean": fake_logits.detach().mean(),
            "signs/real": real_logits.detach().sign().mean(),
        }
        if "r1" in phase.values:
            penalty = r1_penalty(real_logits, real).mean()
            loss = loss + phase.values["r1"] * penalty
            stats["reg/r1"] = penalty.detach()
        return loss, stats


class SynthesisTask(Task):
    """One D step, then one G step, on each batch.

    Args:
        config: networks, objective, optimizers.
        image: what the data look like.
        class_histogram: number of training images of each class; empty when unconditional.
        seed: of everything random that is not tied to a training sample.
        device: where the networks live.
    """

    averaged = ("G", "G")

    def __init__(
        self,
        config: SynthesisConfig,
        image: ImageSpec,
        class_histogram: Sequence[int],
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._seed, self._device, self._objective = seed, device, config.objective
        self.generator_config = config.generator
        self._class_histogram = class_histogram or [1]
        self.players = {
            "D": DiscriminatorPlayer(config.discriminator.build(image), config.objective),
            "G": GeneratorPlayer(config.generator.build(image), config.objective),
        }
        for player in self.players.values():
            player.to(device).to(memory_format=torch.channels_last)
        self.optimizers = {"D": config.optim.adam(config.optim.lr_d), "G": config.optim.adam(config.optim.lr_g)}

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        r1_due = self._objective.r1_gamma > 0 and progress.step % self._objective.r1_interval == 0
        return (
            Phase(
                "d_main",
                player="D",
                values={"r1": self._objective.r1_gamma / 2 * self._objective.r1_interval} if r1_due else {},
            ),
            Phase("g_main", player="G"),
        )

    @torch.no_grad()
    def generate(self, generator: Generator, draws: Draws, *, label: Tensor | None = None) -> Tensor:
        """See Task."""
        if label is None:
            label = draws.of("label").categorical(self._class_histogram)
        image: Tensor = generator(draws.of("z").normal(generator.z_dim), label)
        return image

    def calibrate(self, generator: Generator) -> None:
        """See Task: 1,024 latents that depend on the run's seed alone."""
        draws = Draws(self._seed, torch.arange(1024, device=self._device), "calibrate")
        label = draws.of("label").categorical(self._class_histogram)
        generator.calibrate(draws.of("z").normal(generator.z_dim), label)

    @torch.no_grad()
    def judge(self, image: Tensor, label: Tensor) -> Tensor:
        """See Task."""
        D = self.players["D"].networks()["D"].eval()
        logits: Tensor = D(image, label)
        D.train()
        return logits
