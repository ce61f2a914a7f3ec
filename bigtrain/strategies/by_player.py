"""One strategy for all players, or one for each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bigtrain.core.config import Config, ConfigError
from bigtrain.strategies.base import Capability, StrategySettings
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.flat import FlatConfig
from bigtrain.strategies.fsdp import FSDPConfig
from bigtrain.strategies.single import SingleConfig

AnyStrategy = Annotated[
    SingleConfig | DDPConfig | FlatConfig | FSDPConfig | DeepSpeedConfig, Field(discriminator="kind")
]
"""Every strategy: a new one is a new file and one name in this union, and in the one below."""


class ByPlayer(Config):
    """A strategy for each player; written `strategy: {G: {kind: …}, D: {kind: …}}`.

    Attributes:
        G: the generators'.
        D: the discriminators'.
    """

    kind: Literal["by_player"] = "by_player"
    G: AnyStrategy
    D: AnyStrategy


def _name_the_kind(data: Any) -> Any:
    """Let `{G: …, D: …}` do without its kind."""
    by_player = isinstance(data, Mapping) and "kind" not in data and not {"G", "D"}.isdisjoint(data)
    return {"kind": "by_player", **data} if by_player else data


StrategyConfig = Annotated[
    SingleConfig | DDPConfig | FlatConfig | FSDPConfig | DeepSpeedConfig | ByPlayer,
    Field(discriminator="kind"),
    BeforeValidator(_name_the_kind),
]

Demands = Mapping[str, Mapping[Capability, str]]
"""What an objective asks of each player's strategy, and the key that asks it."""


def strategy_of(config: StrategyConfig, player: str) -> StrategySettings:
    """Return a player's strategy."""
    if isinstance(config, ByPlayer):
        chosen: StrategySettings = getattr(config, player)
        return chosen
    return config


def check_strategies(config: StrategyConfig, demands: Demands, world_size: int) -> None:
    """Find out whether each player's strategy can do what is asked of it.

    Raises:
        ConfigError: it cannot, with the key, the reason and the way out.
    """
    for player, asked in demands.items():
        settings = strategy_of(config, player)
        place = f"strategy.{player}" if isinstance(config, ByPlayer) else "strategy"
        try:
            settings.check(world_size)
        except ConfigError as error:
            raise ConfigError(f"{place}.{error}") from None
        for capability, key in asked.items():
            if capability in settings.lacks:
                raise ConfigError(f"{place}: '{settings.kind}' {settings.lacks[capability]} (asked for by {key})")
