"""The optimizers: one config class per kind, with its schedules and the `torch.optim` class that it builds.

Every optimizer built here takes a `found_inf` tensor as PyTorch's fused kernels do: where it is 1, a step leaves
weights and moments as they are, and the host does not wait for the device to find out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor
from torch.distributed.tensor import DTensor

from bigtrain.core.config import Config
from bigtrain.core.schedules import ConstantSchedule, LrScaling, Schedule

GroupSettings = Mapping[str, Any]
"""What changes with progress, by the names of a torch optimizer's parameter groups: `lr`, `betas`, …"""


class OptimizerBase(Config, ABC):
    """Base class of the configs of optimizers.

    Attributes:
        lr: learning rate.
        clip_norm: maximum L2 norm of the gradient over all weights; null for no maximum.
        clip_value: maximum absolute value of each element of the gradient; null for no maximum.
        weight_limit: maximum absolute value of each weight after a step (Arjovsky et al. 2017); null for no maximum.
        scale_lr: how the learning rate is adapted to the global batch, for example `{rule: sqrt, batch: 256}`; null
            uses `lr` unchanged.
    """

    kind: str
    lr: Schedule
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    weight_limit: PositiveFloat | None = None
    scale_lr: LrScaling | None = None

    moments: ClassVar[tuple[str, ...]]
    """Names of the tensors of a weight's shape that the optimizer keeps for each weight."""
    counts_steps: ClassVar[bool] = False
    """Whether it keeps a counter of steps for each weight besides, as `step`."""

    @abstractmethod
    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters; its settings come with each step."""

    def settings_at(self, samples_seen: int, total: int, *, global_batch: int) -> dict[str, Any]:
        """Return the settings of a step on `global_batch` samples, taken at `samples_seen` of `total`."""
        lr = self.lr.value_at(samples_seen, total)
        return {"lr": lr * (self.scale_lr.factor(global_batch) if self.scale_lr else 1.0)}


class _Adaptive(OptimizerBase):
    """Adam and AdamW.

    Attributes:
        beta1: decay rate of the first moment, below 1.
        beta2: decay rate of the second moment, below 1.
        eps: small number that is added to the denominator.
    """

    beta1: Schedule = ConstantSchedule(value=0.0)
    beta2: Schedule = ConstantSchedule(value=0.99)
    eps: PositiveFloat = 1e-8

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    counts_steps: ClassVar[bool] = True

    @model_validator(mode="after")
    def _moments_decay(self) -> Self:
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if max(beta.value, getattr(beta, "final", 0.0)) >= 1:
                raise ValueError(f"{name} must stay below 1")
        return self

    def settings_at(self, samples_seen: int, total: int, *, global_batch: int) -> dict[str, Any]:
        """See OptimizerBase: also the decays of the moments."""
        betas = (self.beta1.value_at(samples_seen, total), self.beta2.value_at(samples_seen, total))
        return {**super().settings_at(samples_seen, total, global_batch=global_batch), "betas": betas}


class AdamConfig(_Adaptive):
    """Adam (Kingma & Ba 2015)."""

    kind: Literal["adam"] = "adam"

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See OptimizerBase."""
        return torch.optim.Adam(parameters, eps=self.eps, fused=True)


class AdamWConfig(_Adaptive):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Attributes:
        weight_decay: weight decay; each step multiplies the weights by 1 - learning rate * `weight_decay`.
    """

    kind: Literal["adamw"]
    weight_decay: NonNegativeFloat = 0.01

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See OptimizerBase."""
        return torch.optim.AdamW(parameters, eps=self.eps, weight_decay=self.weight_decay, fused=True)


class SGDConfig(OptimizerBase):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013).

    Attributes:
        momentum: decay rate of the velocity, below 1.
        nesterov: whether to use Nesterov momentum.
        weight_decay: factor of the weights that is added to the gradient (an L2 penalty).
    """

    kind: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0

    moments: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See OptimizerBase."""
        return SGD(parameters, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay)


class RMSpropConfig(OptimizerBase):
    """RMSprop (Tieleman & Hinton 2012), the optimizer of the first WGAN (Arjovsky et al. 2017, algorithm 1).

    Attributes:
        alpha: decay rate of the average of squared gradients, below 1.
        eps: small number that is added to the denominator.
    """

    kind: Literal["rmsprop"]
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    eps: PositiveFloat = 1e-8

    moments: ClassVar[tuple[str, ...]] = ("square_avg",)

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See OptimizerBase."""
        return RMSprop(parameters, alpha=self.alpha, eps=self.eps)


class _Skipping(torch.optim.Optimizer, ABC):
    """An optimizer that can skip a step without asking the host, on whole weights and on FSDP's shares.

    PyTorch's own either cannot skip a step so, or have no kernel for sharded weights; they are the twins in tests.
    """

    found_inf: Tensor | None = None
    moment: ClassVar[str]
    """Name of the one tensor that it keeps for each weight, zeros at first."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make a step on what has a gradient, unless `found_inf` is 1."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            for parameter in moved:
                self.state[parameter].setdefault(self.moment, torch.zeros_like(parameter))
            weights, gradients, moments = (
                [_local(one) for one in tensors]
                for tensors in (moved, [one.grad for one in moved], [self.state[one][self.moment] for one in moved])
            )
            taken = torch.ones((), device=weights[0].device)
            if self.found_inf is not None:
                taken = 1.0 - self.found_inf.to(weights[0].device)
            self._move(weights, gradients, moments, group, taken)

    @abstractmethod
    def _move(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        moments: list[Tensor],
        group: Mapping[str, Any],
        taken: Tensor,
    ) -> None:
        """Move weights and moments, in place.

        Args:
            weights: what this rank holds of them.
            gradients: of the weights.
            moments: of the weights.
            group: settings.
            taken: 1, or 0 for a step that leaves all as it is, whatever the gradients are.
        """


class SGD(_Skipping):
    """Stochastic gradient descent: v ← μ v + g + λ θ, θ ← θ - lr v, or θ ← θ - lr (g + λ θ + μ v) after Nesterov.

    Args:
        parameters: to move.
        momentum: μ.
        nesterov: look ahead along v.
        weight_decay: λ.
    """

    moment = "momentum_buffer"

    def __init__(self, parameters: Iterable[Tensor], *, momentum: float, nesterov: bool, weight_decay: float) -> None:
        settings = {"lr": 1e-3, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(parameters, settings)

    def _move(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        moments: list[Tensor],
        group: Mapping[str, Any],
        taken: Tensor,
    ) -> None:
        momentum = group["momentum"]
        slopes = [torch.where(taken > 0, gradient, 0.0) for gradient in gradients]
        torch._foreach_add_(slopes, weights, alpha=group["weight_decay"])
        torch._foreach_mul_(slopes, taken)
        torch._foreach_mul_(moments, torch.where(taken > 0, momentum, 1.0))
        torch._foreach_add_(moments, slopes)
        if group["nesterov"]:
            torch._foreach_add_(slopes, moments, alpha=momentum)
        else:
            slopes = moments
        torch._foreach_addcmul_(weights, slopes, [taken.expand_as(slope) for slope in slopes], -group["lr"])


class RMSprop(_Skipping):
    """RMSprop: v ← α v + (1 - α) g², θ ← θ - lr g / (√v + ε).

    Args:
        parameters: to move.
        alpha: decay of v.
        eps: small number that is added to the denominator.
    """

    moment = "square_avg"

    def __init__(self, parameters: Iterable[Tensor], *, alpha: float, eps: float) -> None:
        super().__init__(parameters, {"lr": 1e-2, "alpha": alpha, "eps": eps})

    def _move(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        moments: list[Tensor],
        group: Mapping[str, Any],
        taken: Tensor,
    ) -> None:
        slopes = [torch.where(taken > 0, gradient, 0.0) for gradient in gradients]
        torch._foreach_mul_(moments, torch.where(taken > 0, group["alpha"], 1.0))
        torch._foreach_addcmul_(moments, slopes, slopes, 1 - group["alpha"])
        roots = torch._foreach_sqrt(moments)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(weights, slopes, roots, -group["lr"])


def _local(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _adam_by_default(data: Any) -> Any:
    return {"kind": "adam", **data} if isinstance(data, Mapping) and "kind" not in data else data


_Optimizers = AdamConfig | AdamWConfig | SGDConfig | RMSpropConfig
OptimizerConfig = Annotated[
    _Optimizers, Field(discriminator="kind"), BeforeValidator(_adam_by_default, json_schema_input_type=_Optimizers)
]
"""Every optimizer; written without a `kind`, it is Adam."""


def limit_weights(weights: list[Tensor], limit: float | None) -> None:
    """Bound each weight, in place."""
    if limit is not None:
        torch._foreach_clamp_min_(weights, -limit)
        torch._foreach_clamp_max_(weights, limit)
