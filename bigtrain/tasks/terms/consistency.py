"""D should not change its mind over what does not matter; G should."""

from pydantic import PositiveFloat
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.objectives.perturbations import flip_and_shift
from bigtrain.tasks.terms.base import DiscriminatorStep, DiscriminatorTerm, GeneratorStep, GeneratorTerm, Step


class CR(DiscriminatorTerm):
    """lambda · E (D(x) - D(T(x)))², T a flip and a small shift of reals (Zhang et al. 2020, equation 4)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_discriminator(self, step: DiscriminatorStep) -> Tensor:
        """See DiscriminatorTerm."""
        return _change(step, step.real_logits, step.real_shown, "cr/real")


class BCR(DiscriminatorTerm):
    """CR at reals and at fakes: "balanced" (Zhao et al. 2021, algorithm 1)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_discriminator(self, step: DiscriminatorStep) -> Tensor:
        """See DiscriminatorTerm."""
        return _change(step, step.real_logits, step.real_shown, "bcr/real") + _change(
            step, step.fake_logits, step.fake_shown, "bcr/fake"
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

    def in_discriminator(self, step: DiscriminatorStep) -> Tensor:
        """See DiscriminatorTerm."""
        near = step.show(self._neighbour(step).detach(), step.draws.of("fake"))
        return (step.fake_logits - step.judge(near)).square()

    def in_generator(self, step: GeneratorStep) -> Tensor:
        """See GeneratorTerm."""
        return -(step.fake - self._neighbour(step)).square()

    def _neighbour(self, step: Step) -> Tensor:
        """Return images of latents near the step's own, all other randomness the same."""
        return step.generate(step.z + self.sigma * step.draws.of("zcr").normal(*step.z.shape[1:]))


def _change(step: DiscriminatorStep, logits: Tensor, image: Tensor, stream: str) -> Tensor:
    moved = flip_and_shift(image.detach(), step.draws.of(stream))
    return (logits - step.judge(moved)).square()
