"""The strategies, one file each; a new one is a new file and one name in the union below."""

from typing import Annotated

from pydantic import Field

from bigtrain.distributed.strategies.base import Precision, Strategy
from bigtrain.distributed.strategies.ddp import DDPConfig
from bigtrain.distributed.strategies.flat import FlatConfig
from bigtrain.distributed.strategies.fsdp import FSDPConfig
from bigtrain.distributed.strategies.single import SingleConfig

StrategyConfig = Annotated[SingleConfig | DDPConfig | FlatConfig | FSDPConfig, Field(discriminator="kind")]

__all__ = ["Precision", "Strategy", "StrategyConfig"]
