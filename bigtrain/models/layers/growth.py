"""Growing networks: a coarse image first, then finer levels that fade in (Karras et al. 2018, ProGAN, section 2).

How far a network has grown is a pure function of the images seen, so a run that resumes has nothing to remember. It is
kept in a buffer nevertheless, because the averaged network and a snapshot must be sampled at the size that they have.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.config import Config


class GrowthConfig(Config):
    """When the networks grow to which resolution; G and D must have the same schedule.

    Attributes:
        first: shorter side of the images at which training begins, a power of two.
        stable_kimg: thousands of images for which a resolution is trained before the next one is added.
        fade_kimg: thousands of images over which the next resolution is faded in.
    """

    first: PositiveInt = 4
    stable_kimg: PositiveFloat = 800.0
    fade_kimg: PositiveFloat = 800.0

    def level_at(self, samples_seen: int) -> float:
        """Return how many levels have come since the first; a fraction is a level that fades in."""
        whole, within = divmod(samples_seen / 1000, self.stable_kimg + self.fade_kimg)
        return whole + max(0.0, within - self.stable_kimg) / self.fade_kimg


class Growth(nn.Module):
    """How far a network has grown.

    Args:
        config: None for a network that has all levels from the start.
        levels: shorter sides of the images at each level, ascending.

    Attributes:
        level: index of the finest complete level, and the share of the next one: float32, shape [].
        complete: the index.
        fading: whether the next one is coming.
    """

    level: Tensor

    def __init__(self, config: GrowthConfig | None, levels: tuple[int, ...]) -> None:
        super().__init__()
        if config is not None and config.first not in levels:
            raise ValueError(f"growth.first: {config.first} is not one of the levels {', '.join(map(str, levels))}")
        self._config, self._levels = config, levels
        self.register_buffer("level", torch.empty(()))
        self.reset_parameters()
        self.register_load_state_dict_post_hook(lambda growth, _: growth.read())  # type: ignore[no-untyped-call]

    def reset_parameters(self) -> None:
        """Go back to the first level."""
        self.grow(0)

    def grow(self, samples_seen: int) -> None:
        """Grow to where the training is."""
        last = len(self._levels) - 1
        if self._config is None:
            self._set(float(last))
        else:
            self._set(min(self._levels.index(self._config.first) + self._config.level_at(samples_seen), float(last)))
        self.level.fill_(self.complete + self._share)

    def read(self) -> None:
        """Take over what the buffer says, which was loaded or copied from another network."""
        self._set(self.level.item())

    @property
    def share(self) -> Tensor:
        """How much of the fading level is there, in (0, 1): a tensor, so that a compiled graph serves all values."""
        return self.level - self.complete

    @property
    def finest(self) -> int:
        """The index of the finest level that there is something of."""
        return self.complete + self.fading

    def limit(self, images: Tensor) -> Tensor:
        """Take away the detail of the levels that are not there: [N, C, H, W] to the same shape."""
        result = enlarge(self.reduce(images, self.complete), images.shape)
        if self.fading:
            result = result.lerp(enlarge(self.reduce(images, self.finest), images.shape), self.share)
        return result

    def reduce(self, images: Tensor, index: int) -> Tensor:
        """Average whole images down to a level."""
        factor = self._levels[-1] // self._levels[index]
        return F.avg_pool2d(images, factor) if factor > 1 else images

    def _set(self, level: float) -> None:
        self.complete = int(level)
        self._share = level - self.complete
        self.fading = self._share > 0


def enlarge(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat pixels until images have the height and width at the end of `shape`."""
    return images if images.shape[2:] == shape[2:] else F.interpolate(images, size=shape[2:], mode="nearest")


def at_rest(parts: Iterable[nn.Module]) -> Tensor:
    """Return a zero that depends on all parameters of parts that have not come yet, or are gone.

    Added to an output it gives them gradients of zero: what averages gradients over ranks expects one of each.
    """
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return sum((parameter[(0,) * parameter.ndim] for parameter in parameters), torch.zeros(())) * 0.0
