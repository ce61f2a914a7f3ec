"""CUDA's autocast policy on the CPU, whose own lowers fewer operators: for tests that have no GPU."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LOWERED = ("convolution", "_convolution", "prelu", "addmv", "addr", "mv")
"""What CUDA's autocast computes in bfloat16 and the CPU's leaves alone (PyTorch's autocast_mode.h)."""
RAISED = ("rsqrt", "reciprocal", "exp", "log", "log1p", "expm1", "softplus", "pow.Tensor_Scalar", "layer_norm")
"""What CUDA's autocast computes in float32 and the CPU's leaves alone; those that the networks and losses here call."""

_MOVES = {torch.ops.aten._to_copy, torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._unsafe_view}
_CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """Let autocast on the CPU lower convolutions wherever they are called, also in a backward, as CUDA's does."""
    library = torch.library.Library("aten", "IMPL")
    for names, dtype in ((LOWERED, None), (RAISED, torch.float32)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, _casting(operator, dtype), "AutocastCPU")
    try:
        yield
    finally:
        library._destroy()


def _casting(operator: Any, dtype: torch.dtype | None) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        wanted = dtype or torch.get_autocast_dtype("cpu")

        def cast(value: Any) -> Any:
            floating = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(wanted) if floating else value

        with torch.autocast("cpu", enabled=False):
            return operator(*tree_map(cast, args), **tree_map(cast, kwargs))

    return call


class Dtypes(TorchDispatchMode):
    """Notes the floating dtypes of the operands of every operator.

    Attributes:
        mixed: convolutions and their gradients whose operands differ, which cuDNN refuses.
        seen: by the operator's name.
        lowered: how often each operator computed with an operand in bfloat16; what casts or moves computes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []
        self.seen: dict[str, set[torch.dtype]] = {}
        self.lowered: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        floats = {leaf.dtype for leaf in leaves if leaf.is_floating_point()}
        self.seen.setdefault(str(operator.overloadpacket), set()).update(floats)
        if torch.bfloat16 in floats and not operator.is_view and operator.overloadpacket not in _MOVES:
            self.lowered[str(operator)] += 1
        if operator.overloadpacket in _CONVOLUTIONS and len(floats) > 1:
            self.mixed.append(f"{operator}: {sorted(map(str, floats))}")
        return operator(*args, **(kwargs or {}))
