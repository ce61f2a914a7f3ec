"""Distances between what G makes and what it should have made."""

import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm, Setting


class Paired(GeneratorTerm):
    """Base class of the distances to a target, which a task has or has not."""

    def check(self, setting: Setting) -> None:
        """Refuse a task whose samples have no target."""
        if not setting.paired:
            raise ValueError("this term compares the output of G with the sample's target, but this task has none")


class L1(Paired):
    """lambda · E |G(x) - y| (Isola et al. 2017, equation 3)."""

    weight: Schedule = ConstantSchedule(value=100.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return F.l1_loss(context.fake, context.real)


class L2(Paired):
    """lambda · E (G(x) - y)²."""

    weight: Schedule = ConstantSchedule(value=100.0)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return F.mse_loss(context.fake, context.real)
