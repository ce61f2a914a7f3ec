"""The interface between a task and the strategies that train it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.models.pretrained import FeatureMaps

Stats = dict[str, Tensor]
"""Detached scalars to be averaged and logged."""

Rivals = Mapping[str, Callable[..., Any]]
"""The other players' networks by name: plain callables, frozen and free of hooks."""


@dataclass(frozen=True)
class Phase:
    """One update of a player inside a step.

    Attributes:
        name: name for logs and random streams, for example `d_main`.
        player: name of the player that is updated.
        batch: index of the step's batch that the phase reads.
        values: numbers that change with progress, by name. The task sets what its players use in this step: the weight
            of each regulariser that is due, the strength of a noise. What is not computed in the phase has no entry, so
            that the names tell what the phase computes.
    """

    name: str
    player: str
    batch: int = 0
    values: Mapping[str, float] = field(default_factory=dict)


class Player(nn.Module, ABC):
    """The networks that one optimizer updates, and their losses.

    The whole loss of a phase, `autograd.grad` of a gradient penalty included, is computed inside `forward`, so that
    whatever wraps the player (DDP, DeepSpeed, FSDP2) sees one forward and one backward.

    Attributes:
        frozen: frozen pretrained networks that a loss uses, by name. They are not part of the module: they are not
            trained, sharded or saved. The code that builds the task loads them, or only allocates them for counting
            operations.
    """

    frozen: Mapping[str, FeatureMaps] = MappingProxyType({})

    @abstractmethod
    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the scalar loss of the phase, and statistics to log."""

    def networks(self) -> dict[str, nn.Module]:
        """Return the player's networks by name."""
        return dict(self.named_children())
