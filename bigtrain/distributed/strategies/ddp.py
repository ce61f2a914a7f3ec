"""PyTorch's DistributedDataParallel: gradients are averaged in buckets while the backward still runs."""

from typing import Literal

import torch
import torch.distributed as dist
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bigtrain.core.batch import Batch
from bigtrain.core.config import Config
from bigtrain.core.schedules import OptimizerConfig
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.player import Phase, Player, Rivals, Stats
from bigtrain.distributed.strategies.base import AdamStrategy, Precision
from bigtrain.distributed.strategies.flat import average
from bigtrain.distributed.traffic import traffic


class DDPConfig(Config):
    """Average gradients over ranks by DDP.

    Attributes:
        bucket_mb: size of a gradient bucket in MiB.
    """

    kind: Literal["ddp"] = "ddp"
    bucket_mb: PositiveFloat = 25.0

    def check(self, world_size: int) -> None:
        """Any number of ranks will do."""

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> "DDPStrategy":
        """Wrap a player. Collective: rank 0's weights go to all."""
        return DDPStrategy(player, optimizer, precision, accumulation, self.bucket_mb)


class DDPStrategy(AdamStrategy):
    """A player inside DDP."""

    def __init__(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, bucket_mb: float
    ) -> None:
        _settle_strides(player)
        super().__init__(player, optimizer, precision, accumulation)
        # Buffers are constants or statistics that the task sets on all ranks alike: broadcasting them would be waste.
        self._ddp = DistributedDataParallel(
            player, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=True, forward_sync_buffers=False
        )
        self._ddp.register_comm_hook(None, _average)
        self._module = self._ddp
        # Micro-batches add up in the masters, where DDP does not look.
        self._averages_masters = self._masters is not None and accumulation > 1

    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """See Strategy."""
        # The flag that DDP.no_sync() sets; it must hold from this forward to the backward that follows.
        self._ddp.require_backward_grad_sync = last_micro and not self._averages_masters
        return super().loss(phase, batch, rivals, last_micro=last_micro)

    def _average_gradients(self) -> None:
        if self._averages_masters:
            average(self._gradients())


def _settle_strides(player: Player) -> None:
    """Give weights of one input channel the strides that their gradients have.

    Such a weight is contiguous and channels_last at once, with other strides in each; DDP wants those of the gradient.
    """
    for weight in player.parameters():
        if weight.ndim == 4 and weight.shape[1] == 1:
            weight.data = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device).copy_(weight.data)


def _average(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Do what DDP does without a hook, and take the time; bfloat16 is added up in float32."""
    gradients: Tensor = bucket.buffer()
    if gradients.dtype == torch.float32:
        return traffic.average_beside(gradients)
    return traffic.average_beside(gradients.float()).then(lambda future: gradients.copy_(future.value()))
