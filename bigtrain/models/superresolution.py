"""Super-resolution networks: SRResNet (Ledig et al. 2017), RRDB (Wang et al. 2018, ESRGAN), and their discriminators.

The discriminators are SRGAN's, in VGG's style, and the U-Net of Real-ESRGAN (Wang et al. 2021), which judges each
pixel. Images are in [-1, 1] as everywhere, and the layers see them in [0, 1] as the published networks do, whose
checkpoints' names the parameters carry.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ImageSpec
from bigtrain.models.layers.conditional_batch_norm import BatchNorm
from bigtrain.models.layers.spectral import StoredSpectralConv2d
from bigtrain.models.translator import (
    BasePatchDiscriminatorConfig,
    BaseTranslatorConfig,
    PatchDiscriminator,
    Translator,
    channels_judged,
)
from bigtrain.ops.layout import channels_last

_RESIDUAL_INIT = 0.1
"""Factor on He's initialisation inside residual branches (Wang et al. 2018, section 3.1, "smaller initialization")."""


class RRDBConfig(BaseTranslatorConfig):
    """ESRGAN's generator: residual-in-residual dense blocks.

    Attributes:
        scale: 1, 2, 4, 8, ...; below 4 the input is first folded into channels (Wang et al. 2021).
        width: number of channels between the blocks.
        blocks: number of blocks, each of three dense blocks.
        growth: number of channels that a layer inside a dense block adds.
        add_bicubic: whether the network's output is added to a bicubic enlargement of the input, so that a short
            training starts from that. False as in the paper.
    """

    kind: Literal["rrdb"] = "rrdb"
    scale: PositiveInt = 4
    width: PositiveInt = 64
    blocks: PositiveInt = 23
    growth: PositiveInt = 32
    add_bicubic: bool = False

    def build(self, source: ImageSpec, target: ImageSpec) -> "RRDBUpscaler":
        """Build the network from `source` images to `target` images.

        Raises:
            ValueError: `target` is not `scale` times as large, or has other channels.
        """
        return RRDBUpscaler(self, source, target)


class SRResNetConfig(BaseTranslatorConfig):
    """SRGAN's generator without batch normalisation; its output is added to a bilinear enlargement.

    Attributes:
        scale: 2, 3, 4, 8, ...
        width: number of channels.
        blocks: number of residual blocks.
    """

    kind: Literal["srresnet"] = "srresnet"
    scale: PositiveInt = 4
    width: PositiveInt = 64
    blocks: PositiveInt = 16

    def build(self, source: ImageSpec, target: ImageSpec) -> "SRResNetUpscaler":
        """Build the network from `source` images to `target` images.

        Raises:
            ValueError: `target` is not `scale` times as large, or has other channels.
        """
        return SRResNetUpscaler(self, source, target)


class VGGDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """SRGAN's discriminator.

    Attributes:
        width: channels of the first stage; they double, up to eight times this number.
    """

    kind: Literal["vgg"] = "vgg"
    width: PositiveInt = 64

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "VGGDiscriminator":
        """Build the discriminator of `image` beside `condition`.

        Raises:
            ValueError: the images cannot be halved so often, or differ in size.
        """
        return VGGDiscriminator(self, image, condition)


class UNetDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """Real-ESRGAN's discriminator, with one logit per pixel.

    Attributes:
        width: channels at full resolution.
    """

    kind: Literal["unet"] = "unet"
    width: PositiveInt = 64

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "UNetDiscriminator":
        """Build the discriminator of `image` beside `condition`.

        Raises:
            ValueError: the images cannot be halved so often, or differ in size.
        """
        return UNetDiscriminator(self, image, condition)


class RRDBUpscaler(Translator):
    """Convolution, residual-in-residual dense blocks, nearest-neighbour up-sampling between convolutions."""

    kind = "rrdb"

    def __init__(self, config: RRDBConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        _check_scale(config.scale, source, target, powers_of_two=True)
        self.input, self.output = source, target
        doublings = max(int(math.log2(config.scale)), 2)
        self.multiple = self.folding = 2**doublings // config.scale
        self.check_size(*source.shape[1:])
        width = config.width
        self.conv_first = Conv2d(source.channels * self.folding**2, width)
        self.body = nn.Sequential(*(ResidualInResidual(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = Conv2d(width, width)
        self.up_names = [f"conv_up{number}" for number in range(1, doublings + 1)]
        for name in self.up_names:
            self.add_module(name, Conv2d(width, width))
        self.conv_hr = Conv2d(width, width)
        self.enlargement = config.scale if config.add_bicubic else None
        self.conv_last = Conv2d(width, target.channels, gain=_RESIDUAL_INIT if config.add_bicubic else None)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`."""
        self.check_size(*image.shape[2:])
        low = _from_zero_to_one(image)
        x = self.conv_first(F.pixel_unshuffle(low, self.folding))
        x = x + self.conv_body(self.body(x))
        for name in self.up_names:
            x = F.leaky_relu(self.get_submodule(name)(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2)).float()
        if self.enlargement is not None:
            out = out + F.interpolate(low.float(), scale_factor=self.enlargement, mode="bicubic", align_corners=False)
        return 2.0 * out - 1.0

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return list(self.body)


class ResidualInResidual(nn.Module):
    """Three dense blocks; a fifth of what they find is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        out: Tensor = x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))
        return out


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; a fifth of the last is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            self.add_module(f"conv{number + 1}", Conv2d(width + number * growth, growth, gain=_RESIDUAL_INIT))
        self.conv5 = Conv2d(width + 4 * growth, width, gain=_RESIDUAL_INIT)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        seen = x
        for number in range(1, 5):
            found = F.leaky_relu(self.get_submodule(f"conv{number}")(seen), 0.2)
            seen = torch.cat([seen, found.to(seen.dtype)], dim=1)
        out: Tensor = x + 0.2 * self.conv5(seen)
        return out


class SRResNetUpscaler(Translator):
    """Residual blocks and sub-pixel convolutions, added to the bilinear enlargement."""

    kind = "srresnet"

    def __init__(self, config: SRResNetConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        _check_scale(config.scale, source, target, powers_of_two=config.scale != 3)
        self.input, self.output, self.scale = source, target, config.scale
        width = config.width
        steps = [3] if config.scale == 3 else [2] * int(math.log2(config.scale))
        self.conv_first = Conv2d(source.channels, width, gain=_RESIDUAL_INIT)
        self.body = nn.Sequential(*(PlainResidual(width) for _ in range(config.blocks)))
        self.steps = {f"upconv{number}": step for number, step in enumerate(steps, 1)}
        for name, step in self.steps.items():
            self.add_module(name, Conv2d(width, width * step**2, gain=_RESIDUAL_INIT))
        self.conv_hr = Conv2d(width, width, gain=_RESIDUAL_INIT)
        self.conv_last = Conv2d(width, target.channels, gain=_RESIDUAL_INIT)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`."""
        low = _from_zero_to_one(image)
        x = self.body(F.leaky_relu(self.conv_first(low), 0.1))
        for name, step in self.steps.items():
            x = F.leaky_relu(F.pixel_shuffle(self.get_submodule(name)(x), step), 0.1)
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), 0.1))
        base = F.interpolate(low.float(), scale_factor=self.scale, mode="bilinear", align_corners=False)
        out: Tensor = 2.0 * (x.float() + base) - 1.0
        return out

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return list(self.body)


class PlainResidual(nn.Module):
    """Two convolutions with a ReLU between, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (Conv2d(width, width, gain=_RESIDUAL_INIT) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class VGGDiscriminator(PatchDiscriminator):
    """Stages of a 3x3 and a halving 4x4 convolution, then two fully connected layers."""

    def __init__(self, config: VGGDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        _, height, width = image.shape
        self.image, self.condition = image, condition
        self.count = int(math.log2(min(height, width) / 4)) if min(height, width) >= 8 else 0
        _check_halvings("vgg", image, self.count)
        channels = channels_judged(image, condition)
        for stage in range(self.count):
            out_channels = config.width * min(2**stage, 8)
            first = stage == 0
            self.add_module(f"conv{stage}_0", Conv2d(channels, out_channels, bias=first))
            if not first:
                self.add_module(f"bn{stage}_0", BatchNorm(out_channels))
            self.add_module(f"conv{stage}_1", Conv2d(out_channels, out_channels, 4, stride=2, bias=False))
            self.add_module(f"bn{stage}_1", BatchNorm(out_channels))
            channels = out_channels
        places = (height >> self.count) * (width >> self.count)
        self.linear1 = nn.Linear(channels * places, 100)
        self.linear2 = nn.Linear(100, 1)

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """See `PatchDiscriminator.features`; the last one has shape [N, 100]."""
        x, found = _from_zero_to_one(self.joined(image, condition)), []
        for stage in range(self.count):
            for half in range(2):
                x = self.get_submodule(f"conv{stage}_{half}")(x)
                if stage or half:
                    x = self.get_submodule(f"bn{stage}_{half}")(x)
                x = F.leaky_relu(x, 0.2)
            found.append(x)
        found.append(F.leaky_relu(self.linear1(x.flatten(1)), 0.2).float())
        return found

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits of whole images, float32, shape [N, 1, 1, 1]."""
        logits: Tensor = self.linear2(feature).float()
        return logits[:, :, None, None]


class UNetDiscriminator(PatchDiscriminator):
    """Three halvings and back, each level added to the way back, with spectral normalisation in between."""

    def __init__(self, config: UNetDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        _check_halvings("unet", image, 3)
        self.image, self.condition = image, condition
        width = config.width
        self.conv0 = Conv2d(channels_judged(image, condition), width)
        self.conv1 = StoredSpectralConv2d(width, 2 * width, 4, stride=2)
        self.conv2 = StoredSpectralConv2d(2 * width, 4 * width, 4, stride=2)
        self.conv3 = StoredSpectralConv2d(4 * width, 8 * width, 4, stride=2)
        self.conv4 = StoredSpectralConv2d(8 * width, 4 * width, 3)
        self.conv5 = StoredSpectralConv2d(4 * width, 2 * width, 3)
        self.conv6 = StoredSpectralConv2d(2 * width, width, 3)
        self.conv7 = StoredSpectralConv2d(width, width, 3)
        self.conv8 = StoredSpectralConv2d(width, width, 3)
        self.conv9 = Conv2d(width, 1)

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """See `PatchDiscriminator.features`; the last one has shape [N, width, H, W]."""
        levels = [F.leaky_relu(self.conv0(_from_zero_to_one(self.joined(image, condition))), 0.2)]
        for convolution in (self.conv1, self.conv2, self.conv3):
            levels.append(F.leaky_relu(convolution(levels[-1]), 0.2))
        x, found = levels.pop(), list(levels)
        found.append(x)
        for convolution in (self.conv4, self.conv5, self.conv6):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(x), 0.2) + levels.pop()
            found.append(x)
        found.append(F.leaky_relu(self.conv8(F.leaky_relu(self.conv7(x), 0.2)), 0.2))
        return found

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits of each pixel, float32, shape [N, 1, H, W]."""
        logits: Tensor = self.conv9(feature)
        return logits.float()


class Conv2d(nn.Conv2d):
    """Convolution with "same" padding (or half the size, for stride 2).

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: 3, or 4 with stride 2.
        stride: 1 or 2.
        bias: whether to add one; it starts at 0.
        gain: factor on He's normal initialisation; None for PyTorch's own.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        gain: float | None = None,
    ) -> None:
        self.gain = gain
        super().__init__(channels, out_channels, kernel_size, stride, padding=1, bias=bias)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        if self.gain is None:
            super().reset_parameters()
            return
        nn.init.normal_(self.weight, std=self.gain * math.sqrt(2.0 / self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def _from_zero_to_one(image: Tensor) -> Tensor:
    """Return images in [-1, 1] as the published networks see them."""
    return channels_last(0.5 * image + 0.5)


def _check_scale(scale: int, source: ImageSpec, target: ImageSpec, *, powers_of_two: bool) -> None:
    """Refuse a scale that does not lead from `source` to `target`."""
    if powers_of_two and scale & (scale - 1):
        raise ValueError(f"scale is {scale}: use 1, 2, 4, 8, ...")
    (channels, *small), (out_channels, *large) = source.shape, target.shape
    if [scale * side for side in small] != large:
        sizes = ["x".join(map(str, sides)) for sides in (large, small)]
        raise ValueError(
            f"scale is {scale}: outputs of {sizes[0]} are not {scale} times as large as inputs of {sizes[1]}"
        )
    if channels != out_channels:
        raise ValueError(
            f"super-resolution keeps the number of channels: inputs have {channels}, but outputs {out_channels}"
        )


def _check_halvings(family: str, image: ImageSpec, halvings: int) -> None:
    _, height, width = image.shape
    if not halvings or height % 2**halvings or width % 2**halvings:
        raise ValueError(f"{family} halves its images, but {height}x{width} cannot be halved so often")
