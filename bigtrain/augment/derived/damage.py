"""Blurred, noisy and compressed images, the inputs of restoration, and the operations that they are made of."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like, in_levels
from bigtrain.augment.derived.jpeg import compressed
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec

Quality = Annotated[int, Field(ge=1, le=100)]


class _SameSize(DerivedField):
    """A field of images as large as its source."""

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        return image_like(source)


class BlurConfig(_SameSize):
    """The image, blurred by a Gaussian kernel of any direction.

    Attributes:
        sigma: least and greatest deviation in pixels, along each of the kernel's two axes.
        isotropic: share of the samples whose kernel is round.
    """

    kind: Literal["blur"]
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.2, 3.0)
    isotropic: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> "BlurConfig":
        check_order("sigma", self.sigma)
        return self

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        sigma = between(self.sigma, draws.of("sigma").uniform(2))
        sigma = torch.where(draws.of("isotropic").uniform(1) < self.isotropic, sigma[:, :1], sigma)
        angle = math.pi * draws.of("angle").uniform(1).squeeze(1)
        radius = math.ceil(3 * self.sigma[1])
        return dense(in_levels(filtered(field, gaussian_kernels(sigma, angle, radius))))


class NoiseConfig(_SameSize):
    """The image with Gaussian noise.

    Attributes:
        sigma: least and greatest deviation, in levels of 0 to 255.
        grey: share of the samples whose channels all have the same noise.
    """

    kind: Literal["noise"]
    sigma: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 30.0)
    grey: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseConfig":
        check_order("sigma", self.sigma)
        return self

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        sigma = between(self.sigma, draws.of("sigma").uniform(1)).reshape(-1, 1, 1, 1) / 127.5
        noise = draws.of("noise").normal(*field.shape[1:])
        noise = torch.where(draws.of("grey").uniform(1, 1, 1) < self.grey, noise[:, :1], noise)
        return dense(in_levels(field + sigma * noise))


class JPEGConfig(_SameSize):
    """The image, compressed and read again.

    Attributes:
        quality: least and greatest, as libjpeg counts them.
    """

    kind: Literal["jpeg"]
    quality: tuple[Quality, Quality] = (30, 95)

    @model_validator(mode="after")
    def _ordered(self) -> "JPEGConfig":
        check_order("quality", self.quality)
        return self

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind == "image" and source.shape[0] not in (1, 3):
            raise ValueError(f"JPEG has 1 or 3 channels, but its source has {source.shape[0]}")
        return image_like(source)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        quality = between(self.quality, draws.of("quality").uniform(1).squeeze(1))
        return dense(in_levels(compressed(field, quality)))


def check_order(key: str, range_: tuple[float, float]) -> None:
    """Raise ValueError unless the first of two numbers is the smaller."""
    if range_[0] > range_[1]:
        raise ValueError(f"{key}: [{range_[0]:g}, {range_[1]:g}]: write the smaller value first")


def between(range_: tuple[float, float], uniform: Tensor) -> Tensor:
    """Return numbers uniform between two others, from numbers uniform in [0, 1)."""
    return range_[0] + (range_[1] - range_[0]) * uniform


def gaussian_kernels(sigma: Tensor, angle: Tensor, radius: int, power: Tensor | float = 1.0) -> Tensor:
    """Return kernels of unit sum, `exp(-(d² / 2) ** power)` at Mahalanobis distance d.

    Args:
        sigma: deviations along the two axes in pixels, shape [N, 2].
        angle: of the first axis, shape [N].
        radius: of the square that holds the kernel.
        power: 1 for a Gaussian; another makes a generalised one. A number, or shape [N].

    Returns:
        Shape [N, 2 * radius + 1, 2 * radius + 1].
    """
    distance = mahalanobis(sigma, angle, radius)
    exponent = torch.as_tensor(power, device=sigma.device, dtype=sigma.dtype).reshape(-1, 1, 1)
    kernels = torch.exp(-((distance / 2) ** exponent))
    return kernels / kernels.sum((1, 2), keepdim=True)


def mahalanobis(sigma: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Return squared Mahalanobis distances from the middle, shape [N, 2 * radius + 1, 2 * radius + 1]."""
    line = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    first, second = sigma[:, 0, None, None], sigma[:, 1, None, None]
    return (along / first) ** 2 + (across / second) ** 2


def filtered(image: Tensor, kernels: Tensor) -> Tensor:
    """Filter each image by its own kernel; the edges are reflected.

    Args:
        image: shape [N, C, H, W].
        kernels: shape [N, K, K], K odd.
    """
    count, channels, height, width = image.shape
    size = kernels.shape[-1]
    padded = reflected(image, size // 2)
    one_each = padded.reshape(1, count * channels, *padded.shape[2:])
    weight = kernels.to(image.dtype).repeat_interleave(channels, 0)[:, None]
    return F.conv2d(one_each, weight, groups=count * channels).reshape(count, channels, height, width)


def reflected(image: Tensor, by: int) -> Tensor:
    """Pad images on all sides by their mirror image, which may be wider than the image itself."""
    for side in (image.shape[2], image.shape[3]):
        if side == 1:
            return F.pad(image, (by, by, by, by), mode="replicate")
    while by:
        step = min(by, image.shape[2] - 1, image.shape[3] - 1)
        image, by = F.pad(image, (step, step, step, step), mode="reflect"), by - step
    return image
