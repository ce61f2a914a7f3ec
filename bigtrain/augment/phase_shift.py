"""Random shifts of sounds, so that D cannot tell fakes by the phase of what upsampling leaves (Donahue et al. 2019)."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from bigtrain.augment.ada_controller import FixedConfig, ProbabilityConfig
from bigtrain.augment.base import Augment
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule


class PhaseShiftConfig(Config):
    """Every sound that D sees is shifted by a whole number of samples; the edges are reflected.

    WaveGAN's phase shuffle (section 3.3) shifts the activations of each of D's layers; this shifts what D sees, by as
    many samples as all of the layers together would.

    Attributes:
        samples: maximum shift in samples, in both directions.
        probability: probability of shifting a sound; 1 in the paper.
    """

    kind: Literal["phase_shift"]
    samples: PositiveInt = 170
    probability: ProbabilityConfig = FixedConfig(p=ConstantSchedule(value=1.0))

    def build(self) -> "PhaseShift":
        """Build it."""
        return PhaseShift(self.samples)


class PhaseShift(Augment):
    """Shifts of up to `samples` samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __call__(self, images: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """See Augment; `images` are sounds of the shape [N, C, L]."""
        length = images.shape[-1]
        shift = draws.of("shift").integers(2 * self.samples + 1, 1) - self.samples
        shift = torch.where(draws.of("happens").uniform(1) < p, shift, 0)
        place = (torch.arange(length, device=images.device) + shift).abs()
        place = length - 1 - (length - 1 - place).abs()
        return images.gather(-1, place.clamp(0, length - 1)[:, None].expand_as(images))
