"""DVD-GAN-FP: frame prediction with the parts of DVD-GAN (Clark, Donahue & Simonyan 2019).

The given frames are encoded one by one by BigGAN's discriminator blocks. At each size, the features of all given frames
side by side become the state with which the recurrent unit of that size begins. The spatial discriminator judges some
of the predicted frames, the temporal one the given and the predicted frames together.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ArraySpec, DataSpec
from bigtrain.models.biggan import DISCRIMINATOR_WIDTHS, BigGANDiscriminatorConfig, DiscriminatorBlock, bottom_size
from bigtrain.models.dvdgan import (
    GENERATOR_WIDTHS,
    RecurrentDecoder,
    TemporalDiscriminator,
    Widths,
    frame_of,
    usual_widths,
)
from bigtrain.models.layers.drawn_frames import append_drawn_frames, split_drawn_frames
from bigtrain.models.layers.spectral import Initialisation, SpectralConv2d, SpectralLinear, WeightStyle
from bigtrain.models.translator import (
    BasePatchDiscriminatorConfig,
    BaseTranslatorConfig,
    PatchDiscriminator,
    Translator,
)
from bigtrain.ops.layout import channels_last


class DVDGANFPConfig(BaseTranslatorConfig):
    """The predictor's size and shape.

    Attributes:
        z_dim: length of the latent, which decides between possible futures.
        width: base number of channels.
        multiples: channels at 4x4, 8x8, ... as multiples of `width`; null for the usual ones at 64, 128 and 256 pixels.
        encoder_width: base number of channels of the encoder of the given frames, with the same multiples.
        init: initialisation of the weights.
    """

    kind: Literal["dvdgan_fp"] = "dvdgan_fp"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    z_dim: PositiveInt = 120
    width: PositiveInt = 128
    multiples: Widths | None = None
    encoder_width: PositiveInt = 32
    init: Initialisation = "orthogonal"

    def build(self, source: ArraySpec, target: ArraySpec) -> "DVDGANPredictor":
        """Build the network from the given frames [T, C, H, W] to the next ones.

        Raises:
            ValueError: the frames differ in size, or the multiples do not lead to it.
        """
        return DVDGANPredictor(self, source, target)


class DVDGANFPDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """The two discriminators; see `DVDGANDiscriminatorConfig`.

    Attributes:
        frames: number of predicted frames that the spatial discriminator judges of each clip.
        width: base number of channels of both.
        multiples: channels after each block of the spatial discriminator as multiples of `width`; null for BigGAN's.
        temporal_multiples: likewise of the temporal discriminator; null for BigGAN's at half of the resolution.
        init: initialisation of the weights.
    """

    kind: Literal["dvdgan_fp"] = "dvdgan_fp"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    frames: PositiveInt = 8
    width: PositiveInt = 128
    multiples: Widths | None = None
    temporal_multiples: Widths | None = Field(default=None, min_length=2)
    init: Initialisation = "orthogonal"

    def build(self, image: ArraySpec, condition: ArraySpec | None = None) -> "DVDGANFPDiscriminator":
        """Build the discriminators of predicted frames, which see the given ones if there is a condition."""
        return DVDGANFPDiscriminator(self, image, condition)


class DVDGANPredictor(Translator):
    """Given frames -> features of all sizes -> the states that DVD-GAN's recurrent units begin with -> next frames."""

    kind = "dvdgan_fp"

    def __init__(self, config: DVDGANFPConfig, source: ArraySpec, target: ArraySpec) -> None:
        super().__init__()
        frame = frame_of(target)
        _check_frames(source, target)
        self.input, self.output, self.z_dim = source, target, config.z_dim
        multiples = config.multiples or usual_widths(GENERATOR_WIDTHS, min(frame.shape[1:]), "generator.multiples")
        self.bottom, style = bottom_size(frame, len(multiples)), WeightStyle(config.init)
        widths = [multiple * config.width for multiple in multiples]
        encoded = [multiple * config.encoder_width for multiple in multiples[-2::-1]]  # from the largest size down
        self.encoder = nn.ModuleList(
            DiscriminatorBlock(before, after, down=True, first=depth == 0, style=style)
            for depth, (before, after) in enumerate(zip([frame.channels, *encoded], encoded, strict=False))
        )
        self.states = nn.ModuleList(
            SpectralConv2d(source.shape[0] * before, after, 3, style=style)
            for before, after in zip(encoded[::-1], widths, strict=False)
        )
        self.linear = SpectralLinear(config.z_dim, widths[0] * math.prod(self.bottom), style=style)
        self.decoder = RecurrentDecoder(widths, frame, config.z_dim, style)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """Predict frames; see Translator. Without draws, the latent is zero.

        Args:
            image: given frames, shape [N, T, C, H, W].
            draws: of the latent.

        Returns:
            The next frames, shape [N, T', C, H, W].
        """
        if image.shape[1:] != self.input.shape:
            raise ValueError(f"dvdgan_fp was built for {list(self.input.shape)}, not for {list(image.shape[1:])}")
        count = len(image)
        x, found = channels_last(image.flatten(0, 1)), []
        for block in self.encoder:
            x = block(x)
            found.append(x.reshape(count, -1, *x.shape[2:]))
        states = [
            F.relu(layer(channels_last(feature))) for layer, feature in zip(self.states, found[::-1], strict=True)
        ]
        z = image.new_zeros(count, self.z_dim) if draws is None else draws.of("z").normal(self.z_dim)
        start = self.linear(z).reshape(count, -1, *self.bottom)
        made: Tensor = self.decoder(start, z, self.output.shape[0], states)
        return made

    def stages(self) -> Sequence[nn.Module]:
        """See Translator."""
        return [*self.encoder, *self.decoder.stages()]


class DVDGANFPDiscriminator(PatchDiscriminator):
    """Drawn predicted frames -> a logit; given and predicted frames at half resolution -> another; [N, 2]."""

    opinions = (1, 1)

    def __init__(self, config: DVDGANFPDiscriminatorConfig, image: ArraySpec, condition: ArraySpec | None) -> None:
        super().__init__()
        frame = frame_of(image)
        if config.frames > image.shape[0]:
            raise ValueError(f"dvdgan_fp: frames {config.frames} are more than the {image.shape[0]} that are predicted")
        self.image, self.condition = image, condition
        self.length, self.count = image.shape[0], config.frames
        seen = self.length
        if condition is not None:
            _check_frames(condition, image)
            seen += condition.shape[0]
        multiples = config.multiples or usual_widths(
            DISCRIMINATOR_WIDTHS, min(frame.shape[1:]), "discriminator.multiples"
        )
        self.spatial = BigGANDiscriminatorConfig(width=config.width, multiples=multiples, init=config.init).build(frame)
        together = ArraySpec((seen, *image.shape[1:]))
        self.temporal = TemporalDiscriminator(together, config.width, config.temporal_multiples, config.init)
        self.widths = [self.spatial.features_dim, self.temporal.features_dim]

    def draw_view(self, image: Tensor, draws: Draws) -> Tensor:
        """See PatchDiscriminator: frames are drawn from each predicted clip."""
        return append_drawn_frames(image, draws, self.count)

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Return the activations of both; the last one is their last features side by side.

        Args:
            image: predicted frames, shape [N, T', C, H, W], with or without drawn ones behind.
            condition: given frames, shape [N, T, C, H, W].
        """
        clip, frames = split_drawn_frames(image, self.length, self.count)
        no_class = torch.zeros(len(clip), dtype=torch.int64, device=clip.device)
        *inner, of_frames = self.spatial.features(channels_last(frames.flatten(0, 1)), no_class)
        whole = clip if condition is None else torch.cat([condition, clip], dim=1)
        *more, of_clip = self.temporal.features(whole, no_class)
        return [*inner, *more, torch.cat([of_frames.reshape(len(clip), self.count, -1).sum(1), of_clip], dim=1)]

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits, float32, shape [N, 2], spatial first and temporal last."""
        of_frames, of_clip = torch.split(feature, self.widths, dim=1)
        no_class = torch.zeros(len(feature), dtype=torch.int64, device=feature.device)
        return torch.stack([self.spatial.head(of_frames, no_class), self.temporal.head(of_clip, no_class)], dim=1)

    def stages(self) -> Sequence[nn.Module]:
        """See PatchDiscriminator."""
        return [*self.spatial.stages(), *self.temporal.stages()]


def _check_frames(given: ArraySpec, predicted: ArraySpec) -> None:
    if len(given.shape) != 4 or given.shape[1:] != predicted.shape[1:]:
        raise ValueError(
            f"dvdgan_fp predicts frames of the given ones' size, not {list(predicted.shape)} from {list(given.shape)}"
        )
