"""Synthesis: a generator against a discriminator, on one field of the samples, conditional on a class or not."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from bigtrain.augment import AugmentConfig, NoAugmentConfig
from bigtrain.augment.derived.base import DerivedSpec
from bigtrain.core.batch import Batch
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Rivals
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, Task, TaskConfig, class_count, data_of
from bigtrain.models import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.compiled import Compiler
from bigtrain.tasks.losses import buffers_restored
from bigtrain.tasks.objective import ObjectiveConfig
from bigtrain.tasks.players import DiscriminatorPlayer, DiscriminatorView, GeneratorPlayer
from bigtrain.tasks.samplers import CLASS, InvertingSampler, SynthesisSampler
from bigtrain.tasks.terms import Setting, demands_of


class SynthesisConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        field: field that is generated; networks for images can generate arrays of the shape [C, H, W] as well. If it is
            a derived field that can be inverted, such as `spectrogram`, samples, previews and scores are of its source.
        generator: network that generates samples from latents.
        discriminator: network that tells generated from real samples.
        objective: the losses of both.
        augment: augmentation of what the discriminator sees.
        compile: whether the networks run through `torch.compile` in phases without second derivatives; `cuda_graphs`
            also records CUDA graphs, on GPUs.
    """

    field: str = "image"
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    augment: AugmentConfig = NoAugmentConfig()
    compile: bool | Literal["cuda_graphs"] = False

    def uncompiled(self) -> Self:
        """See TaskConfig."""
        return self.model_copy(update={"compile": False}) if self.compile else self

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `D` and `G`."""
        image = data_of(fields, self.field, class_count(fields))
        return {
            "D": NetworkSpec("discriminator", "discriminator", self.discriminator, (image,)),
            "G": NetworkSpec("generator", "generator", self.generator, (image,)),
        }

    def demands(self) -> Demands:
        """See TaskConfig."""
        terms = self.objective.terms
        return {
            "G": demands_of(terms.of_generator(), compiled=bool(self.compile)),
            "D": demands_of(terms.of_discriminator(), compiled=bool(self.compile)),
        }

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        self.objective.check(Setting(networks["G"], networks["D"], micro_batch))
        if self.compile:
            self._check_compile()
        if self.augment.probability.kind == "adaptive" and self.objective.game.neutral is None:
            raise ValueError(
                f"augment.probability 'adaptive' follows the sign of D(x), but with '{self.objective.adversarial}' "
                "the sign has no meaning: use a fixed probability"
            )

    def _check_compile(self) -> None:
        terms = self.objective.terms.of_discriminator()
        eager = [name for name, term in terms.items() if term.second_order and term.interval == 1]
        if eager:
            raise ValueError(
                f"compile: objective.terms.{eager[0]} differentiates a gradient in every step of D, but what "
                f"is compiled has no second derivative: use an interval, such as objective.terms.{eager[0]}.interval=16"
            )

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> SynthesisSampler:
        """See TaskConfig."""
        classes = class_count(fields)
        inputs = {CLASS: fields[CLASS]} if classes else {}
        weights = tuple(class_counts.get(CLASS, [1] * classes))
        made = fields[self.field]
        if isinstance(made, DerivedSpec) and made.by is not None and made.by.invertible:
            source = {made.by.of: fields[made.by.of]}
            return InvertingSampler(inputs, source, weights, derived=made.by.model_dump(mode="json"))
        return SynthesisSampler(inputs, {self.field: made}, weights)

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "SynthesisTask":
        """See TaskConfig."""
        return SynthesisTask(self, fields, class_counts, seed=seed, device=device)


class SynthesisTask(Task):
    """D's steps, each on a fresh batch, then one G step; see `TaskConfig.build_task` for the arguments."""

    def __init__(
        self,
        config: SynthesisConfig,
        fields: Fields,
        class_counts: Mapping[str, Sequence[int]],
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._objective, self._field = config.objective, config.field
        self.specs = config.networks(fields)
        self.batches_per_step = config.objective.n_critic
        self._probability = config.augment.probability.build(device)
        self._augments = config.augment.kind != "none"
        self._averages = Averages(device)
        self._view = DiscriminatorView(config.augment.build(), self._probability)
        self._compiler = Compiler(config.compile)
        shared = (config.objective, self._view, self._averages, self._compiler, config.field)
        D, G = (self.specs[name].build_on(device) for name in ("D", "G"))
        assert isinstance(D, Discriminator)
        assert isinstance(G, Generator)
        self.group = D.group
        with torch.device(device):  # terms may bring weights of their own
            self.players = {"D": DiscriminatorPlayer(D, *shared), "G": GeneratorPlayer(G, *shared)}
        self.optimizers = {
            "D": config.optim["D"].model_copy(update={"weight_limit": config.objective.weight_clip}),
            "G": config.optim["G"],
        }
        self.averaged = {"G": G}
        self.sampler = config.build_sampler(fields, class_counts)

    def before_step(self, progress: Progress) -> None:
        """See Task: networks that grow do so together."""
        self._compiler.begin_step()
        for network in self.networks().values():
            if isinstance(network, Generator | Discriminator):
                network.grow(progress.samples_seen)

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        return self._objective.phases(progress)

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """See Task: what steers the terms moves, then the probability of augmentation."""
        self._averages.move()
        self._probability.update(self._averages["signs/real"], progress)
        return {"augment/p": self._probability.p} if self._augments else {}

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task."""
        return {"averages": self._averages, "augment": self._probability}

    @torch.no_grad()
    def shown(self, batch: Batch, progress: Progress) -> Mapping[str, Tensor]:
        """See Task."""
        noise = self._objective.phases(progress)[0].values.get("instance_noise", 0.0)
        return {self._field: self._view.show(batch[self._field], batch.draws, noise=noise)}

    @torch.no_grad()
    def logits_of(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See Task; D sees the samples as in training, and its statistics are put back."""
        D = networks["D"]
        with buffers_restored(D):
            return {"": D(batch[self._field], batch.label())}
