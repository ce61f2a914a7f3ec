"""Flat data parallelism: one all-reduce of all gradients after the backward pass.

Nothing overlaps, so it is slow; it is what the other strategies are compared with.
"""

from typing import Literal

import torch
from torch import Tensor

from bigtrain.distributed.collectives import mean_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.engine.player import Player
from bigtrain.strategies.base import Precision, StrategySettings, TorchStrategy
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.flat import FlatPlan
from bigtrain.strategies.plans.work import Sizes


class FlatConfig(StrategySettings):
    """Average all gradients at once, after the backward."""

    kind: Literal["flat"] = "flat"

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> "FlatStrategy":
        """Wrap a player."""
        return FlatStrategy(player, optimizer, precision, accumulation)

    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """See StrategySettings."""
        return FlatPlan(sizes, optimizer, ranks, precision, accumulation)


class FlatStrategy(TorchStrategy):
    """A bare player."""

    def _average_gradients(self) -> None:
        average(self._gradients())


def average(gradients: list[Tensor]) -> None:
    """Average gradients over the ranks, in place, in one message. Collective."""
    if gradients:
        mean = mean_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(mean, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
