"""Moving averages of a network's weights: by half-life in images, and by power functions side by side."""

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.schedules import Schedule
from bigtrain.core.state import Progress, State


class EMAConfig(Config):
    """Settings of the exponential moving average (EMA) of the weights.

    Attributes:
        half_life_kimg: thousands of images after which the share of an old weight in the average has halved; above 0.
        rampup: maximum half-life as a share of the images seen so far, so that an early average does not contain mostly
            initial weights; 0 for no maximum (Karras et al. 2020b use 0.05).
        profiles: widths of power-function averages that are kept in addition, each as a share of the run so far
            (sigma_rel, Karras et al. 2024, section 3.1; they use 0.05 and 0.10). Snapshots contain them, so that an
            average of any other width can be reconstructed afterwards.
    """

    half_life_kimg: Schedule
    rampup: NonNegativeFloat = 0.05
    profiles: tuple[Annotated[float, Field(gt=0, lt=0.28)], ...] = ()

    @model_validator(mode="after")
    def _forgets(self) -> "EMAConfig":
        shortest = min(self.half_life_kimg.value, getattr(self.half_life_kimg, "final", self.half_life_kimg.value))
        if not shortest > 0:
            raise ValueError("half_life_kimg must stay above 0")
        if len(set(self.profiles)) < len(self.profiles):
            raise ValueError(f"profiles {list(self.profiles)}: each width may be listed only once")
        return self


class EMA:
    """The averages of one network, whole and float32 on every rank.

    Args:
        config: how fast they forget.
        network: starts the averages.

    Attributes:
        network: the average by half-life, in evaluation mode: what is evaluated and exported.
        profiles: the averages by power functions, by their sigma_rel.
    """

    def __init__(self, config: EMAConfig, network: nn.Module) -> None:
        self._config = config
        self.network = _frozen_copy(network)
        self.profiles = {sigma_rel: _frozen_copy(network) for sigma_rel in config.profiles}

    @torch.no_grad()
    def update(self, live: Iterable[tuple[str, Tensor]], progress: Progress) -> None:
        """Move towards the live weights after a step; buffers (statistics, singular vectors, constants) are copied.

        Args:
            live: the network's parameters and buffers by their names.
            progress: before the step is counted.
        """
        tensors = dict(live)
        seen = progress.samples_seen + progress.batch
        half_life = self.half_life(progress)
        _move(self.network, tensors, 1.0 - 0.5 ** (progress.batch / max(half_life, 1.0)))
        for sigma_rel, network in self.profiles.items():
            _move(network, tensors, 1.0 - power_function_decay(sigma_rel, seen, progress.batch))

    def half_life(self, progress: Progress) -> float:
        """Return the half-life of the step that comes, in images."""
        half_life = 1000 * self._config.half_life_kimg.value_at(progress.samples_seen, progress.total)
        if not self._config.rampup:
            return half_life
        return min(half_life, (progress.samples_seen + progress.batch) * self._config.rampup)

    def state_dict(self) -> State:
        """See Stateful."""
        profiles = {str(sigma_rel): network.state_dict() for sigma_rel, network in self.profiles.items()}
        return {"half_life": self.network.state_dict(), "profiles": profiles}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.network.load_state_dict(state["half_life"])
        for sigma_rel, network in self.profiles.items():
            network.load_state_dict(state["profiles"][str(sigma_rel)])


def power_function_decay(sigma_rel: float, seen: int, batch: int) -> float:
    """Return what a power-function average keeps of itself in a step: (1 - batch / t)^(γ + 1) at t images.

    It makes the weight of an old network proportional to t^γ (Karras et al. 2024, section 3.1): the average's width
    stays the same share of the run, however long that is.

    Args:
        sigma_rel: that share, between 0 and 0.28.
        seen: t, images seen after the step.
        batch: images of the step.
    """
    return float((1 - batch / seen) ** (gamma_of(sigma_rel) + 1))


def gamma_of(sigma_rel: float) -> float:
    """Return the γ of the profile t^γ with a standard deviation of `sigma_rel` times its length.

    sigma_rel² = (γ + 1) / ((γ + 2)² (γ + 3)) (Karras et al. 2024, appendix C), the largest root of
    γ³ + 7 γ² + (16 - sigma_rel⁻²) γ + 12 - sigma_rel⁻².
    """
    precision = sigma_rel**-2
    return float(np.roots([1, 7, 16 - precision, 12 - precision]).real.max())


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _move(average: nn.Module, live: Mapping[str, Tensor], weight: float) -> None:
    """Move parameters by a share of the way; statistics, singular vectors and counters are copied."""
    parameters = dict(average.named_parameters())
    torch._foreach_lerp_(list(parameters.values()), [live[name] for name in parameters], weight)
    for name, value in average.named_buffers():
        if name in live:
            value.copy_(live[name])
