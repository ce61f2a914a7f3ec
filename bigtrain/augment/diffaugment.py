"""DiffAugment: translation, cutout and colour for few images (Zhao et al. 2020, section 4)."""

from typing import Literal

import torch
from torch import Tensor

from bigtrain.augment.ada_controller import FixedConfig, ProbabilityConfig
from bigtrain.augment.base import Augment
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule

PolicyName = Literal["color", "translation", "cutout"]


class DiffAugmentConfig(Config):
    """DiffAugment.

    Attributes:
        policy: the transforms, which are applied in the order color, translation, cutout.
        probability: probability of transforming a sample; 1 in the paper.
    """

    kind: Literal["diffaugment"]
    policy: tuple[PolicyName, ...] = ("color", "translation", "cutout")
    probability: ProbabilityConfig = FixedConfig(p=ConstantSchedule(value=1.0))

    def build(self) -> "DiffAugment":
        """Build it."""
        return DiffAugment(self.policy)


class DiffAugment(Augment):
    """The policy, all of it or nothing of it on each sample."""

    def __init__(self, policy: tuple[PolicyName, ...]) -> None:
        self.policy = frozenset(policy)

    def __call__(self, images: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """See Augment."""
        result = images
        if "color" in self.policy:
            result = jitter(result, draws.of("color").uniform(3))
        if "translation" in self.policy:
            result = translate(result, draws.of("translation").uniform(2))
        if "cutout" in self.policy:
            result = cut_out(result, draws.of("cutout").uniform(2))
        happens = draws.of("happens").uniform(1)[:, :, None, None] < p
        return torch.where(happens, result, images)


def jitter(images: Tensor, u: Tensor) -> Tensor:
    """Change brightness by up to 0.5, saturation by 0 to 2, contrast by 0.5 to 1.5; `u` is uniform, shape [N, 3]."""
    brightness, saturation, contrast = (u.to(images.dtype)[:, :, None, None, None]).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Tensor, u: Tensor) -> Tensor:
    """Shift by up to an eighth of the image, in whole pixels, and fill with grey; `u` is uniform, shape [N, 2]."""
    for axis in (2, 3):
        size = images.shape[axis]
        reach = (size + 4) // 8
        shift = (u[:, axis - 2, None] * (2 * reach + 1)).long() - reach
        source = torch.arange(size, device=images.device) - shift
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        index = source.clamp(0, size - 1).reshape(shape).expand_as(images)
        inside = ((source >= 0) & (source < size)).reshape(shape)
        images = images.gather(axis, index) * inside
    return images


def cut_out(images: Tensor, u: Tensor) -> Tensor:
    """Blank a square of half the image's side, to grey; `u` is uniform, shape [N, 2], and places its centre."""
    rows, columns = (_hole(size, u[:, axis, None]) for axis, size in enumerate(images.shape[2:]))
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _hole(size: int, u: Tensor) -> Tensor:
    """Return which pixels of a line the hole covers: bool, shape [N, size]; it may reach over the edge."""
    length = (size + 1) // 2
    start = (u * (size + 1 - length % 2)).long() - length // 2
    pixel = torch.arange(size, device=u.device)
    return (pixel >= start) & (pixel < start + length)
