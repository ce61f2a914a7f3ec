"""The input of a plan: the tensors of the players, and the work of their phases."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FLOAT = 4

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """A player's tensors.

    Attributes:
        name: of the player.
        parameters: shapes by name.
        trainable: names of those that its optimizer moves.
        buffers: bytes of what is not learnt.
        parts: names of the parameters that FSDP2 gathers together, stage by stage; scalars are in none.
    """

    name: str
    parameters: dict[str, Shape]
    trainable: tuple[str, ...]
    buffers: int
    parts: tuple[tuple[str, ...], ...]

    @property
    def weights(self) -> int:
        """Bytes of all parameters in float32."""
        return self.bytes_of(self.parameters)

    def bytes_of(self, names: Iterable[str]) -> int:
        """Return the bytes of some parameters in float32."""
        return _FLOAT * sum(math.prod(self.parameters[name]) for name in names)


@dataclass(frozen=True)
class Work:
    """One micro-batch of a kind of phase.

    Attributes:
        player: whose phase.
        second_order: whether a gradient is differentiated.
        names: of the operators, in order, such as `aten.convolution`.
        flops: of each operator.
        bytes: that each reads and writes.
        reduced: whether its operands have 16 bits.
        forward: number of operators before the backward.
        arrivals: for each of the player's parameters, in order of arrival: operators done, and its name.
        activations: the most bytes at a time, besides what is kept from phase to phase and finished gradients.
        with_gradients: the most bytes at a time where finished gradients count too.
        late: likewise, from the first finished gradient on.
        statistics: sizes of the messages by which layers average statistics over the ranks.
    """

    player: str
    second_order: bool
    names: tuple[str, ...]
    flops: NDArray[np.float64]
    bytes: NDArray[np.float64]
    reduced: NDArray[np.bool_]
    forward: int
    arrivals: tuple[tuple[int, str], ...]
    activations: float
    with_gradients: float
    late: float
    statistics: tuple[int, ...]
