"""Tensors of a saved state that are read when they are asked for, completely or in part."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from bigtrain.core.errors import UserError
from bigtrain.core.state import State


class SavedTensor(ABC):
    """A tensor of a saved state.

    Attributes:
        shape: of the complete tensor.
        name: for error messages.
    """

    shape: torch.Size
    name: str

    @abstractmethod
    def read(self, start: int, stop: int) -> Tensor:
        """Return the elements `start` to `stop - 1` in row-major order, shape [stop - start].

        Raises:
            OSError: they cannot be read.
        """

    def whole(self) -> Tensor:
        """Return the complete tensor.

        Raises:
            OSError: it cannot be read.
        """
        return self.read(0, self.shape.numel()).view(self.shape)

    def of_shape(self, shape: Sequence[int]) -> Self:
        """Return this tensor if it has the shape that a network needs.

        Raises:
            UserError: it has another one.
        """
        if tuple(shape) != tuple(self.shape):
            raise UserError(
                f"{self.name} has the shape {list(self.shape)}, but the networks of this config need {list(shape)}: "
                "a run cannot be continued with networks of other sizes"
            )
        return self


class TensorInMemory(SavedTensor):
    """A tensor that this process holds.

    Args:
        tensor: it; a DTensor is gathered from all ranks. Collective in this case.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        self.shape, self.name = tensor.shape, "a tensor of the state"

    def read(self, start: int, stop: int) -> Tensor:
        """See SavedTensor."""
        return self._tensor.reshape(-1)[start:stop]

    def whole(self) -> Tensor:
        """See SavedTensor: the tensor itself, not a copy."""
        return self._tensor


@runtime_checkable
class LoadsShares(Protocol):
    """A stateful object of which each rank needs a part only, and which reads that part alone."""

    def load_shares(self, state: State) -> None:
        """Go on from `state`, in which every tensor is a `SavedTensor`."""
        ...


def saved(state: State) -> State:
    """Return a state with a `TensorInMemory` in the place of each tensor."""
    return dict(_mapped(state, Tensor, TensorInMemory))


def in_memory(state: Any) -> Any:
    """Return a state, or a part of one, with a complete tensor in the place of each `SavedTensor`.

    Raises:
        OSError: a tensor cannot be read.
    """
    return _mapped(state, SavedTensor, SavedTensor.whole)


def _mapped(node: Any, kind: type, act: Callable[[Any], Any]) -> Any:
    if isinstance(node, kind):
        return act(node)
    if isinstance(node, dict):
        return {key: _mapped(value, kind, act) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_mapped(value, kind, act) for value in node]
    return node
