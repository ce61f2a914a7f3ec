"""Islands of full precision inside of mixed precision."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def outside_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Compute in the precision of the operands, whatever surrounds it.

    Without autocast around, it leaves no trace: exporters of programs do not know how to write it down.
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def gradients_of(total: Tensor, inputs: Sequence[Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Differentiate a scalar, each operator in the precision that its forward had; the graph of `total` is kept.

    A call of `torch.autograd.grad` inside of autocast would lower the operators of that backward as well: products of
    a float32 network to bfloat16 on CPUs, convolutions too on GPUs, where the second derivative then mixes dtypes.

    Args:
        total: shape [].
        inputs: what to differentiate by.
        create_graph: whether the gradients can be differentiated again.

    Returns:
        One gradient an input, of its shape.
    """
    with outside_autocast(total.device.type):
        return torch.autograd.grad(total, inputs, create_graph=create_graph, retain_graph=True)
