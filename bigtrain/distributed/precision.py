"""The precision in which players compute: autocast, float32 master weights and loss scaling."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bigtrain.core.config import ConfigError
from bigtrain.core.state import State
from bigtrain.ops.convolution import conv2d

Precision = Literal["fp32", "bf16", "pure_bf16", "fp16"]
"""Of matrix products and convolutions. `pure_bf16`: weights and gradients too, beside float32 masters that Adam moves.

What needs float32 has it in all of them: losses, penalties, minibatch statistics, spectral norms, moments, averages.
"""

_NOTICEABLE = 1.25
"""A precision that is slower by less is not worth a word."""
_AUTOCAST = {"bf16": torch.bfloat16, "pure_bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: Precision, *, cuda: bool) -> None:
    """Find out whether a precision can train on this machine.

    Raises:
        ConfigError: it cannot, with the way out.
    """
    if precision == "fp16" and not cuda:
        raise ConfigError("precision 'fp16' is for GPUs, and is not faster on CPUs; use 'bf16'")


def advice_on(precision: Precision, speeds: Mapping[torch.dtype, float]) -> str | None:
    """Return what would be faster than a precision on a CPU, in words; None if nothing much.

    bfloat16 is many times faster than float32 where a CPU multiplies its matrices (AMX), and slower on others.

    Args:
        precision: as configured.
        speeds: of both dtypes, see `convolution_speeds`.
    """
    ratio = speeds[torch.float32] / speeds[torch.bfloat16]
    if precision in ("bf16", "pure_bf16") and ratio > _NOTICEABLE:
        return f"precision: {precision} computes {ratio:.1f} times slower than fp32 on this CPU: use precision=fp32"
    if precision == "fp32" and 1 / ratio > _NOTICEABLE:
        return f"precision: fp32 computes {1 / ratio:.1f} times slower than bf16 on this CPU: use precision=bf16"
    return None


def convolution_speeds() -> dict[torch.dtype, float]:
    """Measure how many convolutions a second this CPU does in float32 and in bfloat16: a tenth of a second's work."""
    speeds = {}
    for dtype in (torch.float32, torch.bfloat16):
        image, weight = (
            torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
            for shape in ((4, 128, 24, 24), (128, 128, 3, 3))
        )
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            conv2d(image, weight, padding=1)
            seconds.append(time.perf_counter() - began)
        speeds[dtype] = 1 / min(seconds)
    return speeds


def autocast(device_type: str, precision: Precision) -> torch.autocast:
    """Return the context in which a player computes its loss."""
    return torch.autocast(device_type, _AUTOCAST.get(precision, torch.bfloat16), enabled=precision in _AUTOCAST)


def allow_tf32(allowed: bool) -> None:
    """Let GPUs compute float32 products and convolutions with the 10-bit mantissa of TF32, or forbid it."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed  # not the newer `fp32_precision`: torch.export cannot read it back


class MasterWeights:
    """Float32 copies of bfloat16 weights: an update that is too small for the weight still counts in its master.

    Args:
        weights: trainable parameters by name; they become bfloat16.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self.masters = {name: weight.detach().clone() for name, weight in weights.items()}
        for weight in weights.values():
            weight.data = weight.data.to(torch.bfloat16)

    def take_gradients(self) -> None:
        """Add the weights' gradients to those of the masters, in float32, and forget them."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                master, gradient = self.masters[name], weight.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the weights."""
        for name, weight in self._weights.items():
            weight.copy_(self.masters[name])

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from float32 weights."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
        self.publish()


class LossScaler:
    """Keeps small gradients from vanishing in float16 (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by a scale and the gradients are divided by it. A step that overflows is skipped, and halves
    it; a long time without doubles it. Whether a step overflowed is known on all ranks alike, so the scale stays equal.
    It stays on the device, so that no step waits for a copy to the host.

    Args:
        device: of the loss.
        scale: at the start.
        patience: steps without an overflow after which it doubles.
    """

    def __init__(self, device: torch.device, scale: float = 2.0**16, patience: int = 2000) -> None:
        self.scale = torch.tensor(scale, device=device)
        self._good = torch.zeros((), device=device)
        self._patience = patience

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide gradients by the scale, in place."""
        for gradient in gradients:
            gradient.mul_(1 / self.scale)

    def update(self, overflow: Tensor) -> None:
        """Learn from a step: 1 where it overflowed and 0 where not, float32, shape []."""
        good = (self._good + 1) * (1 - overflow)
        grows = good == self._patience
        self.scale = torch.where(grows, 2 * self.scale, self.scale)
        self.scale = torch.where(overflow > 0, (self.scale / 2).clamp(min=1.0), self.scale)
        self._good = torch.where(grows, 0.0, good)

    def state_dict(self) -> State:
        """See Stateful."""
        return {"scale": self.scale.item(), "good": int(self._good.item())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Stateful."""
        self.scale = torch.full_like(self.scale, state["scale"])
        self._good = torch.full_like(self._good, state["good"])
