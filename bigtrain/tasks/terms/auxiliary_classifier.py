"""Auxiliary classifier: D tells the class besides, and G wants to be recognised."""

import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models import Discriminator
from bigtrain.tasks.terms.base import (
    DiscriminatorLossContext,
    DiscriminatorTerm,
    GeneratorLossContext,
    GeneratorTerm,
    LossContext,
    Setting,
)


class AuxiliaryClassifier(DiscriminatorTerm, GeneratorTerm):
    """-E log P(c | x) - E log P(c | G(z, c)) for D, the second for G (Odena et al. 2017, equation 3).

    P is a linear classifier of D's last feature.

    Attributes:
        generator_weight: weight of the term in the loss of G; `weight` is that in the loss of D.
    """

    generator_weight: Schedule = ConstantSchedule(value=0.1)

    def weight_at(self, player: str, samples_seen: int, total: int) -> float:
        """See Term."""
        weight = self.weight if player == "D" else self.generator_weight
        return weight.value_at(samples_seen, total)

    def check(self, setting: Setting) -> None:
        """Refuse unlabelled data, and an interval: DDP wants the classifier's gradient in every update."""
        if not setting.discriminator.image.classes:
            raise ValueError("this term needs classes, but the run has none (data.classes)")
        if self.interval > 1:
            raise ValueError("its classifier is trained in every update: leave interval at 1")

    def part(self, discriminator: Discriminator) -> nn.Module:
        """See Term."""
        return nn.Linear(discriminator.features_dim, discriminator.image.classes)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        return _surprise(context, context.real_features[-1]) + _surprise(context, context.fake_features[-1])

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return _surprise(context, context.fake_features[-1])


def _surprise(context: LossContext, feature: Tensor) -> Tensor:
    """Return -log P(c | feature), shape [N]; 0 for a sample without a label (-1)."""
    logits = context.parts["auxiliary_classifier"](feature).float()
    return F.cross_entropy(logits, context.label, ignore_index=-1, reduction="none")
