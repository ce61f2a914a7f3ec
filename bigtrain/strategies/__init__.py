"""The strategies, one file each; a new one is a new file and one name in the unions of `by_player`."""

from bigtrain.engine.strategy import Capability, Demands, Strategy
from bigtrain.strategies.base import Precision
from bigtrain.strategies.by_player import StrategyConfig, check_strategies, strategy_of

__all__ = ["Capability", "Demands", "Precision", "Strategy", "StrategyConfig", "check_strategies", "strategy_of"]
