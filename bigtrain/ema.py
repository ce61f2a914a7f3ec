"""Exponential moving average of the generator's weights, by half-life in images."""

import copy
from collections.abc import Iterable

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.state import Progress, State
from bigtrain.models import Generator


class EMAConfig(Config):
    """How fast the average forgets.

    Attributes:
        half_life_kimg: thousands of images after which an old weight counts half.
        rampup: bound the half-life to this share of the images seen so far, so that a young average is not an old
            network; 0 for no bound (Karras et al. 2020b use 0.05).
    """

    half_life_kimg: PositiveFloat
    rampup: NonNegativeFloat = 0.05


class EMA:
    """The averaged generator, whole and float32 on every rank.

    Args:
        config: how fast.
        generator: starts the average.
        prefix: what its owner puts before the names of its parameters.

    Attributes:
        generator: the averaged network, in evaluation mode.
    """

    def __init__(self, config: EMAConfig, generator: Generator, *, prefix: str = "") -> None:
        self._config, self._prefix = config, prefix
        self.generator = copy.deepcopy(generator).eval().requires_grad_(False)
        self._averaged = dict(self.generator.named_parameters())
        self._copied = dict(self.generator.named_buffers())

    @torch.no_grad()
    def update(self, live: Iterable[tuple[str, Tensor]], progress: Progress) -> None:
        """Move towards the live weights after a step; buffers (statistics, singular vectors, constants) are copied.

        Args:
            live: parameters and buffers by their prefixed names.
            progress: before the step is counted.
        """
        tensors = {name.removeprefix(self._prefix): tensor for name, tensor in live}
        half_life = self._config.half_life_kimg * 1000
        if self._config.rampup:
            half_life = min(half_life, max((progress.samples_seen + progress.batch) * self._config.rampup, 1.0))
        weight = 1.0 - 0.5 ** (progress.batch / half_life)
        torch._foreach_lerp_(list(self._averaged.values()), [tensors[name] for name in self._averaged], weight)
        for name, value in self._copied.items():
            if name in tensors:
                value.copy_(tensors[name])

    def state_dict(self) -> State:
        """See Stateful."""
        return self.generator.state_dict()

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.generator.load_state_dict(state)
