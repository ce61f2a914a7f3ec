"""Consistency regularisation: D's logits under small changes of its input, and G's images under changes of z."""

from pydantic import PositiveFloat
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.objectives.perturbations import flip_and_shift
from bigtrain.tasks.terms.base import (
    DiscriminatorLossContext,
    DiscriminatorTerm,
    GeneratorLossContext,
    GeneratorTerm,
    LossContext,
)


class CR(DiscriminatorTerm):
    """lambda · E (D(x) - D(T(x)))², T a flip and a small shift of reals (Zhang et al. 2020, equation 4)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        return _change(context, context.real_logits, context.real_shown, "cr/real")


class BCR(DiscriminatorTerm):
    """CR at reals and at fakes: "balanced" (Zhao et al. 2021, algorithm 1)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        return _change(context, context.real_logits, context.real_shown, "bcr/real") + _change(
            context, context.fake_logits, context.fake_shown, "bcr/fake"
        )


class ZCR(DiscriminatorTerm, GeneratorTerm):
    """Latent consistency, δ normal (Zhao et al. 2021, algorithm 2).

    D's loss gains lambda · E (D(G(z)) - D(G(z + δ)))², G's loses lambda_g · E |G(z) - G(z + δ)|² (a mean over pixels).

    Attributes:
        generator_weight: lambda_g; `weight` is D's lambda.
        sigma: standard deviation of δ.
    """

    weight: Schedule = ConstantSchedule(value=5.0)
    generator_weight: Schedule = ConstantSchedule(value=0.5)
    sigma: PositiveFloat = 0.07

    def weight_at(self, player: str, samples_seen: int, total: int) -> float:
        """See Term."""
        weight = self.weight if player == "D" else self.generator_weight
        return weight.value_at(samples_seen, total)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        near = context.show(self._neighbour(context).detach(), context.draws.of("fake"))
        return (context.fake_logits - context.logits_of(near)).square()

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return -(context.fake - self._neighbour(context)).square()

    def _neighbour(self, context: LossContext) -> Tensor:
        """Return images of latents near the step's own, all other randomness the same."""
        return context.generate(context.z + self.sigma * context.draws.of("zcr").normal(*context.z.shape[1:]))


def _change(context: DiscriminatorLossContext, logits: Tensor, image: Tensor, stream: str) -> Tensor:
    moved = flip_and_shift(image.detach(), context.draws.of(stream))
    return (logits - context.logits_of(moved)).square()
