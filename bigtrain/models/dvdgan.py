"""DVD-GAN: recurrent convolutions over BigGAN's blocks, and a discriminator each of frames and of motion.

Clark, Donahue & Simonyan 2019. The generator alternates gated recurrent units of convolutions, which run along time,
with residual blocks, which work on each frame. The spatial discriminator judges some drawn frames at full resolution,
the temporal one all frames at half resolution; their losses are added. Separable attention, which the paper has for
clips of 48 frames, is off unless `attention` names a resolution.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import (
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Discriminator,
    Generator,
    ImageSpec,
)
from bigtrain.models.biggan import (
    DISCRIMINATOR_WIDTHS,
    BigGANDiscriminatorConfig,
    DiscriminatorBlock,
    GeneratorBlock,
    bottom_size,
    check_halvings,
    output_layer,
    paper_halvings,
)
from bigtrain.models.layers.attention import SeparableAttention
from bigtrain.models.layers.conditional_batch_norm import set_standing_statistics
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.drawn_frames import append_drawn_frames, split_drawn_frames
from bigtrain.models.layers.projection_discriminator import SpectralProjection
from bigtrain.models.layers.spectral import (
    Initialisation,
    SpectralConv2d,
    SpectralConv3d,
    SpectralLinear,
    WeightStyle,
)
from bigtrain.ops.convolution import conv2d
from bigtrain.ops.layout import channels_last

GENERATOR_WIDTHS = {64: (8, 8, 8, 4, 2), 128: (8, 8, 8, 4, 2, 1), 256: (8, 8, 8, 4, 4, 2, 1)}
"""Channels at 4x4, 8x8, ... as multiples of the base width."""

Widths = tuple[PositiveInt, ...]


class DVDGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape.

    Attributes:
        z_dim: length of the latent.
        width: base number of channels (128 in the paper at 64x64).
        multiples: channels at 4x4, 8x8, ... as multiples of `width`; null for the usual ones at 64, 128 and 256 pixels.
        shared_dim: length of the class embedding, which is appended to the latent.
        attention: resolutions (of the shorter side) after which there is separable attention.
        init: initialisation of the weights.
        calibration_batch: latents per batch when the standing statistics are computed.
    """

    kind: Literal["dvdgan"] = "dvdgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    z_dim: PositiveInt = 120
    width: PositiveInt = 128
    multiples: Widths | None = None
    shared_dim: PositiveInt = 120
    attention: tuple[int, ...] = ()
    init: Initialisation = "orthogonal"
    calibration_batch: PositiveInt = 32

    def build(self, image: ArraySpec) -> "DVDGANGenerator":
        """Build the generator of clips [T, C, H, W]."""
        return DVDGANGenerator(self, image)


class DVDGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The two discriminators.

    Attributes:
        frames: number of frames that the spatial discriminator judges of each clip (k in the paper).
        width: base number of channels of both.
        multiples: channels after each block of the spatial discriminator as multiples of `width`; null for BigGAN's.
        temporal_multiples: likewise of the temporal discriminator, whose first two blocks are three-dimensional; null
            for BigGAN's at half of the resolution.
        attention: resolutions (of the shorter side) after which the spatial discriminator has self-attention.
        temporal_attention: resolutions (of the shorter side, of its own features) after which the temporal
            discriminator has separable attention.
        init: initialisation of the weights.
    """

    kind: Literal["dvdgan"] = "dvdgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    frames: PositiveInt = 8
    width: PositiveInt = 128
    multiples: Widths | None = None
    temporal_multiples: Widths | None = Field(default=None, min_length=2)
    attention: tuple[int, ...] = ()
    temporal_attention: tuple[int, ...] = ()
    init: Initialisation = "orthogonal"

    def build(self, image: ArraySpec) -> "DVDGANDiscriminator":
        """Build the discriminators of clips [T, C, H, W]."""
        return DVDGANDiscriminator(self, image)


class DVDGANGenerator(Generator):
    """z, class -> features of 4 pixels, the same for all frames -> recurrent and residual stages -> clip."""

    def __init__(self, config: DVDGANGeneratorConfig, clip: ArraySpec) -> None:
        super().__init__()
        frame = frame_of(clip)
        multiples = config.multiples or usual_widths(GENERATOR_WIDTHS, min(frame.shape[1:]), "generator.multiples")
        self.image, self.frames, self.z_dim = clip, clip.shape[0], config.z_dim
        self.bottom, self.calibration_batch = bottom_size(frame, len(multiples)), config.calibration_batch
        widths, style = [multiple * config.width for multiple in multiples], WeightStyle(config.init)
        condition = config.z_dim
        if clip.classes:
            self.shared = ClassTable(clip.classes, config.shared_dim, style)
            condition += config.shared_dim
        self.linear = SpectralLinear(condition, widths[0] * math.prod(self.bottom), style=style)
        self.decoder = RecurrentDecoder(widths, frame, condition, style, config.attention)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate clips; see `Generator.forward`. Truncation scales z."""
        condition = z * truncation
        if self.image.classes:
            embedding = self.shared(class_weights(label, self.image.classes))
            condition = torch.cat([condition, embedding.to(z.dtype)], dim=1)
        x = self.linear(condition).reshape(len(z), -1, *self.bottom)
        made: Tensor = self.decoder(x, condition, self.frames)
        return made

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return self.decoder.stages()

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the standing batch statistics."""
        set_standing_statistics(self, z, label, batch=self.calibration_batch)


class RecurrentDecoder(nn.Module):
    """Features of the smallest size -> at each size a recurrent unit and two residual blocks -> clip.

    Args:
        widths: channels at the smallest size, at twice that, and so on.
        frame: what a frame is.
        condition: length of the condition of the residual blocks.
        style: of the weights.
        attention: shorter sides after which there is separable attention.

    Raises:
        ValueError: the features never have one of these sides.
    """

    def __init__(
        self,
        widths: Sequence[int],
        frame: ImageSpec,
        condition: int,
        style: WeightStyle,
        attention: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.recurrent, self.blocks, self.attention = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        side = min(frame.shape[1:]) >> (len(widths) - 1)
        check_sides("generator.attention", attention, [side << depth for depth in range(1, len(widths))])
        for depth, (channels, out_channels) in enumerate(pairwise(widths), 1):
            self.recurrent.append(ConvGRU(channels, style))
            self.blocks.append(GeneratorBlock(channels, channels, condition, 1, style, up=False))
            self.blocks.append(GeneratorBlock(channels, out_channels, condition, 1, style))
            if side << depth in attention:
                self.attention[str(depth - 1)] = SeparableAttention(out_channels, style)
        self.output_layer = output_layer(widths[-1], frame, style)

    def forward(self, x: Tensor, condition: Tensor, frames: int, states: Sequence[Tensor] = ()) -> Tensor:
        """Make clips.

        Args:
            x: the input of the first recurrent unit, the same for all frames, shape [N, C, h, w].
            condition: shape [N, condition].
            frames: how many to make.
            states: of each recurrent unit before the first frame; empty for zeros.

        Returns:
            In [-1, 1], float32, shape [N, frames, C, H, W].
        """
        x = channels_last(x).repeat_interleave(frames, dim=0)
        condition = condition.repeat_interleave(frames, dim=0)
        for depth, recurrent in enumerate(self.recurrent):
            x = recurrent(x.reshape(-1, frames, *x.shape[1:]), states[depth] if states else None)
            for block in self.blocks[2 * depth : 2 * depth + 2]:
                x = block(x, condition)
            if str(depth) in self.attention:
                x = self.attention[str(depth)](x, frames)
        made = torch.tanh(self.output_layer(x).float())
        return made.reshape(-1, frames, *made.shape[1:])

    def stages(self) -> Sequence[nn.Module]:
        """Return the recurrent units, the blocks and the attention."""
        return [*self.recurrent, *self.blocks, *self.attention.values()]


class ConvGRU(nn.Module):
    """A gated recurrent unit of 3x3 convolutions (Ballas et al. 2016), with ReLU as in the paper's appendix.

    Args:
        channels: of the input and of the state.
        style: of the weights.
    """

    def __init__(self, channels: int, style: WeightStyle) -> None:
        super().__init__()
        self.channels = channels
        self.gates = SpectralConv2d(2 * channels, 2 * channels, 3, style=style)
        self.candidate = SpectralConv2d(2 * channels, channels, 3, style=style)

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """Map the frames' inputs, [N, T, C, H, W], to the states as images, [N * T, C, H, W].

        `before` is the state before the first frame, [N, C, H, W]; None for zeros.
        """
        count, frames = x.shape[:2]
        parts = []  # the weights once for all frames, in a part for the input and one for the state
        for layer in (self.gates, self.candidate):
            of_input, of_state = layer.normalised_weight().chunk(2, dim=1)
            inputs = conv2d(channels_last(x.flatten(0, 1)), of_input, layer.bias, padding=1)
            parts.append((inputs.reshape(count, frames, *inputs.shape[1:]).unbind(1), of_state))
        (of_gates, gates_weight), (of_candidates, candidate_weight) = parts
        state, states = torch.zeros_like(of_candidates[0]) if before is None else before, []
        for gates, candidate in zip(of_gates, of_candidates, strict=True):
            reset, update = torch.sigmoid(gates + conv2d(state, gates_weight, padding=1)).chunk(2, dim=1)
            new = F.relu(candidate + conv2d(channels_last(reset * state), candidate_weight, padding=1))
            state = channels_last(update * state + (1 - update) * new)
            states.append(state)
        return channels_last(torch.stack(states, dim=1).flatten(0, 1))


class DVDGANDiscriminator(Discriminator):
    """Drawn frames -> logit of the one; clip at half resolution -> logit of the other; logits of shape [N, 2]."""

    opinions = (1, 1)

    def __init__(self, config: DVDGANDiscriminatorConfig, clip: ArraySpec) -> None:
        super().__init__()
        frame = frame_of(clip)
        if config.frames > clip.shape[0]:
            raise ValueError(f"dvdgan: frames {config.frames} are more than the {clip.shape[0]} of a clip")
        self.image, self.length, self.count = clip, clip.shape[0], config.frames
        multiples = config.multiples or usual_widths(
            DISCRIMINATOR_WIDTHS, min(frame.shape[1:]), "discriminator.multiples"
        )
        halvings = range(1, paper_halvings(frame, len(multiples)) + 1)
        sides = [min(frame.shape[1:]) >> halving for halving in halvings]
        check_sides("discriminator.attention", config.attention, sides)
        spatial = BigGANDiscriminatorConfig(
            width=config.width, multiples=multiples, attention=config.attention, init=config.init
        )
        self.spatial = spatial.build(frame)
        self.temporal = TemporalDiscriminator(
            clip, config.width, config.temporal_multiples, config.init, config.temporal_attention
        )
        self.widths = [self.spatial.features_dim, self.temporal.features_dim]
        self.features_dim = sum(self.widths)

    def draw_view(self, image: Tensor, draws: Draws) -> Tensor:
        """See Discriminator: frames are drawn from each clip."""
        return append_drawn_frames(image, draws, self.count)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """Return the activations of both; the last one is their last features side by side.

        Args:
            image: clips [N, T, C, H, W], with or without drawn frames behind; without, frames at even distances are
                taken. A clip's score is the sum of its frames' scores, so their last features are added.
            label: see Discriminator.
        """
        clip, frames = split_drawn_frames(image, self.length, self.count)
        labels = label.repeat_interleave(self.count, dim=0)
        *inner, of_frames = self.spatial.features(channels_last(frames.flatten(0, 1)), labels)
        *more, of_clip = self.temporal.features(clip, label)
        of_frames = of_frames.reshape(len(clip), self.count, -1).sum(1)
        return [*inner, *more, torch.cat([of_frames, of_clip], dim=1)]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """Turn the last features [N, features_dim] into logits, float32, spatial first and temporal last."""
        of_frames, of_clip = torch.split(feature, self.widths, dim=1)
        return torch.stack([self.spatial.head(of_frames, label), self.temporal.head(of_clip, label)], dim=1)

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return [*self.spatial.stages(), *self.temporal.stages()]


class TemporalDiscriminator(SpectralProjection):
    """Clip -> half its sides -> two residual blocks of space and time -> residual blocks of each frame -> logit."""

    def __init__(
        self,
        clip: ArraySpec,
        width: int,
        multiples: Widths | None,
        init: Initialisation,
        attention: Sequence[int] = (),
    ) -> None:
        super().__init__()
        _, channels, *sides = clip.shape
        if any(side % 2 for side in sides):
            raise ValueError(f"dvdgan halves its frames, which {sides[0]}x{sides[1]} does not allow")
        half = ImageSpec(sides[0] // 2, channels, clip.classes, None if sides[0] == sides[1] else sides[1] // 2)
        key = "discriminator.temporal_multiples"
        multiples = multiples or usual_widths(DISCRIMINATOR_WIDTHS, min(half.shape[1:]), key)
        widths, style = [multiple * width for multiple in multiples], WeightStyle(init)
        halvings = paper_halvings(half, len(widths))
        check_halvings(half, halvings)
        self.image = clip
        after = [min(half.shape[1:]) >> min(depth + 1, halvings) for depth in range(len(widths))]
        check_sides("discriminator.temporal_attention", attention, after)
        blocks: list[nn.Module] = []
        for depth, (before, width_after) in enumerate(pairwise([channels, *widths])):
            kind = SpaceTimeBlock if depth < 2 else DiscriminatorBlock
            blocks.append(kind(before, width_after, down=depth < halvings, first=depth == 0, style=style))
        self.blocks = nn.ModuleList(blocks)
        self.attention = nn.ModuleDict(
            {
                str(depth): SeparableAttention(widths[depth], style)
                for depth, side in enumerate(after)
                if side in attention
            }
        )
        self.add_head(widths[-1], style)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; `image` has shape [N, T, C, H, W]."""
        count, found = len(image), []
        x = _as_clips(F.avg_pool2d(channels_last(image.flatten(0, 1)), 2), count)
        for depth, block in enumerate(self.blocks):
            x = block(_as_frames(x) if isinstance(block, DiscriminatorBlock) else x)
            if str(depth) in self.attention:
                frames = _as_frames(x)
                attended = self.attention[str(depth)](frames, len(frames) // count)
                x = _as_clips(attended, count) if x.ndim == 5 else attended
            found.append(x)
        x = _as_frames(x)
        found.append(F.relu(x).float().sum((2, 3)).reshape(count, -1, self.features_dim).sum(1))
        return found

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return [*self.blocks, *self.attention.values()]


def _as_frames(x: Tensor) -> Tensor:
    """Turn clips [N, C, T, H, W] into their frames [N * T, C, H, W]; frames stay as they are."""
    return channels_last(x.transpose(1, 2).flatten(0, 1)) if x.ndim == 5 else x


def _as_clips(x: Tensor, count: int) -> Tensor:
    """Turn frames [count * T, C, H, W] into clips [count, C, T, H, W]."""
    return x.reshape(count, -1, *x.shape[1:]).transpose(1, 2)


class SpaceTimeBlock(nn.Module):
    """BigGAN's discriminator block with three-dimensional convolutions; an even number of frames is halved as well."""

    def __init__(self, channels: int, out_channels: int, *, down: bool, first: bool, style: WeightStyle) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = SpectralConv3d(channels, out_channels, 3, style=style)
        self.conv2 = SpectralConv3d(out_channels, out_channels, 3, style=style)
        if channels != out_channels or down:
            self.conv_sc = SpectralConv3d(channels, out_channels, 1, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T, H, W] to [N, C', T / 2, H / 2, W / 2], or without halving."""
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.down:
            y, x = _halved(y), _halved(x)
        out: Tensor = y + (self.conv_sc(x) if hasattr(self, "conv_sc") else x)
        return out


def _halved(x: Tensor) -> Tensor:
    """Average [N, C, T, H, W] over 2x2 pixels, and over two frames if T is even: `avg_pool3d` is not deterministic."""
    x = _as_clips(F.avg_pool2d(_as_frames(x), 2), len(x))
    if x.shape[2] % 2:
        return x
    return (x[:, :, ::2] + x[:, :, 1::2]) / 2


def check_sides(key: str, wanted: Sequence[int], sides: Sequence[int]) -> None:
    """See that features have every side that attention is wanted at.

    Raises:
        ValueError: they have not; the message names the key.
    """
    if odd := [side for side in wanted if side not in sides]:
        raise ValueError(f"dvdgan: {key} {odd[0]}: the features have sides of {', '.join(map(str, sides))}")


def usual_widths(table: dict[int, tuple[int, ...]], side: int, key: str) -> tuple[int, ...]:
    """Return the multiples of the width for frames of a size.

    Raises:
        ValueError: there are none; the message names the key.
    """
    if side not in table:
        raise ValueError(
            f"dvdgan knows {key} of frames of {', '.join(map(str, table))} pixels, not of {side}: give them"
        )
    return table[side]


def frame_of(clip: ArraySpec) -> ImageSpec:
    """Return what a frame of a clip is to the blocks of images.

    Raises:
        ValueError: it is no clip.
    """
    if len(clip.shape) != 4:
        raise ValueError(f"dvdgan works on clips [T, C, H, W], and the field has the shape {list(clip.shape)}")
    _, channels, height, width = clip.shape
    return ImageSpec(height, channels, clip.classes, None if width == height else width)
