"""One strategy for all players, or one for each."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from bigtrain.core.config import ConfigError
from bigtrain.engine.strategy import Demands
from bigtrain.strategies.base import StrategySettings
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.flat import FlatConfig
from bigtrain.strategies.fsdp import FSDPConfig
from bigtrain.strategies.single import SingleConfig

AnyStrategy = Annotated[
    SingleConfig | DDPConfig | FlatConfig | FSDPConfig | DeepSpeedConfig, Field(discriminator="kind")
]
"""Every strategy: a new one is a new file and one name in this union."""


def _is_by_player(data: Any) -> str:
    """Tell `{kind: …}` from `{PLAYER: {kind: …}, …}`."""
    by_player = isinstance(data, Mapping) and bool(data) and all(isinstance(one, Mapping) for one in data.values())
    by_player = by_player or (
        isinstance(data, Mapping) and any(isinstance(one, StrategySettings) for one in data.values())
    )
    return "by_player" if by_player else "one"


StrategyConfig = Annotated[
    Annotated[AnyStrategy, Tag("one")] | Annotated[dict[str, AnyStrategy], Tag("by_player")],
    Discriminator(_is_by_player),
]
"""One strategy for all players: `strategy: {kind: ddp}`; or one for each: `strategy: {G: {kind: …}, D: {kind: …}}`."""


def strategy_of(config: StrategyConfig, player: str) -> StrategySettings:
    """Return a player's strategy."""
    return config[player] if isinstance(config, dict) else config


def check_strategies(config: StrategyConfig, demands: Demands, world_size: int, *, here: bool = True) -> None:
    """Find out whether each player's strategy can do what is asked of it.

    Args:
        config: the strategies.
        demands: of the run, see `TrainingConfig.requirements`.
        world_size: number of ranks.
        here: whether it is this machine that trains, where what a strategy needs must be installed.

    Raises:
        ConfigError: it cannot, with the key, the reason and the way out; or strategies and players do not fit.
    """
    if isinstance(config, dict) and config.keys() != demands.keys():
        raise ConfigError(
            f"strategy: has {', '.join(sorted(config))}, but this task has the players {', '.join(sorted(demands))}: "
            "name a strategy for each, or one for all"
        )
    for player, asked in demands.items():
        settings = strategy_of(config, player)
        place = f"strategy.{player}" if isinstance(config, dict) else "strategy"
        try:
            settings.check_ranks(world_size)
            if here:
                settings.check_installed()
        except ConfigError as error:
            raise ConfigError(f"{place}.{error}") from None
        for capability, key in asked.items():
            if capability in settings.lacks:
                raise ConfigError(f"{place}: '{settings.kind}' {settings.lacks[capability]} (asked for by {key})")
