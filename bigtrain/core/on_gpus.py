"""Whether an operator is computed as on a GPU, where another form of it is faster or repeats its bits."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_everywhere = False


def on_gpu(tensor: Tensor) -> bool:
    """Return whether what is computed from a tensor takes the form that GPUs are given."""
    return _everywhere or tensor.is_cuda


@contextmanager
def as_on_gpus() -> Iterator[None]:
    """Let CPUs take the forms of GPUs too: to count what a GPU would be given to do."""
    global _everywhere
    before, _everywhere = _everywhere, True
    try:
        yield
    finally:
        _everywhere = before
