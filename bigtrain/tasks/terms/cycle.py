"""What terms of unpaired translation see, and those of two generators, each the other's way back (Zhu et al. 2017)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm


@dataclass(kw_only=True)
class UnpairedLossContext(GeneratorLossContext):
    """A micro-batch in the generators' phase, in one direction.

    Attributes:
        source: images of the domain that G translates from, shape [N, C, H, W]; `real` are those that it translates to.
        back: translates images back to the source's domain.
        translate: G, on images that it is given.
        mirrored: which of the images in `source` were mirrored before, bool, shape [N]; None for none.
    """

    source: Tensor
    back: Callable[[Tensor], Tensor]
    translate: Callable[[Tensor], Tensor]
    mirrored: Tensor | None = None


def mirror(x: Tensor, where: Tensor | None) -> Tensor:
    """Return [N, C, H, W] with left and right exchanged in the samples that a mask [N] names; None for none."""
    return x if where is None else torch.where(where[:, None, None, None], x.flip(3), x)


class Cycle(GeneratorTerm):
    """lambda · E |G_BA(G_AB(a)) - a| (Zhu et al. 2017, equation 2), and the same from B."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, UnpairedLossContext)
        return F.l1_loss(context.back(context.fake), context.source)


class Identity(GeneratorTerm):
    """lambda · E |G_AB(b) - b| (section 5.2), and the same of A.

    The published weight of 0.5 is relative to that of `Cycle`, which is 10.
    """

    weight: Schedule = ConstantSchedule(value=5.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, UnpairedLossContext)
        return F.l1_loss(context.translate(context.real), context.real)
