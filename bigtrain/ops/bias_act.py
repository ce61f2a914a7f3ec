"""Bias, activation, gain and clamp in one place: the pointwise tail of every StyleGAN layer."""

import math

import torch.nn.functional as F
from torch import Tensor

ACTIVATION_GAIN = {"linear": 1.0, "lrelu": math.sqrt(2.0), "relu": math.sqrt(2.0)}
"""The gain that keeps unit variance through each activation (Karras et al. 2020)."""


def bias_act(
    x: Tensor, bias: Tensor | None = None, *, act: str = "linear", gain: float = 1.0, clamp: float | None = None
) -> Tensor:
    """Compute `clamp(act(x + bias) * activation_gain * gain)`.

    Args:
        x: activations, channels on axis 1, shape [N, C, ...].
        bias: shape [C], or None.
        act: `linear`, `relu`, or `lrelu` (slope 0.2).
        gain: factor on top of the activation's own (ACTIVATION_GAIN).
        clamp: bound on the absolute value of the result, scaled by `gain`; None for no bound.

    Returns:
        Same shape and dtype as `x`.
    """
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if act == "lrelu":
        x = F.leaky_relu(x, 0.2)
    elif act == "relu":
        x = F.relu(x)
    elif act != "linear":
        raise ValueError(f"unknown activation {act!r}: choose one of {sorted(ACTIVATION_GAIN)}")
    total = ACTIVATION_GAIN[act] * gain
    if total != 1.0:
        x = x * total
    if clamp is not None:
        x = x.clamp(-clamp * gain, clamp * gain)
    return x
