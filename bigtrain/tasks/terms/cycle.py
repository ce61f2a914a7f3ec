"""Terms of two generators between two domains, each the other's way back (Zhu et al. 2017)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm


@dataclass(kw_only=True)
class CycleLossContext(GeneratorLossContext):
    """A micro-batch in the generators' phase, in one direction.

    Attributes:
        source: images of the domain that G translates from, shape [N, C, H, W]; `real` are those that it translates to.
        back: translates images back to the source's domain.
        translate: G, on images that it is given.
    """

    source: Tensor
    back: Callable[[Tensor], Tensor]
    translate: Callable[[Tensor], Tensor]


class Cycle(GeneratorTerm):
    """lambda · E |G_BA(G_AB(a)) - a| (Zhu et al. 2017, equation 2), and the same from B."""

    weight: Schedule = ConstantSchedule(value=10.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, CycleLossContext)
        return F.l1_loss(context.back(context.fake), context.source)


class Identity(GeneratorTerm):
    """lambda · E |G_AB(b) - b| (section 5.2), and the same of A.

    The published weight of 0.5 is relative to that of `Cycle`, which is 10.
    """

    weight: Schedule = ConstantSchedule(value=5.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, CycleLossContext)
        return F.l1_loss(context.translate(context.real), context.real)
