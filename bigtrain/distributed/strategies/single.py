"""One process, no communication."""

from typing import Literal

from bigtrain.core.config import Config
from bigtrain.core.schedules import OptimizerConfig
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.player import Player
from bigtrain.distributed.strategies.base import Precision, ReplicatedStrategy


class SingleConfig(Config):
    """Train in this process alone."""

    kind: Literal["single"] = "single"

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> ReplicatedStrategy:
        """Wrap a player.

        Raises:
            ValueError: there are several ranks; they would train apart.
        """
        if ranks.world_size > 1:
            raise ValueError(f"strategy.kind 'single' trains one rank, there are {ranks.world_size}: use 'ddp'")
        return ReplicatedStrategy(player, optimizer, precision, accumulation)
