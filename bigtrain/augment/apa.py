"""Adaptive pseudo augmentation: some fakes are presented to D as real (Jiang et al. 2021, section 3)."""

from typing import Literal

import torch
from torch import Tensor

from bigtrain.augment.ada_controller import AdaptiveConfig, ProbabilityConfig
from bigtrain.augment.base import Augment
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws


class ApaConfig(Config):
    """Adaptive pseudo augmentation.

    Attributes:
        probability: probability of showing a fake as a real image; it follows lambda_r = E[sign(D(real))], equation 2.
    """

    kind: Literal["apa"]
    probability: ProbabilityConfig = AdaptiveConfig()

    def build(self) -> "AdaptivePseudoAugment":
        """Build it."""
        return AdaptivePseudoAugment()


class AdaptivePseudoAugment(Augment):
    """Deceives D, and leaves the images themselves alone."""

    def present(self, real: Tensor, fake: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """See Augment."""
        deceive = draws.uniform(1)[:, :, None, None] < p
        return torch.where(deceive, fake.detach().to(real.dtype), real)
