"""HiFi-GAN (Kong et al. 2020): from mel spectrograms to sounds, judged by their periods and at several scales.

The generator's residual blocks are of kind 1 (V1 and V2 in the paper) or 2 (V3). The discriminator has a part for each
period, which sees every p-th sample beside each other, and one for each scale of the sound.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ArraySpec, DataSpec
from bigtrain.models.layers.weight_norm import StoredSpectralConv1d, WeightNormConv
from bigtrain.models.translator import (
    BasePatchDiscriminatorConfig,
    BaseTranslatorConfig,
    PatchDiscriminator,
    Translator,
)
from bigtrain.ops.padding import mirror1d

_SLOPE = 0.1
_LAST_SLOPE = 0.01
_PERIOD_KERNEL, _PERIOD_STRIDE = 5, 3
_SCALE_KERNELS, _SCALE_STRIDES = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1)
_SCALE_GROUPS = (1, 4, 16, 16, 16, 16, 1)


class HiFiGANConfig(BaseTranslatorConfig):
    """The generator's size; the defaults are V1.

    Attributes:
        width: channels before the first upsampling; each upsampling halves them.
        rates: factors of the upsamplings; their product is the hop of the spectrogram.
        kernels: kernel sizes of the upsamplings, in output samples.
        block: kind of the residual blocks.
        block_kernels: kernel sizes of the residual blocks that run in parallel after every upsampling.
        dilations: dilations of the convolutions in each of these blocks.
    """

    kind: Literal["hifigan"] = "hifigan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    width: PositiveInt = 512
    rates: tuple[PositiveInt, ...] = (8, 8, 2, 2)
    kernels: tuple[PositiveInt, ...] = (16, 16, 4, 4)
    block: Literal[1, 2] = 1
    block_kernels: tuple[PositiveInt, ...] = (3, 7, 11)
    dilations: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))

    @model_validator(mode="after")
    def _fits(self) -> "HiFiGANConfig":
        if len(self.kernels) != len(self.rates) or len(self.dilations) != len(self.block_kernels):
            raise ValueError("kernels must have as many values as rates, and dilations as many as block_kernels")
        wrong = [
            f"{kernel}/{rate}" for kernel, rate in zip(self.kernels, self.rates, strict=True) if (kernel - rate) % 2
        ]
        if wrong or any(kernel < rate for kernel, rate in zip(self.kernels, self.rates, strict=True)):
            raise ValueError(
                f"kernels minus rates must be even, and not negative: kernels {list(self.kernels)}, rates "
                f"{list(self.rates)}"
            )
        if any(kernel % 2 == 0 for kernel in self.block_kernels):
            raise ValueError(f"block_kernels {list(self.block_kernels)} must be odd")
        if self.width % 2 ** len(self.rates):
            raise ValueError(f"width {self.width} cannot be halved {len(self.rates)} times")
        return self

    def build(self, source: ArraySpec, target: ArraySpec) -> "HiFiGANGenerator":
        """Build the network from spectrograms [bands, T] to sounds [1, T * hop].

        Raises:
            ValueError: the rates do not lead from the one to the other.
        """
        return HiFiGANGenerator(self, source, target)


class HiFiGANDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """The discriminator's size.

    Attributes:
        periods: periods of the multi-period discriminator, one part each.
        period_widths: channels of the layers of such a part.
        scales: number of parts of the multi-scale discriminator, each at half the rate of the one before.
        scale_widths: channels of the layers of such a part.
    """

    kind: Literal["hifigan"] = "hifigan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    periods: tuple[PositiveInt, ...] = (2, 3, 5, 7, 11)
    period_widths: tuple[PositiveInt, ...] = (32, 128, 512, 1024, 1024)
    scales: NonNegativeInt = 3
    scale_widths: tuple[PositiveInt, ...] = (128, 128, 256, 512, 1024, 1024, 1024)

    @model_validator(mode="after")
    def _fits(self) -> "HiFiGANDiscriminatorConfig":
        if not self.periods and not self.scales:
            raise ValueError("set periods or scales: there is no discriminator without them")
        if len(self.scale_widths) != len(_SCALE_GROUPS):
            raise ValueError(
                f"scale_widths has {len(self.scale_widths)} numbers, but there are {len(_SCALE_GROUPS)} layers"
            )
        for (before, after), groups in zip(pairwise((1, *self.scale_widths)), _SCALE_GROUPS, strict=True):
            if before % groups or after % groups:
                raise ValueError(f"scale_widths: {before} and {after} channels do not divide into {groups} groups")
        return self

    def build(self, image: ArraySpec, condition: ArraySpec | None = None) -> "HiFiGANDiscriminator":
        """Build the discriminator of sounds [1, L].

        Raises:
            ValueError: there is a condition, or the sound has several channels.
        """
        if condition is not None:
            raise ValueError("the discriminator of hifigan takes no condition: set conditional: false")
        return HiFiGANDiscriminator(self, image)


class HiFiGANGenerator(Translator):
    """Mel spectrogram -> sound: transposed convolutions, each followed by residual blocks side by side."""

    kind = "hifigan"

    def __init__(self, config: HiFiGANConfig, source: ArraySpec, target: ArraySpec) -> None:
        super().__init__()
        hop = int(torch.Size(config.rates).numel())
        if len(source.shape) != 2 or target.shape != (1, source.shape[-1] * hop):
            raise ValueError(
                f"hifigan makes {hop} samples (the product of rates) of each frame of a spectrogram [bands, frames], "
                f"not {list(target.shape)} from {list(source.shape)}"
            )
        self.input, self.output = source, target
        widths = [config.width // 2**level for level in range(len(config.rates) + 1)]
        self.conv_pre = WeightNormConv(source.shape[0], widths[0], (7,), padding=(3,))
        self.ups = nn.ModuleList(
            WeightNormConv(before, after, (kernel,), stride=(rate,), padding=((kernel - rate) // 2,), transposed=True)
            for (before, after), rate, kernel in zip(pairwise(widths), config.rates, config.kernels, strict=True)
        )
        block = ResidualBlock1 if config.block == 1 else ResidualBlock2
        self.resblocks = nn.ModuleList(
            block(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.block_kernels, config.dilations, strict=True)
        )
        self.conv_post = WeightNormConv(widths[-1], 1, (7,), padding=(3,))
        self._together = len(config.block_kernels)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """Turn spectrograms [N, bands, T] into sounds in [-1, 1], float32, shape [N, 1, T * hop], of any T."""
        x = self.conv_pre(image)
        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, _SLOPE))
            blocks = self.resblocks[level * self._together : (level + 1) * self._together]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        return torch.tanh(self.conv_post(F.leaky_relu(x, _LAST_SLOPE)).float())

    def stages(self) -> Sequence[nn.Module]:
        """See Translator."""
        return list(self.resblocks)


class ResidualBlock1(nn.Module):
    """Pairs of convolutions, the first of each dilated (Kong et al. 2020, appendix A.1)."""

    def __init__(self, width: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(width, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(width, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, width, L] to the same shape."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, _SLOPE)), _SLOPE))
        return x


class ResidualBlock2(nn.Module):
    """Dilated convolutions, one after the other (Kong et al. 2020, V3)."""

    def __init__(self, width: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same(width, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, width, L] to the same shape."""
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, _SLOPE))
        return x


class HiFiGANDiscriminator(PatchDiscriminator):
    """The multi-period and the multi-scale discriminator; each of their parts has logits of its own."""

    def __init__(self, config: HiFiGANDiscriminatorConfig, sound: ArraySpec) -> None:
        super().__init__()
        if len(sound.shape) != 2 or sound.shape[0] != 1:
            raise ValueError(
                f"the discriminator of hifigan takes sounds [1, samples], but the field has the shape "
                f"{list(sound.shape)}"
            )
        self.image, self.condition = sound, None
        periods = [PeriodPart(period, config.period_widths) for period in config.periods]
        scales = [ScalePart(config.scale_widths, spectral=number == 0) for number in range(config.scales)]
        self.periods, self.scales = nn.ModuleList(periods), nn.ModuleList(scales)
        length = sound.shape[1]
        opinions = [part.places(length) for part in periods]
        for part in scales:
            opinions.append(part.places(length))
            length = length // 2 + 1
        self.opinions = tuple(opinions)

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Return the activations of every layer of every part, and last the logits of all, [N, places of all]."""
        found, logits = [], []
        for part in self.periods:
            *layers, last = part(image)
            found += layers
            logits.append(last)
        for number, part in enumerate(self.scales):
            image = F.avg_pool1d(image, 4, 2, padding=2) if number else image
            *layers, last = part(image)
            found += layers
            logits.append(last)
        return [*found, torch.cat(logits, dim=1)]

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits, float32, shape [N, places of all parts]; `opinions` says how many are whose."""
        return feature.float()

    def stages(self) -> Sequence[nn.Module]:
        """See PatchDiscriminator."""
        return [*self.periods, *self.scales]


class PeriodPart(nn.Module):
    """Judges the samples that are a period apart (section 2.3, the multi-period discriminator)."""

    def __init__(self, period: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        last = len(widths) - 1
        self.convs = nn.ModuleList(
            WeightNormConv(
                before,
                after,
                (_PERIOD_KERNEL, 1),
                stride=(1 if number == last else _PERIOD_STRIDE, 1),
                padding=(_PERIOD_KERNEL // 2, 0),
            )
            for number, (before, after) in enumerate(pairwise((1, *widths)))
        )
        self.conv_post = WeightNormConv(widths[-1], 1, (3, 1), stride=(1, 1), padding=(1, 0))

    def places(self, samples: int) -> int:
        """Return the number of logits for a sound of so many samples."""
        rows = -(-samples // self.period)
        for _ in range(len(self.convs) - 1):
            rows = -(-rows // _PERIOD_STRIDE)
        return rows * self.period

    def forward(self, sound: Tensor) -> list[Tensor]:
        """Return the activations of each layer, [N, C, rows, period], and last the logits, [N, rows * period]."""
        x = mirror1d(sound, 0, -sound.shape[2] % self.period)
        x = x.reshape(len(x), 1, -1, self.period)
        return _through(x, self.convs, self.conv_post)


class ScalePart(nn.Module):
    """Judges a sound, smoothed or not (section 2.3, the multi-scale discriminator; Kumar et al. 2019, MelGAN)."""

    def __init__(self, widths: Sequence[int], *, spectral: bool) -> None:
        super().__init__()
        layers = zip(pairwise((1, *widths)), _SCALE_KERNELS, _SCALE_STRIDES, _SCALE_GROUPS, strict=True)
        self.convs = nn.ModuleList(
            _judging(before, after, kernel, stride, groups, spectral=spectral)
            for (before, after), kernel, stride, groups in layers
        )
        self.conv_post = _judging(widths[-1], 1, 3, 1, 1, spectral=spectral)

    @staticmethod
    def places(samples: int) -> int:
        """Return the number of logits for a sound of so many samples."""
        for stride in _SCALE_STRIDES:
            samples = -(-samples // stride)
        return samples

    def forward(self, sound: Tensor) -> list[Tensor]:
        """Return the activations of each layer, [N, C, L], and last the logits, [N, places]."""
        return _through(sound, self.convs, self.conv_post)


def _through(x: Tensor, convs: nn.ModuleList, last: nn.Module) -> list[Tensor]:
    found = []
    for conv in convs:
        x = F.leaky_relu(conv(x), _SLOPE)
        found.append(x)
    return [*found, last(x).flatten(1)]


def _same(width: int, kernel: int, dilation: int) -> WeightNormConv:
    return WeightNormConv(width, width, (kernel,), padding=(dilation * (kernel // 2),), dilation=dilation)


def _judging(before: int, after: int, kernel: int, stride: int, groups: int, *, spectral: bool) -> nn.Module:
    if spectral:
        return StoredSpectralConv1d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups)
    return WeightNormConv(before, after, (kernel,), stride=(stride,), padding=(kernel // 2,), groups=groups)
