"""Asynchronous copies from the host to a GPU."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SLOTS = 3
"""Copies that may be under way at a time of each array: that of this step and those of the ones before."""


@dataclass
class _Slot:
    pinned: Tensor
    copied: torch.cuda.Event


class ToDevice:
    """Sends arrays to a device; a GPU gets them from page-locked memory, beside its work.

    A copy from ordinary memory makes the host wait for it. Page-locked memory does not, so that it must not be written
    again before the GPU has read it: each array has a few buffers in turn, with an event each. What is sent is copied
    into one at once: its own memory is free when `send` returns.

    Args:
        device: where to. A CPU takes the arrays as they are.
        pin: makes an empty page-locked tensor like the one that it is given.
        make_event: makes an event of the current device.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        pin: Callable[[Tensor], Tensor] = lambda like: torch.empty_like(like, pin_memory=True),
        make_event: Callable[[], torch.cuda.Event] = torch.cuda.Event,
    ) -> None:
        self._device, self._pin, self._make_event = device, pin, make_event
        self._rings: dict[str, deque[_Slot]] = {}

    def send(self, name: str, array: NDArray[np.generic]) -> Tensor:
        """Return an array on the device.

        Args:
            name: of the array, which has buffers of its own; it comes once a step.
            array: any shape and dtype; a new shape gets new buffers.
        """
        host = torch.from_numpy(array)
        if self._device.type != "cuda":
            return host.to(self._device)
        ring = self._rings.setdefault(name, deque())
        if ring and (ring[0].pinned.shape, ring[0].pinned.dtype) != (host.shape, host.dtype):
            for slot in ring:
                slot.copied.synchronize()
            ring.clear()
        if len(ring) < _SLOTS:
            slot = _Slot(self._pin(host), self._make_event())
        else:
            slot = ring.popleft()
            slot.copied.synchronize()
        slot.pinned.copy_(host)
        sent = slot.pinned.to(self._device, non_blocking=True)
        slot.copied.record()
        ring.append(slot)
        return sent
