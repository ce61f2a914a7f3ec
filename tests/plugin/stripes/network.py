"""A generator of stripes: each row of an image is a sum of waves with learned frequencies."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models import BaseGeneratorConfig, Generator, ImageSpec


class StripesConfig(BaseGeneratorConfig):
    """The generator's size.

    Attributes:
        z_dim: length of the latent.
        waves: that each row is a sum of.
    """

    kind: Literal["stripes"] = "stripes"
    z_dim: PositiveInt = 8
    waves: PositiveInt = 6

    def build(self, image: ImageSpec) -> "Stripes":
        """Build the generator of `image`."""
        return Stripes(self, image)


class Stripes(Generator):
    """z -> amplitudes of waves for each row and channel -> an image."""

    def __init__(self, config: StripesConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim, self.waves = image, config.z_dim, config.waves
        channels, height, width = image.shape
        self.amplitudes = nn.Linear(config.z_dim, channels * height * config.waves)
        self.phases = nn.Parameter(torch.empty(config.waves))
        self.register_buffer("columns", torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill what belongs to this module itself."""
        nn.init.uniform_(self.phases, -3, 3)
        columns = torch.linspace(0, 6, self.image.shape[2], device=self.phases.device)
        self.columns.copy_(columns)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """See Generator."""
        channels, height, _ = self.image.shape
        amplitudes = self.amplitudes(z * truncation).view(len(z), channels, height, self.waves)
        numbers = torch.arange(1, self.waves + 1, device=z.device)
        waves = torch.sin(numbers[:, None] * self.columns + self.phases[:, None])
        return torch.tanh(amplitudes @ waves)
