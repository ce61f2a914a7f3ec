"""StyleGAN3, the alias-free generator (Karras et al. 2021); its discriminator is StyleGAN2's.

The parameters carry the names of the published checkpoints, so that those load without a table of names.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseGeneratorConfig, ImageSpec
from bigtrain.models.layers.equalized import EqualizedLinear
from bigtrain.models.layers.fourier_input import FourierInput
from bigtrain.models.layers.style_mapping import MappedGenerator
from bigtrain.ops.batch_norm import OverRanks
from bigtrain.ops.bias_act import ACTIVATION_GAIN, bias_act
from bigtrain.ops.filter_design import kaiser_lowpass, radial_kaiser_lowpass
from bigtrain.ops.filtered_nonlinearity import filtered_nonlinearity
from bigtrain.ops.modulated_conv import modulated_conv2d
from bigtrain.ops.resampling import Resampling


class StyleGAN3GeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape; the defaults are those of the paper's configuration T (figure 5 and appendix D).

    Attributes:
        variant: `t` is equivariant to translation (3x3 convolutions, separable filters), `r` to rotation too (1x1
            convolutions, radially symmetric filters; the paper doubles the channels with it).
        z_dim: length of the latent.
        w_dim: length of a style.
        mapping_layers: number of fully connected layers from z to w.
        channel_base: the number of channels at a resolution is `channel_base / resolution`, at most `channel_max`.
        channel_max: maximum number of channels at a resolution.
        layers: number of synthesis layers before ToRGB.
        critical_layers: number of last layers whose cutoff is half of the sampling rate.
        margin: number of samples that are computed around the image.
        first_cutoff: cutoff frequency of the first layer's filter, in periods across the image.
        first_stopband: frequency above which the first layer's filter blocks everything.
        last_stopband: stopband frequency of the last layer, as a multiple of its cutoff.
        upsampling: temporary sampling rate for the nonlinearity, as a multiple of the layer's.
        filter_taps: length of the low-pass filters, in samples of the lower rate.
        conv_clamp: maximum absolute value of the activations, for low precision; null for no maximum.
        magnitude_decay: decay of the moving average of the activations' magnitudes.
        output_scale: factor on the image.
    """

    kind: Literal["stylegan3"] = "stylegan3"
    variant: Literal["t", "r"] = "t"
    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 2
    channel_base: PositiveInt = 32768
    channel_max: PositiveInt = 512
    layers: PositiveInt = 14
    critical_layers: NonNegativeInt = 2
    margin: NonNegativeInt = 10
    first_cutoff: PositiveFloat = 2.0
    first_stopband: PositiveFloat = 2.0**2.1
    last_stopband: PositiveFloat = 2.0**0.3
    upsampling: Literal[2, 4] = 2
    filter_taps: PositiveInt = 6
    conv_clamp: PositiveFloat | None = 256.0
    magnitude_decay: PositiveFloat = 0.999
    output_scale: PositiveFloat = 0.25

    def build(self, image: ImageSpec) -> "StyleGAN3Generator":
        """Build the generator for `image`."""
        return StyleGAN3Generator(self, image)


class LayerSpec(NamedTuple):
    """What a layer hands on (the paper's figure 4).

    Attributes:
        channels: of the activations.
        rate: samples a unit; the image's shorter side is the unit.
        cutoff: highest frequency, in periods a unit.
        half_width: of its filter's transition band.
        size: height and width in samples.
    """

    channels: int
    rate: int
    cutoff: float
    half_width: float
    size: tuple[int, int]


class StyleGAN3Generator(MappedGenerator):
    """z, class -> mapping -> w -> Fourier features -> alias-free layers -> image."""

    def __init__(self, config: StyleGAN3GeneratorConfig, image: ImageSpec) -> None:
        synthesis = SynthesisNetwork(config, image)
        super().__init__(
            image,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            mapping_layers=config.mapping_layers,
            num_ws=1 + len(synthesis.names),
        )
        self.synthesis = synthesis

    def synthesize(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """See StyleGenerator; there is no noise."""
        image: Tensor = self.synthesis(ws)
        return image

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return self.synthesis.layers()


class SynthesisNetwork(nn.Module):
    """One w for the input and each layer -> image.

    In training mode the magnitudes of all layers' inputs move their averages at the end of a forward pass, so that
    the layers themselves have no side effect and may be computed again.

    Attributes:
        over_ranks: averages a tensor over the ranks; whoever distributes the network sets it.
    """

    over_ranks: OverRanks | None = None

    def __init__(self, config: StyleGAN3GeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.decay, self.output_scale = config.magnitude_decay, config.output_scale
        plan = layer_plan(config, image)
        first = plan[0]
        self.input = FourierInput(config.w_dim, first.channels, first.size, rate=first.rate, bandwidth=first.cutoff)
        self.names: list[str] = []
        for index, (before, after) in enumerate(pairwise([first, *plan])):
            name = f"L{index}_{after.size[0]}_{after.channels}"
            if index == config.layers:
                layer: nn.Module = ToRGB(config, before, after)
            else:
                critical = index >= config.layers - config.critical_layers
                layer = SynthesisLayer(config, before, after, radial=config.variant == "r" and not critical)
            self.add_module(name, layer)
            self.names.append(name)

    def layers(self) -> list[nn.Module]:
        """Return the layers in order."""
        return [self.get_submodule(name) for name in self.names]

    def forward(self, ws: Tensor) -> Tensor:
        """Generate images from ws [N, num_ws, w_dim]."""
        first, *rest = ws.unbind(1)
        x = self.input(first)
        magnitudes = []
        for layer, w in zip(self.layers(), rest, strict=True):
            if self.training:
                magnitudes.append(magnitude(x))
            x = layer(x, w)
        if self.training:
            self._track(torch.stack(magnitudes))
        image: Tensor = x.float() * self.output_scale
        return image

    @torch.no_grad()
    def _track(self, magnitudes: Tensor) -> None:
        if self.over_ranks is not None:
            magnitudes = self.over_ranks(magnitudes)
        averages = [layer.get_buffer("magnitude_ema") for layer in self.layers()]
        torch._foreach_lerp_(averages, list(magnitudes.unbind()), 1.0 - self.decay)


class Layer(nn.Module):
    """What synthesis layers and ToRGB share: style, weight, bias, and the magnitude of the input.

    Dividing by the magnitude's average, and not by each image's own, keeps equivariance (section 3.2, config E).
    """

    magnitude_ema: Tensor

    def __init__(self, config: StyleGAN3GeneratorConfig, channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = EqualizedLinear(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("magnitude_ema", torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights; inputs are expected to have unit magnitude."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.magnitude_ema)


class SynthesisLayer(Layer):
    """Modulated convolution and the filtered nonlinearity, which changes the sampling rate on its way (figure 4b)."""

    def __init__(self, config: StyleGAN3GeneratorConfig, before: LayerSpec, after: LayerSpec, *, radial: bool) -> None:
        kernel_size = 3 if config.variant == "t" else 1
        super().__init__(config, before.channels, after.channels, kernel_size)
        rate = max(before.rate, after.rate) * config.upsampling
        up, down = rate // before.rate, rate // after.rate
        taps_up, taps_down = config.filter_taps * up, config.filter_taps * down
        height, width = (side + kernel_size - 1 for side in before.size)  # the convolution goes beyond the border
        between = tuple((side - 1) * down + taps_down for side in after.size)
        lowpass = radial_kaiser_lowpass if radial else kaiser_lowpass
        self.rise = Resampling(
            kaiser_lowpass(taps_up, cutoff=before.cutoff, width=2 * before.half_width, rate=rate),
            size=(height, width),
            out=(between[0], between[1]),
            up=up,
            gain=up**2 * ACTIVATION_GAIN["lrelu"],
        )
        self.fall = Resampling(
            lowpass(taps_down, cutoff=after.cutoff, width=2 * after.half_width, rate=rate),
            size=(between[0], between[1]),
            out=after.size,
            down=down,
        )

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [N, C, *before.size] to [N, C', *after.size]."""
        # The demodulation undoes both scalings but for its epsilon: they keep it, and low precision, in range.
        weight = self.weight * unit_scale(self.weight)
        style = self.affine(w)
        style = style * unit_scale(style)
        padding = self.weight.shape[-1] - 1
        bias = self.bias[:, None, None]
        x = modulated_conv2d(x, weight, style, padding=padding, gain=self.magnitude_ema.rsqrt(), offset=bias)
        return filtered_nonlinearity(x, self.rise, self.fall, clamp=self.clamp)


class ToRGB(Layer):
    """Modulated 1x1 convolution to the image's channels, without demodulation."""

    def __init__(self, config: StyleGAN3GeneratorConfig, before: LayerSpec, after: LayerSpec) -> None:
        super().__init__(config, before.channels, after.channels, 1)
        self.weight_gain = 1.0 / math.sqrt(before.channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, image channels, H, W]."""
        style = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, style, demodulate=False, gain=self.magnitude_ema.rsqrt())
        return bias_act(x, self.bias, clamp=self.clamp)


def layer_plan(config: StyleGAN3GeneratorConfig, image: ImageSpec) -> list[LayerSpec]:
    """Return what every layer hands on, ToRGB last (section 3.2 and figure 4c).

    Cutoff and stopband grow geometrically until the critically sampled layers; the sampling rate is the smallest
    power of two that holds the stopband.

    Raises:
        ValueError: the image or the settings leave no room for the filters.
    """
    channels, *shape = image.shape
    unit = min(shape)
    if unit < 8 or unit & (unit - 1):
        raise ValueError(f"stylegan3 needs a shorter side that is a power of two from 8 up, got {unit}")
    if config.critical_layers >= config.layers:
        raise ValueError(f"generator.critical_layers: {config.critical_layers} of {config.layers} layers leave none")
    last_cutoff = unit / 2
    last_stopband = last_cutoff * config.last_stopband
    plan = []
    for index in range(config.layers + 1):
        share = min(index / (config.layers - config.critical_layers), 1.0)
        cutoff = config.first_cutoff * (last_cutoff / config.first_cutoff) ** share
        stopband = config.first_stopband * (last_stopband / config.first_stopband) ** share
        rate = 2 ** math.ceil(math.log2(min(2.0 * stopband, unit)))
        half_width = max(stopband, rate / 2) - cutoff
        if half_width <= 0:
            raise ValueError(f"stylegan3: layer {index} has its stopband {stopband:.2f} below its cutoff {cutoff:.2f}")
        margin = 0 if index >= config.layers - 1 else config.margin
        size = [side * rate // unit + 2 * margin for side in shape]
        width = min(round(config.channel_base / 2 / cutoff), config.channel_max)
        plan.append(LayerSpec(width, rate, cutoff, half_width, (size[0], size[1])))
    plan[-1] = plan[-1]._replace(channels=channels)
    return plan


def magnitude(x: Tensor) -> Tensor:
    """Return the mean of all squares: float32, shape [], without a gradient."""
    norm: Tensor = torch.linalg.vector_norm(x.detach(), dtype=torch.promote_types(x.dtype, torch.float32))
    return norm.square() / x.numel()


def unit_scale(x: Tensor) -> Tensor:
    """Return what scales each x[n] to a mean square of one, float32."""
    return x.float().square().mean(tuple(range(1, x.ndim)), keepdim=True).rsqrt()
