"""From the device to the host, without the host waiting for more than it needs."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class ToHost:
    """A tensor on its way: who asks for it waits until it is there, but not for what the device was told to do since.

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
    """Iterate over tensors on the host, handing on each when the device has been told of the next."""
    before: ToHost | None = None
    for tensor in tensors:
        sent = ToHost(tensor)
        if before is not None:
            yield before.wait()
        before = sent
    if before is not None:
        yield before.wait()
