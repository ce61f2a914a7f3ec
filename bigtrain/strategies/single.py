"""One process, no communication."""

from typing import Literal

from bigtrain.core.config import ConfigError
from bigtrain.distributed.init import Ranks
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.engine.player import Player
from bigtrain.strategies.base import Precision, StrategySettings, TorchStrategy
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.work import Sizes


class SingleConfig(StrategySettings):
    """Train in this process alone."""

    kind: Literal["single"] = "single"

    def check_ranks(self, world_size: int) -> None:
        """Raise ConfigError if there are several ranks: they would train apart."""
        if world_size > 1:
            raise ConfigError(f"kind 'single' trains one rank, there are {world_size}: use 'ddp'")

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> TorchStrategy:
        """Wrap a player."""
        return TorchStrategy(player, optimizer, precision, accumulation)

    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """See StrategySettings."""
        return StrategyPlan(sizes, optimizer, ranks, precision, accumulation)
