"""How often to augment: a fixed or scheduled p, or one that follows D's overfitting."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.schedules import Schedule
from bigtrain.core.state import Progress, State


class Probability(ABC):
    """The probability of augmentation over a run; its state goes into checkpoints, and is the same on every rank.

    Attributes:
        p: the probability now, float32, shape [], on the device.
    """

    def __init__(self, initial: float, device: torch.device) -> None:
        self.p = torch.tensor(initial, device=device)

    @abstractmethod
    def update(self, sign_mean: Tensor, progress: Progress) -> None:
        """Adapt p after a step.

        Args:
            sign_mean: mean of sign(D(x)) over the step's real images of ALL ranks, shape []; never leaves the device.
            progress: after the step.
        """

    def state_dict(self) -> State:
        """See Stateful."""
        return {"p": self.p.item()}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.p.fill_(state["p"])


class FixedConfig(Config):
    """A probability that does not depend on D.

    Attributes:
        p: the probability, a number or a schedule.
    """

    kind: Literal["fixed"] = "fixed"
    p: Schedule

    @model_validator(mode="after")
    def _is_a_probability(self) -> "FixedConfig":
        highest = max(self.p.value, getattr(self.p, "final", 0.0))
        if highest > 1:
            raise ValueError(f"p is a probability, from 0 to 1, not {highest}")
        return self

    def build(self, device: torch.device) -> "FixedProbability":
        """Build it on a device."""
        return FixedProbability(self, device)


class FixedProbability(Probability):
    """A pure function of the images seen."""

    def __init__(self, config: FixedConfig, device: torch.device) -> None:
        super().__init__(config.p.value_at(0, 1), device)
        self._config = config

    def update(self, sign_mean: Tensor, progress: Progress) -> None:
        """See Probability."""
        self.p.fill_(self._config.p.value_at(progress.samples_seen, progress.total))


class AdaptiveConfig(Config):
    """A probability that rises while D overfits and falls while it does not (Karras et al. 2020b, section 3.1).

    Attributes:
        target: target of r_t = E[sign(D(real))], which is 0 if D cannot tell real from fake, and 1 if it recognises
            every training image.
        interval: number of steps over which r_t is averaged before each adjustment of p.
        adjust_kimg: thousands of images in which p moves by 1.
        initial: value of p at the start.
        bound: maximum of p; with p = 1 the augmentation would hide the distribution of the data (the paper finds 0.8
            safe).
    """

    kind: Literal["adaptive"] = "adaptive"
    target: float = Field(default=0.6, ge=-1, le=1)
    interval: PositiveInt = 4
    adjust_kimg: PositiveFloat = 500.0
    initial: float = Field(default=0.0, ge=0, le=1)
    bound: float = Field(default=1.0, gt=0, le=1)

    def build(self, device: torch.device) -> "AdaController":
        """Build the controller on a device."""
        return AdaController(self, device)


class AdaController(Probability):
    """Moves p by a fixed step towards where r_t meets its target.

    All of its arithmetic runs on the device, on numbers that are the same on all ranks: no rank waits for p.
    """

    def __init__(self, config: AdaptiveConfig, device: torch.device) -> None:
        super().__init__(config.initial, device)
        self._config = config
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._steps = 0

    def update(self, sign_mean: Tensor, progress: Progress) -> None:
        """See Probability."""
        self._sum += sign_mean.detach()
        self._steps += 1
        if self._steps == self._config.interval:
            step = self._steps * progress.batch / (1000 * self._config.adjust_kimg)
            r_t = self._sum / self._steps
            self.p.add_((r_t - self._config.target).sign() * step).clamp_(0, self._config.bound)
            self._sum.zero_()
            self._steps = 0

    def state_dict(self) -> State:
        """See Stateful."""
        return {**super().state_dict(), "sum": self._sum.item(), "steps": self._steps}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        super().load_state_dict(state)
        self._sum.fill_(state["sum"])
        self._steps = state["steps"]


ProbabilityConfig = Annotated[FixedConfig | AdaptiveConfig, Field(discriminator="kind")]
