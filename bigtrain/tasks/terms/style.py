"""Content and style of what G makes, in the activations of its encoder (Huang & Belongie 2017).

The paper has norms of differences; here they are mean squares, so that the weights do not depend on the images' size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models.adain import statistics
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm


@dataclass(kw_only=True)
class StylisationLossContext(GeneratorLossContext):
    """A micro-batch in the phase of a generator that stylises images.

    Attributes:
        wanted: activations that the stylised image should have at the encoder's deepest depth.
        style: activations of the style image at each depth.
        encode: G's encoder.
    """

    wanted: Tensor
    style: Sequence[Tensor]
    encode: Callable[[Tensor], Sequence[Tensor]]

    @cached_property
    def made(self) -> Sequence[Tensor]:
        """Activations of what G made, at each depth."""
        return self.encode(self.fake)


class Content(GeneratorTerm):
    """lambda · mean of (f(g(t)) - t)², t the activations that AdaIN gives the decoder g (equation 12)."""

    weight: Schedule = ConstantSchedule(value=1.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, StylisationLossContext)
        return F.mse_loss(context.made[-1].float(), context.wanted)


class Style(GeneratorTerm):
    """lambda · sum over depths of mean (μ(made) - μ(style))² + mean (σ(made) - σ(style))² (equation 13)."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, StylisationLossContext)
        gaps = []
        for made, style in zip(context.made, context.style, strict=True):
            pairs = zip(statistics(made), statistics(style), strict=True)
            gaps.append(torch.stack([F.mse_loss(ours, theirs) for ours, theirs in pairs]).sum())
        return torch.stack(gaps).sum()
