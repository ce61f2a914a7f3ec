"""Image synthesis: a generator against a discriminator, conditional on a class or not."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from bigtrain.augment import AugmentConfig, NoAugmentConfig
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule, LrScaling, OptimizerConfig, Schedule
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Rivals
from bigtrain.models import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, ImageSpec
from bigtrain.models.initialise import build_network
from bigtrain.strategies import Capability, Demands
from bigtrain.tasks.base import Task
from bigtrain.tasks.compiled import Compiler
from bigtrain.tasks.objective import ObjectiveConfig
from bigtrain.tasks.players import DiscriminatorPlayer, GeneratorPlayer, Glasses
from bigtrain.tasks.terms import Setting, Term


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
        scale_lr: how the learning rates follow the global batch, for example `{rule: sqrt, batch: 256}`; null leaves
            them.
    """

    lr_g: Schedule
    lr_d: Schedule
    beta1: Schedule = ConstantSchedule(value=0.0)
    beta2: Schedule = ConstantSchedule(value=0.99)
    eps: PositiveFloat = 1e-8
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    scale_lr: LrScaling | None = None

    def adam(self, lr: Schedule, *, weight_limit: float | None = None) -> OptimizerConfig:
        """Return one player's optimizer."""
        return OptimizerConfig(
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            weight_limit=weight_limit,
            scale_lr=self.scale_lr,
        )


class SynthesisConfig(Config):
    """The part of a run's config that this task reads.

    Attributes:
        compile: run G and D through `torch.compile` in the phases that differentiate no gradient.
    """

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    augment: AugmentConfig = NoAugmentConfig()
    optim: OptimConfig
    compile: bool = False

    def networks(self) -> dict[str, GeneratorConfig | DiscriminatorConfig]:
        """Return the configs of all networks by their keys."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def demands(self) -> Demands:
        """Return what the objective asks of each player's strategy, and the key that asks it."""
        terms: dict[str, Mapping[str, Term]] = {
            "G": self.objective.generator_terms(),
            "D": self.objective.discriminator_terms(),
        }
        demands: dict[str, dict[Capability, str]] = {player: {} for player in terms}
        for player, chosen in terms.items():
            second_order = [f"objective.terms.{name}" for name, term in chosen.items() if term.second_order]
            if second_order:
                demands[player]["double_backward"] = " and ".join(second_order)
        return demands

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """Find out whether the objective fits its surroundings.

        Args:
            networks: built, perhaps without data, by the keys of `networks()`.
            micro_batch: samples that are computed together.

        Raises:
            ValueError: it does not, with the key and the reason.
        """
        self.objective.check(Setting(networks["generator"], networks["discriminator"], micro_batch))
        if self.compile:
            self._check_compile()
        if self.augment.probability.kind == "adaptive" and self.objective.game.neutral is None:
            raise ValueError(
                f"augment.probability 'adaptive' follows the sign of D(x), and with '{self.objective.adversarial}' "
                "that means nothing: use a fixed probability"
            )

    def _check_compile(self) -> None:
        terms = {**self.objective.discriminator_terms()}
        eager = [name for name, term in terms.items() if term.second_order and term.interval == 1]
        if eager:
            raise ValueError(
                f"compile: objective.terms.{eager[0]} differentiates a gradient in every one of D's steps, and what "
                f"is compiled has no second derivative: use an interval, such as objective.terms.{eager[0]}.interval=16"
            )

    def build_task(
        self, image: ImageSpec, class_histogram: Sequence[int], *, seed: int, device: torch.device
    ) -> "SynthesisTask":
        """Build the task; see SynthesisTask for the arguments."""
        return SynthesisTask(self, image, class_histogram, seed=seed, device=device)


class SynthesisTask(Task):
    """D's steps, each on a fresh batch, then one G step.

    Args:
        config: networks, objective, augmentation, optimizers.
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
        self.batches_per_step = config.objective.n_critic
        self.group = getattr(config.discriminator, "mbstd_group", 1)
        self._probability = config.augment.probability.build(device)
        self._averages = Averages(device)
        self._glasses = Glasses(config.augment.build(), self._probability)
        compiler = Compiler(active=config.compile)
        shared = (config.objective, self._glasses, self._averages, compiler)
        self.players = {
            "D": DiscriminatorPlayer(build_network(config.discriminator, image, device), *shared),
            "G": GeneratorPlayer(build_network(config.generator, image, device), *shared),
        }
        for player in self.players.values():
            player.to(device).to(memory_format=torch.channels_last)
        self.optimizers = {
            "D": config.optim.adam(config.optim.lr_d, weight_limit=config.objective.weight_clip),
            "G": config.optim.adam(config.optim.lr_g),
        }

    def before_step(self, progress: Progress) -> None:
        """See Task: networks that grow do so together."""
        for player in self.players.values():
            for network in player.networks().values():
                if isinstance(network, Generator | Discriminator):
                    network.grow(progress.samples_seen)

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        return self._objective.phases(progress)

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """See Task: what steers the terms moves, then the probability of augmentation."""
        self._averages.move()
        self._probability.update(self._averages["signs/real"], progress)
        return {"augment/p": self._probability.p}

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task."""
        return {"averages": self._averages, "augment": self._probability}

    @torch.no_grad()
    def labels(self, draws: Draws) -> Tensor:
        """See Task."""
        return draws.of("label").categorical(self._class_histogram)

    @torch.no_grad()
    def generate(
        self, generator: Generator, draws: Draws, *, label: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        """See Task."""
        label = self.labels(draws) if label is None else label
        image: Tensor = generator(draws.of("z").normal(generator.z_dim), label, truncation=truncation)
        return image

    def calibrate(self, generator: Generator) -> None:
        """See Task: 1,024 latents that depend on the run's seed alone."""
        draws = Draws(self._seed, torch.arange(1024, device=self._device), "calibrate")
        label = draws.of("label").categorical(self._class_histogram)
        generator.calibrate(draws.of("z").normal(generator.z_dim), label)

    @torch.no_grad()
    def shown(self, real: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """See Task."""
        noise = self._objective.phases(progress)[0].values["instance_noise"]
        return self._glasses.show(real, draws, noise=noise)

    @torch.no_grad()
    def judge(self, networks: Rivals, image: Tensor, label: Tensor) -> Tensor:
        """See Task; D sees them as in training, and its statistics are put back."""
        D = networks["D"]
        assert isinstance(D, nn.Module)
        before = [(buffer, buffer.clone()) for buffer in D.buffers()]
        logits: Tensor = D(image, label)
        for buffer, value in before:
            buffer.copy_(value)
        return logits
