"""TGAN: one latent makes a latent for each frame, and an image generator makes the frames (Saito et al. 2017).

The temporal generator, one-dimensional transposed convolutions over time, turns a clip's latent z0 into the frames'
latents z1 to zT. Any generator of images turns z0 and a frame's latent, side by side, into the frame. In the paper, the
image generator's first layer is linear in each of the two, which a layer that is linear in both includes. The
discriminator consists of three-dimensional convolutions over the clip.

The paper keeps its discriminator's singular values at 1 or less, by clipping them after some of the steps. That is not
built, because a clipped weight would have to be gathered on one rank. WGAN-GP (Gulrajani et al. 2017) bounds the same
slope by a penalty: `objective: {adversarial: wasserstein, terms: {wgan_gp: {}}}`, with `norm: layer` or `none`.

A class stands for a kind of motion: it is given to the temporal generator beside z0, and the discriminator has a
projection of it (Miyato & Koyama 2018).
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import (
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Generator,
    GeneratorConfig,
)
from bigtrain.models.layers.clips import ClipDiscriminator, Norm, frame_of
from bigtrain.models.layers.conditional_batch_norm import BatchNorm, set_standing_statistics
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.layer_norm import ChannelLayerNorm
from bigtrain.models.layers.spectral import WeightStyle

_STYLE = WeightStyle("xavier", spectral=False)


class TGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's parts.

    Attributes:
        base: the generator of single frames; the length of its latent, less `frame_dim`, is that of the clip's latent.
        frame_dim: length of a frame's latent.
        width: channels of the temporal generator after its first layer; they are halved twice.
        norm: normalisation in the temporal generator, after each layer but the last.
        calibration_batch: latents per batch when the temporal generator's standing statistics are computed.
    """

    kind: Literal["tgan"] = "tgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    base: GeneratorConfig
    frame_dim: PositiveInt = 100
    width: PositiveInt = 512
    norm: Norm = "batch"
    calibration_batch: PositiveInt = 128

    def build(self, image: ArraySpec) -> "TGANGenerator":
        """Build the generator of clips [T, C, H, W]."""
        return TGANGenerator(self, image)


class TGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size.

    Attributes:
        width: channels after the first layer; they double, up to eight times that.
        norm: normalisation after each layer but the first; gradient penalties need `layer` or `none`.
    """

    kind: Literal["tgan"] = "tgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    width: PositiveInt = 64
    norm: Norm = "batch"

    def build(self, image: ArraySpec) -> ClipDiscriminator:
        """Build the discriminator of clips [T, C, H, W]."""
        frame_of(image, self.kind)
        return ClipDiscriminator(image, self.width, self.norm)


class TGANGenerator(Generator):
    """Latent, class -> latents of the frames -> frames, [N, T, C, H, W]."""

    def __init__(self, config: TGANGeneratorConfig, clip: ArraySpec) -> None:
        super().__init__()
        self.image, self.frames, self.calibration_batch = clip, clip.shape[0], config.calibration_batch
        self.frame = config.base.build(frame_of(clip, config.kind))
        self.z_dim = self.frame.z_dim - config.frame_dim
        if self.z_dim < 1:
            raise ValueError(
                f"tgan's base.z_dim {self.frame.z_dim} contains the clip's latent and frame_dim {config.frame_dim}: "
                f"use base.z_dim {config.frame_dim + 1} or more"
            )
        self.temporal = TemporalGenerator(self.z_dim, clip, config)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate clips; see `Generator.forward`. Truncation scales z."""
        frames: Tensor = self.frame(*self._codes(z * truncation, label))
        return frames.reshape(-1, self.frames, *frames.shape[1:])

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return self.frame.stages()

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the temporal generator's standing statistics, then calibrate the generator of frames."""
        set_standing_statistics(self.temporal, z, label, batch=self.calibration_batch)
        with torch.no_grad():
            codes, no_class = self._codes(z, label)
        self.frame.calibrate(codes, no_class)

    def _codes(self, z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents of all frames, clip by clip, and a class for each, which the frames' generator ignores."""
        of_frames = self.temporal(z, label)
        of_clip = z[:, None].expand(-1, self.frames, -1).to(of_frames.dtype)
        codes = torch.cat([of_clip, of_frames], dim=2).flatten(0, 1)
        return codes, torch.zeros(len(codes), dtype=torch.int64, device=codes.device)


class TemporalGenerator(nn.Module):
    """Latent, class -> transposed convolutions that double the number of frames -> latents of the frames in [-1, 1].

    The first layer makes as many frames as are left when the number is halved as often as it can be: 1 of 16, 3 of 12.

    Args:
        z_dim: length of the latent.
        clip: [T, C, H, W], with its number of classes.
        config: of the generator.
    """

    def __init__(self, z_dim: int, clip: ArraySpec, config: TGANGeneratorConfig) -> None:
        super().__init__()
        self.classes = clip.classes
        first, doublings = clip.shape[0], 0
        while first % 2 == 0:
            first, doublings = first // 2, doublings + 1
        widths = [max(config.width >> min(level, 2), 1) for level in range(doublings)] + [config.frame_dim]
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        channels = z_dim + clip.classes
        for level, width in enumerate(widths):
            self.layers.append(TemporalConvolution(channels, width, first=None if level else first))
            self.norms.append(_normalisation(config.norm if level < doublings else "none", width))
            channels = width

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Map latents [N, z_dim] and classes to the latents of the frames, [N, T, frame_dim]."""
        if self.classes:
            z = torch.cat([z, class_weights(label, self.classes).to(z.dtype)], dim=1)
        x = z[:, :, None]
        for level, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(layer(F.relu(x) if level else x))
        return torch.tanh(x.float()).transpose(1, 2)


class TemporalConvolution(nn.ConvTranspose1d):
    """Transposed convolution that makes `first` frames of one, or twice as many frames where `first` is None."""

    def __init__(self, channels: int, out_channels: int, *, first: int | None) -> None:
        kernel, stride, padding = (4, 2, 1) if first is None else (first, 1, 0)
        super().__init__(channels, out_channels, kernel, stride, padding)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


class FrameBatchNorm(BatchNorm):
    """Batch normalisation of [N, C, T]."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T] to the same shape."""
        return super().forward(x[..., None])[..., 0]


def _normalisation(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return FrameBatchNorm(channels)
    return ChannelLayerNorm(channels) if kind == "layer" else nn.Identity()
