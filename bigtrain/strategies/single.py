"""One process, no communication."""

from typing import Literal

from bigtrain.core.config import ConfigError
from bigtrain.core.schedules import OptimizerConfig
from bigtrain.distributed.init import Ranks
from bigtrain.engine.player import Player
from bigtrain.strategies.base import AdamStrategy, Precision, StrategySettings


class SingleConfig(StrategySettings):
    """Train in this process alone."""

    kind: Literal["single"] = "single"

    def check(self, world_size: int) -> None:
        """Raise ConfigError if there are several ranks: they would train apart."""
        if world_size > 1:
            raise ConfigError(f"kind 'single' trains one rank, there are {world_size}: use 'ddp'")

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> AdamStrategy:
        """Wrap a player."""
        return AdamStrategy(player, optimizer, precision, accumulation)
