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
    """One player's update inside a step.

    Attributes:
        name: for logs and random streams, for example `d_main`.
        player: whose update it is.
        batch: which of the step's batches it reads.
        values: the numbers that change with progress, by name. A task puts there what its players go by in this
            step: the weight of each regulariser that is due, the strength of a noise. What is not computed has no
            number, so that the names tell what the phase computes.
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
        frozen: pretrained networks that a loss looks through, by name. They are no part of the module: nobody trains,
            shards or saves them. Whoever builds the task loads them, or allocates them to count or to try.
    """

    frozen: Mapping[str, FeatureMaps] = MappingProxyType({})

    @abstractmethod
    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the phase's scalar loss, and what to log."""

    def networks(self) -> dict[str, nn.Module]:
        """Return the player's networks by name."""
        return dict(self.named_children())
