"""Inpainting by edges first (EdgeConnect; Nazeri et al. 2019): one network draws the edges, another one the image.

The input has one channel more than the output: it says where the image is known (1) and where it has a hole (-1), as
the derived field `holes` makes it. What is known is copied to the output. The edges of what is known are found here, so
that an image with holes is all that the network needs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import DataSpec, ImageSpec
from bigtrain.models.layers.holes import smoothly_filled, with_holes
from bigtrain.models.resnet_translator import ResNetTranslatorConfig
from bigtrain.models.translator import BaseTwoStageConfig, TranslatorConfig, TwoStageTranslator, check_same_size
from bigtrain.ops.colour import luma
from bigtrain.ops.edges import edge_map
from bigtrain.ops.layout import channels_last

_PUBLISHED = ResNetTranslatorConfig(blocks=8, dilation=2)


class EdgeInpainterConfig(BaseTwoStageConfig):
    """The two networks, and what an edge is.

    Attributes:
        edges: the translator that draws the edges, from the grey image, its edges and the holes.
        image: the translator that draws the image, from the image, all edges and the holes.
        sigma: see the derived field `edges`, which should have the same value.
        thresholds: likewise.
        smooth_start: whether the image's holes are filled smoothly first, and `image` adds to that. False as in the
            paper: it sees black holes, and makes the image anew.
    """

    kind: Literal["edge_inpainter"] = "edge_inpainter"
    edges: TranslatorConfig = _PUBLISHED
    image: TranslatorConfig = _PUBLISHED
    sigma: NonNegativeFloat = 2.0
    thresholds: tuple[PositiveFloat, PositiveFloat] = (25.0, 50.0)
    smooth_start: bool = False

    def first_stage(self, source: Any, target: ImageSpec) -> DataSpec:
        """See BaseTwoStageConfig: an image of one channel."""
        return replace(target, channels=1)

    def build(self, source: ImageSpec, target: ImageSpec) -> "EdgeInpainter":
        """Build the network from `source` images with a channel of what is known to `target` images.

        Raises:
            ValueError: the channels do not fit, or one of the two networks cannot be built for such images.
        """
        return EdgeInpainter(self, source, target)


class EdgeInpainter(TwoStageTranslator):
    """The first network completes the edges, the second one fills the holes between them."""

    kind = "edge_inpainter"
    fills_holes = True
    separate: ClassVar[bool] = True

    def __init__(self, config: EdgeInpainterConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        if target.channels not in (1, 3) or source.channels != target.channels + 1:
            raise ValueError(
                f"{self.kind} fills the holes of grey or RGB images, and needs a further channel that marks them: 1 "
                f"channel from 2 or 3 from 4, not {target.channels} from {source.channels}; see the derived field "
                "'holes'"
            )
        self.input, self.output = source, target
        self.edges = config.edges.build(replace(target, channels=3), replace(target, channels=1))
        self.image = config.image.build(replace(target, channels=target.channels + 2), target)
        self.multiple = math.lcm(self.edges.multiple, self.image.multiple)
        self.sigma, self.thresholds, self.smooth_start = config.sigma, config.thresholds, config.smooth_start

    def both(self, image: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """See `TwoStageTranslator.both`: all edges, drawn anew, and the image, whose known pixels are the input's."""
        self.check_size(*image.shape[2:])
        picture, known, holes = with_holes(image)
        seen, settled = edge_map(picture, self.sigma, *self.thresholds, known=(~holes).to(image.dtype))
        grey = luma(picture) if picture.shape[1] == 3 else picture
        drawn = self.edges(
            channels_last(torch.cat([grey, seen.to(image.dtype), known], 1)),
            None if draws is None else draws.of("edges"),
        )
        assert settled is not None, "the known pixels were given"
        edges = torch.where(settled, seen, drawn.detach()).to(image.dtype)
        start = smoothly_filled(picture, holes).to(image.dtype) if self.smooth_start else picture
        filled = self.image(
            channels_last(torch.cat([start, edges, known], 1)), None if draws is None else draws.of("image")
        )
        if self.smooth_start:
            filled = start + filled
        return drawn, torch.where(holes, filled, picture.to(filled.dtype))

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return [*self.edges.stages(), *self.image.stages()]
