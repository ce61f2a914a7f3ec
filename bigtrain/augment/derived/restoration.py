"""Low-resolution images as cameras, phones and networks make them: two rounds of damage (Wang et al. 2021).

Real-ESRGAN, "Training real-world blind super-resolution with pure synthetic data", section 3, with published ranges.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like, in_levels
from bigtrain.augment.derived.damage import between, filtered, gaussian_kernels, mahalanobis
from bigtrain.augment.derived.jpeg import compressed
from bigtrain.augment.derived.sizes import Filter, resized
from bigtrain.core.batch import dense
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[PositiveFloat, PositiveFloat]

_RADII = (3, 10)
"""Of kernels: 7 to 21 pixels wide."""
_FILTERS: tuple[Filter, ...] = ("area", "bilinear", "bicubic")


class RoundConfig(Config):
    """One round of degradation: blur, resizing, noise and compression.

    Attributes:
        blur: share of the samples that are blurred.
        sinc: share of the kernels that are low-pass filters, which ring; the others are Gaussian, generalised Gaussian
            or plateau-shaped, round or not.
        sigma: minimum and maximum standard deviation of the blur kernels, in pixels.
        larger: share of the samples that are enlarged.
        smaller: share of the samples that are reduced; all others keep their size.
        factor: minimum and maximum factor of the resizing.
        noise: minimum and maximum standard deviation of Gaussian noise, in levels of 0 to 255; half of the samples get
            this noise.
        shot_noise: minimum and maximum scale of noise whose variance is proportional to the brightness; the other half
            of the samples get this noise.
        grey_noise: share of the samples whose channels all get the same noise.
        quality: minimum and maximum quality of the JPEG compression.
    """

    blur: Share = 1.0
    sinc: Share = 0.1
    sigma: Range = (0.2, 3.0)
    larger: Share = 0.2
    smaller: Share = 0.7
    factor: Range = (0.15, 1.5)
    noise: Range = (1.0, 30.0)
    shot_noise: Range = (0.05, 3.0)
    grey_noise: Share = 0.4
    quality: Range = (30.0, 95.0)


class RestorationConfig(DerivedField):
    """The image after two rounds of degradation, reduced by `scale`: the input of blind super-resolution.

    Noise that follows the brightness is normally distributed with the variance of Poisson's distribution.

    Attributes:
        scale: integer by which height and width are divided; 1 for restoration without super-resolution.
        first: settings of the first round.
        second: settings of the second round.
        ringing: share of the samples to which a low-pass filter with ringing is applied at the end.
    """

    kind: Literal["restoration"]
    scale: PositiveInt = 4
    first: RoundConfig = RoundConfig()
    second: RoundConfig = RoundConfig(
        blur=0.8,
        sigma=(0.2, 1.5),
        larger=0.3,
        smaller=0.4,
        factor=(0.3, 1.2),
        noise=(1.0, 25.0),
        shot_noise=(0.05, 2.5),
    )
    ringing: Share = 0.8

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind == "image" and source.shape[0] not in (1, 3):
            raise ValueError(f"needs images of 1 or 3 channels, but its source has {source.shape[0]}")
        return image_like(source, scale=self.scale)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField; the samples are computed one by one, since each has a size of its own on the way."""
        size = (field.shape[2] // self.scale, field.shape[3] // self.scale)
        rows = (slice(row, row + 1) for row in range(len(field)))
        return dense(torch.cat([self._sample(field[row].float(), size, draws[row]) for row in rows]).to(field.dtype))

    def _sample(self, image: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        original = (image.shape[2], image.shape[3])
        image = _damaged(image, self.first, original, draws.of("first"))
        image = _compressed(image, self.first, draws.of("first"))
        image = _damaged(image, self.second, size, draws.of("second"))
        ends = draws.of("end")
        rings, first, kind = ends.uniform(3)[0].tolist()
        kernels = sinc_kernels(ends.of("cutoff").uniform(1).squeeze(1), _RADII[1]) if rings < self.ringing else None
        if first < 0.5:
            image = _compressed(image, self.second, draws.of("second"))
        image = resized(image, size, _FILTERS[int(3 * kind)])
        image = image if kernels is None else filtered(image, kernels)
        if first >= 0.5:
            image = _compressed(image, self.second, draws.of("second"))
        return in_levels(image)


def _damaged(image: Tensor, round_: RoundConfig, size: tuple[int, int], draws: Draws) -> Tensor:
    """Blur, change the size and add noise; `size` is what the factor counts from."""
    blurs, change, factor, filter_ = draws.of("choices").uniform(4)[0].tolist()
    if blurs < round_.blur:
        image = filtered(image, _kernel(round_, draws.of("kernel")))
    if change < round_.larger + round_.smaller:
        least, greatest = round_.factor
        larger = change < round_.larger
        scale = between((1.0, greatest) if larger else (least, 1.0), torch.tensor(factor)).item()
    else:
        scale = 1.0
    changed = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    image = resized(image, changed, _FILTERS[int(3 * filter_)])
    return _noisy(image, round_, draws.of("noise")).clamp(-1, 1)


def _noisy(image: Tensor, round_: RoundConfig, draws: Draws) -> Tensor:
    shot, grey = draws.of("choices").uniform(2)[0].tolist()
    amount = draws.of("amount").uniform(1).reshape(1, 1, 1, 1)
    noise = draws.of("normal").normal(*image.shape[1:])
    noise = noise[:, :1] if grey < round_.grey_noise else noise
    if shot < 0.5:
        return image + between(round_.noise, amount) / 127.5 * noise
    variance = ((image + 1) / 2).clamp(0, 1) / 256  # of a count of up to 256, over 256
    return image + 2 * between(round_.shot_noise, amount) * variance.sqrt() * noise


def _compressed(image: Tensor, round_: RoundConfig, draws: Draws) -> Tensor:
    return compressed(image.clamp(-1, 1), between(round_.quality, draws.of("quality").uniform(1).squeeze(1)))


def _kernel(round_: RoundConfig, draws: Draws) -> Tensor:
    """Return one kernel, shape [1, K, K]."""
    sinc, family, is_round, radius = draws.of("choices").uniform(4)[0].tolist()
    radius = _RADII[0] + int(radius * (_RADII[1] - _RADII[0] + 1))
    if sinc < round_.sinc:
        return sinc_kernels(draws.of("cutoff").uniform(1).squeeze(1), radius)
    sigma = between(round_.sigma, draws.of("sigma").uniform(2))
    sigma = sigma[:, :1].expand(-1, 2) if is_round < 0.69 else sigma
    angle = math.pi * draws.of("angle").uniform(1).squeeze(1)
    power = draws.of("power").uniform(1).squeeze(1)
    if family < 0.7:
        return gaussian_kernels(sigma, angle, radius)
    if family < 0.85:
        return gaussian_kernels(sigma, angle, radius, power=between((0.5, 4.0), power))
    plateau = 1 / (mahalanobis(sigma, angle, radius) ** between((1.0, 2.0), power).reshape(-1, 1, 1) + 1)
    return plateau / plateau.sum((1, 2), keepdim=True)


def sinc_kernels(uniform: Tensor, radius: int) -> Tensor:
    """Return circular low-pass filters of unit sum, whose cut-off lies between pi / 3 and pi.

    Args:
        uniform: says where, in [0, 1), shape [N].
        radius: of the square that holds the kernel.

    Returns:
        Shape [N, 2 * radius + 1, 2 * radius + 1].
    """
    cutoff = (math.pi / 3 + 2 * math.pi / 3 * uniform)[:, None, None]
    line = torch.arange(-radius, radius + 1, device=uniform.device, dtype=torch.float32)
    distance = (line[:, None] ** 2 + line**2).sqrt()
    middle = distance == 0
    away = torch.where(middle, 1.0, distance)
    kernels = cutoff * torch.special.bessel_j1(cutoff * away) / (2 * math.pi * away)
    kernels = torch.where(middle, cutoff**2 / (4 * math.pi), kernels)
    return kernels / kernels.sum((1, 2), keepdim=True)
