"""Asynchronous copies from the device to the host."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class ToHost:
    """A tensor that is being copied to the host. `wait` blocks until the copy is done, not for work queued after it.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor.to("cpu", non_blocking=True)
        self._there: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record()

    def wait(self) -> Tensor:
        """Return it on the host."""
        if self._there is not None:
            self._there.synchronize()
        return self._host


def one_behind(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Iterate over tensors on the host; each is yielded when the copy of the next one has been queued."""
    before: ToHost | None = None
    for tensor in tensors:
        sent = ToHost(tensor)
        if before is not None:
            yield before.wait()
        before = sent
    if before is not None:
        yield before.wait()
