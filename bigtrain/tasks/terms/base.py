"""The interface of the terms of an objective, and the context that they are computed from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.engine.averages import Averages
from bigtrain.models import Discriminator
from bigtrain.models.pretrained import FeatureMaps
from bigtrain.models.pretrained.weights import WeightsError
from data_pipelines.plugins import Registry


@dataclass
class LossContext:
    """A micro-batch in a player's phase, from which losses are computed. Its properties are computed on first use.

    Attributes:
        G: the generator that the losses are about; frozen where it is the rival.
        D: the discriminator, likewise.
        parts: what terms have added to D or G, and the networks that terms look through, by the names of the terms.
        label: int64, shape [N].
        condition: what D is given beside an image: the label, another image, or nothing.
        draws: the phase's random numbers.
        real: images in [-1, 1], shape [N, C, H, W].
        generate: makes images as the phase does, [N, C, H, W]: of `z`, or of other latents that it is given.
        show: prepares images for D: augmentation and instance noise.
        averages: moving averages that steer terms.
        style_mixing: share of images that are made from the styles of two latents.
    """

    G: Any
    D: Any
    parts: Mapping[str, Any]
    label: Tensor
    condition: Tensor | None
    draws: Draws
    real: Tensor
    generate: Callable[..., Tensor]
    show: Callable[[Tensor, Draws], Tensor]
    averages: Averages
    style_mixing: float = 0.0

    @cached_property
    def z(self) -> Tensor:
        """Latents of a generator that takes some, shape [N, z_dim]."""
        return self.draws.of("z").normal(self.G.z_dim)

    @cached_property
    def fake(self) -> Tensor:
        """Generated images, shape [N, C, H, W]."""
        return self.generate()

    @cached_property
    def real_shown(self) -> Tensor:
        """What D sees of `real`."""
        return self.show(self.real, self.draws.of("real"))

    @cached_property
    def fake_shown(self) -> Tensor:
        """What D sees of `fake`."""
        return self.show(self.fake, self.draws.of("fake"))

    @cached_property
    def real_features(self) -> list[Tensor]:
        """D's activations on `real`; see `Discriminator.features`."""
        return self.features(self.real_shown)

    @cached_property
    def fake_features(self) -> list[Tensor]:
        """D's activations on `fake`."""
        return self.features(self.fake_shown)

    @cached_property
    def real_logits(self) -> Tensor:
        """D(x), shape [N] or [N, …]."""
        return self.head(self.real_features[-1])

    @cached_property
    def fake_logits(self) -> Tensor:
        """D(G(z)), shape [N] or [N, …]."""
        return self.head(self.fake_features[-1])

    def features(self, image: Tensor) -> list[Tensor]:
        """Return D's activations on images, under this micro-batch's condition."""
        found: list[Tensor] = self.D.features(image, self.condition)
        return found

    def head(self, feature: Tensor) -> Tensor:
        """Return D's logits from the last of its activations."""
        logits: Tensor = self.D.head(feature, self.condition)
        return logits

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of the losses of logits; of a D of several parts, the sum of the parts' means.

        Args:
            losses: of D's logits, in their shape.
        """
        opinions = getattr(self.D, "opinions", ())
        if not opinions:
            return losses.mean()
        return torch.stack([part.mean() for part in torch.split(losses, list(opinions), dim=1)]).sum()

    def logits_of(self, image: Tensor) -> Tensor:
        """Return D's logits of other images, as they are, under this micro-batch's condition."""
        logits: Tensor = self.D(image, self.condition)
        return logits


class DiscriminatorLossContext(LossContext):
    """A micro-batch in D's phase: G is frozen, its images are constants."""

    @cached_property
    def fake(self) -> Tensor:
        """See LossContext."""
        with torch.no_grad():
            return self.generate()


class GeneratorLossContext(LossContext):
    """A micro-batch in G's phase: D is frozen, its outputs for reals are constants."""

    @cached_property
    def real_features(self) -> list[Tensor]:
        """See LossContext."""
        with torch.no_grad():
            return self.features(self.real_shown)

    @cached_property
    def real_logits(self) -> Tensor:
        """See LossContext."""
        with torch.no_grad():
            return self.head(self.real_features[-1])


@dataclass(frozen=True)
class Setting:
    """What a term must fit.

    Attributes:
        generator: built, perhaps without data (`meta` device).
        discriminator: likewise.
        micro_batch: samples that are computed together.
        paired: whether `LossContext.real` is what `LossContext.fake` should become, sample by sample.
    """

    generator: nn.Module
    discriminator: Any
    micro_batch: int
    paired: bool = False


class Term(Config):
    """One addend of a player's loss; see DiscriminatorTerm and GeneratorTerm for the two kinds.

    Attributes:
        weight: factor on the term.
        interval: number of updates of the player per computation of the term, which is then multiplied by this number
            ("lazy", Karras et al. 2020a, appendix B).
        pauses: whether the term is left out of steps in which its weight is 0, because it is costly, trains nothing of
            its own and remembers nothing.
    """

    pauses: ClassVar[bool] = False

    weight: Schedule = ConstantSchedule(value=1.0)
    interval: PositiveInt = 1

    @property
    def second_order(self) -> bool:
        """Whether it differentiates a gradient."""
        return False

    def weight_at(self, player: str, samples_seen: int, total: int) -> float:
        """Return the factor of the term in the loss of player `D` or `G`, without the interval."""
        return self.weight.value_at(samples_seen, total)

    def check(self, setting: Setting) -> None:
        """Find out whether the term can work.

        Raises:
            ValueError: it cannot, with the reason.
        """

    def frozen(self) -> FeatureMaps | None:
        """Return the network, not loaded yet, that the term looks through and nobody trains; None for none."""
        return None

    def part(self, discriminator: Discriminator) -> nn.Module | None:
        """Return what D must learn for this term besides its network, for example a classifier of its last feature."""
        return None


class DiscriminatorTerm(Term):
    """An addend of D's loss.

    Attributes:
        differentiates: the images of a step, `real` or `fake`, that the term takes D's gradient at.
    """

    differentiates: ClassVar[frozenset[str]] = frozenset()

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """Return the term before its weight, of any shape: its mean counts."""
        raise NotImplementedError


class GeneratorTerm(Term):
    """An addend of G's loss. A term that moves both players is of both kinds."""

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """Return the term before its weight, of any shape: its mean counts."""
        raise NotImplementedError

    def generator_part(self, generator: Any) -> nn.Module | None:
        """Return what G must learn for this term besides its network, for example a projection of its activations."""
        return None


class NamedTerms(Config):
    """The terms in use, each under its name; a subclass declares the names, with None for a term that is not used."""

    def chosen(self) -> dict[str, Term]:
        """Return the terms that are used, by name."""
        return {name: term for name in type(self).model_fields if (term := getattr(self, name)) is not None}

    def of_discriminator(self) -> dict[str, DiscriminatorTerm]:
        """Return the terms of D's loss by name."""
        return {name: term for name, term in self.chosen().items() if isinstance(term, DiscriminatorTerm)}

    def of_generator(self) -> dict[str, GeneratorTerm]:
        """Return the terms of G's loss by name."""
        return {name: term for name, term in self.chosen().items() if isinstance(term, GeneratorTerm)}

    def check(self, setting: Setting) -> None:
        """Find out whether the terms can work.

        Raises:
            ValueError: one cannot, with its key and the reason.
        """
        for name, term in self.chosen().items():
            try:
                term.check(setting)
            except ValueError as error:
                raise ValueError(f"objective.terms.{name}: {error}") from None

    def check_weights(self) -> None:
        """Find out whether the weights of the networks that terms look through are there.

        Raises:
            WeightsError: they are missing or wrong, with the key.
        """
        for name, term in self.chosen().items():
            try:
                if (network := term.frozen()) is not None:
                    network.check()
            except WeightsError as error:
                raise WeightsError(f"objective.terms.{name}: {error}") from None

    @model_serializer(mode="wrap")
    def _without_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        return {name: term for name, term in write(self).items() if term is not None or usual[name] is not None}


def _read(name: str, found: Any) -> tuple[str, type[Term]] | None:
    return (name, found) if isinstance(found, type) and issubclass(found, Term) else None


OTHER_TERMS: Registry[type[Term]] = Registry(
    "bigtrain.terms", "a subclass of DiscriminatorTerm or GeneratorTerm", _read
)
"""The terms of other packages, which every task with terms takes, by the names of their entry points."""
