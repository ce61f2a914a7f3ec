"""How GPUs choose among the algorithms of an operator: the fastest, or one whose bits repeat."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NOT_REPEATABLE = frozenset(
    f"aten.{name}"
    for name in (
        *("adaptive_avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward"),
        *("adaptive_max_pool2d_backward", "max_pool3d_with_indices_backward", "fractional_max_pool2d_backward"),
        *("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
        *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward"),
        *("cumsum", "histc", "bincount", "kthvalue", "put_", "scatter_reduce", "nll_loss2d_forward", "_ctc_loss"),
    )
)
"""Operators that PyTorch refuses on GPUs where bits must repeat: it has no algorithm for them that repeats itself."""


def choose_algorithms(device: torch.device, *, deterministic: bool) -> None:
    """Let a GPU try out its convolutions and take the fastest, or only use what repeats itself to the bit.

    A CPU's operators repeat themselves in any case. cuBLAS reads its variable when it is first used: call this before.

    Args:
        device: of this rank.
        deterministic: whether bits must repeat; the fastest algorithms add up in the order in which threads finish.
    """
    if device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    # Nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def repeatable_operators() -> Iterator[None]:
    """Take the operators that `deterministic` takes: to count them, without a GPU."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
