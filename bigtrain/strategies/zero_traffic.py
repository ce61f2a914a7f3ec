"""Counts the messages that DeepSpeed's engine sends by itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bigtrain.distributed.traffic import traffic

_MESSAGES = frozenset(
    {
        "all_gather",
        "all_gather_coalesced",
        "all_gather_into_tensor",
        "all_reduce",
        "all_reduce_coalesced",
        "broadcast",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_tensor",
    }
)
"""Of the operations of DeepSpeed's backend, those that a training step uses."""


def count_messages(deepspeed: Any) -> None:
    """Put a counting backend in the place of DeepSpeed's own, once a process."""
    comm = deepspeed.comm.comm
    if not isinstance(comm.cdb, CountedBackend):
        comm.cdb = CountedBackend(comm.cdb)


class CountedBackend:
    """A backend of DeepSpeed's, the messages of which are counted where they begin.

    Args:
        backend: what sends them.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return _counted(found) if name in _MESSAGES else found


def _counted(send: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        size = max(map(_bytes, [*args, *kwargs.values()]), default=0)
        if not kwargs.get("async_op", len(args) > 3 and args[3] is True):
            with traffic.blocking(size):
                return send(*args, **kwargs)
        ended = traffic.begin_beside(size)
        work = send(*args, **kwargs)
        try:
            work.get_future().then(lambda _: ended())
        except (AttributeError, NotImplementedError, RuntimeError):  # this handle has no future to wait for
            ended()
        return work

    return counted


def _bytes(argument: Any) -> int:
    """Return the size of a tensor or of a list of them; the larger of a message's two sides is what it moves."""
    if isinstance(argument, Tensor):
        return argument.nbytes
    if isinstance(argument, list | tuple) and all(isinstance(one, torch.Tensor) for one in argument):
        return sum(one.nbytes for one in argument)
    return 0
