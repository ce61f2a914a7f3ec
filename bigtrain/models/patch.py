"""PatchGAN (Isola et al. 2017, section 3.2.3 and appendix 6.1.2): each logit judges a patch, or a single pixel."""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.models.base import ImageSpec
from bigtrain.models.layers.normalisation import ImageNorm, bias_before, image_norm
from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.models.translator import BasePatchDiscriminatorConfig, PatchDiscriminator, channels_judged


class PatchDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """The PatchGAN's size and shape; its defaults judge patches of 70x70 pixels.

    Attributes:
        width: channels after the first layer; they double, up to eight times this number.
        layers: how often the resolution is halved; 1 for patches of 16x16 pixels, 3 for 70x70, 5 for 286x286.
        norm: normalisation after each layer but the first and the last.
        spectral: whether each weight is divided by its largest singular value (Miyato et al. 2018).
    """

    kind: Literal["patch"] = "patch"
    width: PositiveInt = 64
    layers: PositiveInt = 3
    norm: ImageNorm = "batch"
    spectral: bool = False

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "PatchGAN":
        """Build the discriminator of `image` beside `condition`.

        Raises:
            ValueError: the images are too small, or differ in size.
        """
        return PatchGAN(self, image, condition)


class PixelDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """Size of the discriminator of single pixels.

    Attributes:
        width: channels after the first layer.
        norm: normalisation after the second layer.
        spectral: whether each weight is divided by its largest singular value (Miyato et al. 2018).
    """

    kind: Literal["pixel"] = "pixel"
    width: PositiveInt = 64
    norm: ImageNorm = "batch"
    spectral: bool = False

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "PixelGAN":
        """Build the discriminator of `image` beside `condition`.

        Raises:
            ValueError: the images differ in size.
        """
        return PixelGAN(self, image, condition)


class ConvolutionalPatches(PatchDiscriminator):
    """Blocks of a convolution, a normalisation and a leaky ReLU; then a convolution to the logits."""

    blocks: nn.ModuleList
    to_logits: SpectralConv2d

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """See `PatchDiscriminator.features`."""
        x, found = self.joined(image, condition), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `PatchDiscriminator.head`."""
        logits: Tensor = self.to_logits(feature)
        return logits.float()

    def stages(self) -> Sequence[nn.Module]:
        """See `PatchDiscriminator.stages`."""
        return list(self.blocks)


class PatchGAN(ConvolutionalPatches):
    """4x4 convolutions of stride 2, and two of stride 1."""

    def __init__(self, config: PatchDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        self.image, self.condition = image, condition
        smallest = 3 * 2**config.layers
        if min(image.shape[1:]) < smallest:
            raise ValueError(
                f"patch: {config.layers} layers need images of {smallest} pixels or more: use fewer layers"
            )
        style = WeightStyle("normal", spectral=config.spectral)
        channels = channels_judged(image, condition)
        self.blocks = nn.ModuleList()
        for layer in range(config.layers + 1):
            width = config.width * min(2**layer, 8)
            norm: ImageNorm = config.norm if layer else "none"
            bias = layer == 0 or bias_before(config.norm)
            stride = 2 if layer < config.layers else 1
            conv = SpectralConv2d(
                channels, width, 4, stride=stride, padding=1, bias=bias, idle_bias=norm == "instance", style=style
            )
            self.blocks.append(nn.Sequential(conv, image_norm(norm, width), nn.LeakyReLU(0.2)))
            channels = width
        self.to_logits = SpectralConv2d(channels, 1, 4, padding=1, style=style)


class PixelGAN(ConvolutionalPatches):
    """Three 1x1 convolutions."""

    def __init__(self, config: PixelDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        self.image, self.condition = image, condition
        style = WeightStyle("normal", spectral=config.spectral)
        channels, width, bias = channels_judged(image, condition), config.width, bias_before(config.norm)
        first = SpectralConv2d(channels, width, 1, style=style)
        idle = config.norm == "instance"
        second = SpectralConv2d(width, 2 * width, 1, bias=bias, idle_bias=idle, style=style)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(first, nn.LeakyReLU(0.2)),
                nn.Sequential(second, image_norm(config.norm, 2 * width), nn.LeakyReLU(0.2)),
            ]
        )
        self.to_logits = SpectralConv2d(2 * width, 1, 1, bias=bias, style=style)
