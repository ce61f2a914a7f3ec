"""The interface of strategies: each wraps one player and owns its distribution, precision and optimizer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.saved import saved
from bigtrain.core.state import State
from bigtrain.distributed.memory import MemoryUse
from bigtrain.engine.optimizers import GroupSettings
from bigtrain.engine.player import Phase, Rivals, Stats

Capability = Literal["double_backward", "compile", "pure_bf16", "fp16"]
"""What a run may require of a strategy: to differentiate a gradient exactly (`double_backward`), to train compiled
networks, to keep weights in bfloat16, to scale losses for float16."""

Demands = Mapping[str, Mapping[Capability, str]]
"""For each player of a task, the required capabilities and the config key that requires each."""


class GradientSource(ABC):
    """Computes the gradients of one player."""

    @abstractmethod
    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """Run the wrapped forward on a micro-batch; gradients are synchronised at the last one only."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the micro-batch's gradients, weighted so that their sum is the mean over the batch."""

    @abstractmethod
    def set_trainable(self, trainable: bool) -> None:
        """Freeze the weights while a rival trains; those that were frozen from the start are always."""

    @abstractmethod
    def infer(self) -> Rivals:
        """Return the player's networks as plain callables, for sampling and for the rivals' losses."""


class Strategy(GradientSource):
    """Trains one player."""

    @abstractmethod
    def step(self, settings: GroupSettings) -> Stats:
        """Check and clip the gradients, update the weights, and clear the gradients.

        Args:
            settings: of the optimizer, for this step.

        Returns:
            `gradient_norm`, and `skipped_step`: 1 where the gradient was not finite and the weights stayed, else 0.
        """

    @abstractmethod
    def full_params(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over all parameters and buffers, whole, by their unwrapped names. Collective where sharded."""

    @abstractmethod
    def memory_use(self) -> MemoryUse:
        """Return the memory that the player takes on this rank."""

    @abstractmethod
    def state_dict(self) -> State:
        """See Stateful; loads at another world size. A tensor of which a rank holds a share is a DTensor."""

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.load_shares(saved(state))

    @abstractmethod
    def load_shares(self, state: State) -> None:
        """See LoadsShares: of each tensor, read what this rank keeps. Collective."""
