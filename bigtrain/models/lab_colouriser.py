"""Colourisation in Lab (Isola et al. 2017, section 4): a network chooses a* and b*, the lightness is the input's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ImageSpec
from bigtrain.models.translator import BaseTranslatorConfig, Translator, TranslatorConfig, check_same_size
from bigtrain.ops.colour import lightness_of, rgb_of
from bigtrain.ops.precision import outside_autocast

_RANGE = 110.0
"""sRGB's colours have a* from -86 to 98 and b* from -108 to 94."""


class LabColouriserConfig(BaseTranslatorConfig):
    """A translator of grey images that keeps their lightness.

    Attributes:
        base: the translator that chooses a* and b*, from grey images.
    """

    kind: Literal["lab_colouriser"] = "lab_colouriser"
    base: TranslatorConfig

    def build(self, source: ImageSpec, target: ImageSpec) -> "LabColouriser":
        """Build the network from grey `source` images to colour `target` images.

        Raises:
            ValueError: they are not grey, not in colour, or differ in size; or the base cannot be built for them.
        """
        return LabColouriser(self, source, target)


class LabColouriser(Translator):
    """Another translator's two channels, in [-1, 1], are a* and b* over 110; L* is copied from the input."""

    kind = "lab_colouriser"

    def __init__(self, config: LabColouriserConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        if (source.channels, target.channels) != (1, 3):
            raise ValueError(
                f"{self.kind} makes colour images (3 channels) of grey ones (1), not {target.channels} channels of "
                f"{source.channels}"
            )
        self.base = config.base.build(source, replace(target, channels=2))
        self.input, self.output, self.multiple = source, target, self.base.multiple

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; colours that no screen can show lie outside of [-1, 1]."""
        hue = self.base(image, draws).float()
        with outside_autocast(image.device.type):
            return rgb_of(torch.cat([lightness_of(image.float()), _RANGE * hue], dim=1))

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return self.base.stages()
