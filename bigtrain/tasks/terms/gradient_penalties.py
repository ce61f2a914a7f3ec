"""Penalties on the slope of D at images."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models.layers.conditional_batch_norm import BatchStatistics
from bigtrain.objectives.regularizers import (
    change_under_noise,
    r1_penalty,
    r2_penalty,
    slope_to_one,
    squared_slope_by_differences,
)
from bigtrain.ops.precision import outside_autocast
from bigtrain.tasks.terms.base import DiscriminatorLossContext, DiscriminatorTerm, Setting


class _GradientPenalty(DiscriminatorTerm):
    """Base of all penalties.

    Attributes:
        fp32: whether D's gradient is computed in float32 if training uses a lower precision. This costs an additional
            forward pass of D. Otherwise, and always with `pure_bf16`, whose weights are bfloat16, the gradient has the
            precision of training.
    """

    fp32: bool = True

    @property
    def second_order(self) -> bool:
        """See Term."""
        return True

    def check(self, setting: Setting) -> None:
        """Refuse batch normalisation: the slope at an image then depends on the others (Gulrajani et al. 2017)."""
        if any(isinstance(module, BatchStatistics | nn.BatchNorm2d) for module in setting.discriminator.modules()):
            raise ValueError(
                "it needs D's gradient at each image alone, but D's batch normalisation mixes the images of a batch: "
                "use a discriminator without it"
            )

    def _logits(self, context: DiscriminatorLossContext, image: Tensor, trained: Callable[[], Tensor]) -> Tensor:
        """Return D's logits of images in float32 if so wished, else those that `trained` computes."""
        device = image.device.type
        reduced = any(weight.dtype == torch.bfloat16 for weight in context.D.parameters())
        if not self.fp32 or reduced or not torch.is_autocast_enabled(device):
            return trained()
        with outside_autocast(device):
            return context.logits_of(image.float())


class _ZeroCentred(_GradientPenalty):
    """Base of R1 and R2.

    Attributes:
        gamma: twice the weight of the penalty.
        method: `exact` differentiates the gradient. The other methods need first derivatives only, for strategies that
            support no others: `central_difference` has the same gradient up to h² if D is smooth, and is refused
            otherwise; `approximate` is a different regulariser.
        h: step size of `central_difference`, as an L2 norm.
        sigma: standard deviation of the noise of `approximate`.
    """

    gamma: Schedule
    method: Literal["exact", "central_difference", "approximate"] = "exact"
    h: PositiveFloat = 0.01
    sigma: PositiveFloat = 0.01
    weight: ClassVar[Schedule]  # type: ignore[misc]

    @property
    def second_order(self) -> bool:
        """See Term."""
        return self.method == "exact"

    def check(self, setting: Setting) -> None:
        """Refuse differences across kinks, which tell of the kinks."""
        super().check(setting)
        if self.method == "central_difference" and not setting.discriminator.smooth:
            raise ValueError(
                "method 'central_difference' needs a smooth discriminator (a 'vit' without spectral normalisation): "
                "across the kinks of a ReLU the difference is not the gradient of R1; use 'exact' or 'approximate'"
            )

    def weight_at(self, player: str, samples_seen: int, total: int) -> float:
        """See Term."""
        return self.gamma.value_at(samples_seen, total) / 2

    def _first_order(self, context: DiscriminatorLossContext, logits: Tensor, image: Tensor, images: str) -> Tensor:
        """Return the penalty of the step's `images`, `real` or `fake`, by the other methods."""

        def logits_of(moved: Tensor) -> Tensor:
            return context.logits_of(context.show(moved, context.draws.of(images)))

        with outside_autocast(image.device.type):  # small differences of logits
            if self.method == "central_difference":
                return squared_slope_by_differences(logits_of, logits, image, self.h)
            noise = context.draws.of(f"approximate/{images}").normal(*image.shape[1:])
            return change_under_noise(logits_of, logits_of(image.detach()), image, noise, self.sigma)


class R1(_ZeroCentred):
    """gamma / 2 · E |∇D(x)|² at real images (Mescheder et al. 2018)."""

    differentiates: ClassVar[frozenset[str]] = frozenset({"real"})

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        if self.method == "exact":
            return r1_penalty(self._logits(context, context.real_shown, lambda: context.real_logits), context.real)
        return self._first_order(context, context.real_logits, context.real, "real")


class R2(_ZeroCentred):
    """gamma / 2 · E |∇D(G(z))|² at generated images (Mescheder et al. 2018)."""

    differentiates: ClassVar[frozenset[str]] = frozenset({"fake"})

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        if self.method == "exact":
            return r2_penalty(self._logits(context, context.fake_shown, lambda: context.fake_logits), context.fake)
        return self._first_order(context, context.fake_logits, context.fake, "fake")


class WGANGP(_GradientPenalty):
    """lambda · E (|∇D(x̂)| - 1)² on lines between reals and fakes (Gulrajani et al. 2017, equation 3)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        along = context.draws.of("wgan_gp").uniform(*(1 for _ in context.real.shape[1:]))
        between = torch.lerp(context.fake_shown.detach(), context.real_shown.detach(), along).requires_grad_()
        return slope_to_one(self._logits(context, between, lambda: context.logits_of(between)), between)


class DRAGAN(_GradientPenalty):
    """lambda · E (|∇D(x + δ)| - 1)², δ normal, around reals (Kodali et al. 2017, section 2.3).

    Attributes:
        sigma: standard deviation of δ, for images in [-1, 1].
    """

    weight: Schedule = ConstantSchedule(value=10.0)
    sigma: PositiveFloat = 0.5

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        real = context.real_shown.detach()
        near = (real + self.sigma * context.draws.of("dragan").normal(*real.shape[1:])).requires_grad_()
        return slope_to_one(self._logits(context, near, lambda: context.logits_of(near)), near)
