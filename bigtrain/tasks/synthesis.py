"""Synthesis: a generator against a discriminator, on one field of the samples, conditional on a class or not."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from bigtrain.augment import AugmentConfig, NoAugmentConfig
from bigtrain.augment.derived.base import DerivedField, DerivedSpec
from bigtrain.core.batch import Batch
from bigtrain.core.config import Config
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
from bigtrain.tasks.samplers import CLASS, InvertingSampler, SynthesisSampler, VectorConditionSampler
from bigtrain.tasks.terms import Setting, demands_of


class ConditionConfig(Config):
    """The field that conditions both networks.

    Attributes:
        field: a class field, which may be missing, or float32 vectors of numbers; networks take a vector as they take
            weights of classes. If it is a derived field, people give samples its source.
        low: least value of each number of the vector, or of its source, where samples are generated without being given
            one; null if it must be given.
        high: greatest values; between both, the distribution is uniform.
    """

    field: str = CLASS
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def length(self, fields: Fields) -> int:
        """Return the number of classes, or of numbers; 0 if the samples have no classes.

        Raises:
            ValueError: there is no such field, or its values are no vectors.
        """
        if self.field == CLASS:
            return class_count(fields)
        if self.field not in fields:
            raise ValueError(f"condition.field '{self.field}': data has {', '.join(fields)}; declare it in data.fields")
        spec = fields[self.field]
        if spec.kind == "class" or len(spec.shape) != 1 or spec.dtype != "float32":
            raise ValueError(
                f"condition.field '{self.field}': a condition is the field '{CLASS}', or a float32 vector, but this "
                f"is {spec.kind} {spec.dtype} of the shape {list(spec.shape)}"
            )
        return spec.shape[0]

    def source(self, fields: Fields) -> tuple[str, Mapping[str, Any]]:
        """Return the name of the field that people give, and the config of what is derived from it, if anything is."""
        spec = fields[self.field]
        if not isinstance(spec, DerivedSpec) or spec.by is None:
            return self.field, {}
        return spec.by.of, spec.by.model_dump(mode="json")

    def check_bounds(self, fields: Fields) -> None:
        """See that the bounds fit the field.

        Raises:
            ValueError: they do not.
        """
        low, high = self.low or (), self.high or ()
        if self.field == CLASS:
            if low or high:
                raise ValueError(
                    "condition.low: classes have no bounds; remove it, or name a vector in condition.field"
                )
            return
        name, _ = self.source(fields)
        length = fields[name].shape[0]
        if (self.low, self.high) != (None, None) and not len(low) == len(high) == length:
            raise ValueError(
                f"condition.low, condition.high: '{name}' has {length} numbers, not {len(low)}, {len(high)}"
            )
        if any(least > greatest for least, greatest in zip(low, high, strict=True)):
            raise ValueError(f"condition.low {list(low)} is greater than condition.high {list(high)}")


class SynthesisConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        field: field that is generated; networks for images can generate arrays of the shape [C, H, W] as well. If it is
            a derived field that can be inverted, such as `spectrogram`, samples, previews and scores are of its source.
        condition: what both networks are given with a sample.
        generator: network that generates samples from latents.
        discriminator: network that tells generated from real samples.
        objective: the losses of both.
        augment: augmentation of what the discriminator sees.
        compile: whether the networks run through `torch.compile` in phases without second derivatives; `cuda_graphs`
            also records CUDA graphs, on GPUs.
    """

    field: str = "image"
    condition: ConditionConfig = ConditionConfig()
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
        image = data_of(fields, self.field, self.condition.length(fields))
        self.condition.check_bounds(fields)
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
        made, derived = {self.field: fields[self.field]}, dict[str, Any]()
        by = getattr(fields[self.field], "by", None)
        if isinstance(by, DerivedField) and by.invertible:
            made, derived = {by.of: fields[by.of]}, by.model_dump(mode="json")
        if self.condition.field != CLASS:
            name, how = self.condition.source(fields)
            low, high = self.condition.low or (), self.condition.high or ()
            return VectorConditionSampler(
                {name: fields[name]}, made, derived=derived, low=low, high=high, condition=how
            )
        classes = class_count(fields)
        inputs = {CLASS: fields[CLASS]} if classes else {}
        weights = tuple(class_counts.get(CLASS, [1] * classes))
        if derived:
            return InvertingSampler(inputs, made, weights, derived=derived)
        return SynthesisSampler(inputs, made, weights)

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
        self._objective, self._field, self._condition = config.objective, config.field, config.condition.field
        self.specs = config.networks(fields)
        self.batches_per_step = config.objective.n_critic
        self._probability = config.augment.probability.build(device)
        self._augments = config.augment.kind != "none"
        self._averages = Averages(device)
        self._view = DiscriminatorView(config.augment.build(), self._probability)
        self._compiler = Compiler(config.compile)
        shared = (config.objective, self._view, self._averages, self._compiler, config.field, self._condition)
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
            return {"": D(batch[self._field], batch.label(self._condition))}
