"""PyTorch's DistributedDataParallel: gradients are averaged in buckets while the backward still runs."""

import warnings
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bigtrain.core.batch import Batch
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.traffic import traffic
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.strategies.base import Precision, StrategySettings, TorchStrategy
from bigtrain.strategies.flat import average
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.ddp import DDPPlan
from bigtrain.strategies.plans.work import Sizes


class DDPConfig(StrategySettings):
    """Average gradients over the ranks with DDP.

    Attributes:
        bucket_mb: size of a gradient bucket in MiB.
    """

    kind: Literal["ddp"] = "ddp"
    bucket_mb: PositiveFloat = 25.0

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> "DDPStrategy":
        """Wrap a player. Collective: rank 0's weights go to all."""
        return DDPStrategy(player, optimizer, precision, accumulation, self.bucket_mb)

    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """See StrategySettings."""
        return DDPPlan(sizes, optimizer, ranks, precision, accumulation, bucket_mb=self.bucket_mb)


class _SteadyDDP(DistributedDataParallel):
    """DDP whose buckets are the same from the first step of a process on.

    DDP arranges its buckets anew after the first backward of a process, in the order in which gradients came. From
    three ranks on, where a gradient lies in a message decides in which order the ranks' parts are added up, so that a
    resumed run would differ in the last bits. This one arranges them before the first step, from the last weight to
    the first, which is about the order in which gradients come.
    """

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__(module, **options)
        self.reducer._push_all_rebuilt_params()
        self.reducer._rebuild_buckets()

    def _build_params_for_reducer(self) -> tuple[list[nn.Parameter], list[bool]]:
        parameters, is_sparse = super()._build_params_for_reducer()  # type: ignore[no-untyped-call]
        return parameters[::-1], is_sparse[::-1]


class DDPStrategy(TorchStrategy):
    """A player inside DDP."""

    def __init__(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, bucket_mb: float
    ) -> None:
        # Weights of one input channel have several strides for one layout; where they differ, DDP copies.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        super().__init__(player, optimizer, precision, accumulation)
        # Buffers are constants or statistics that the task sets on all ranks alike: broadcasting them would be waste.
        self._ddp = _SteadyDDP(
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

    def backward(self, loss: Tensor) -> None:
        """See Strategy; it ends when all buckets are averaged."""
        super().backward(loss)
        traffic.waited()

    def _average_gradients(self) -> None:
        if self._averages_masters:
            average(self._gradients())


def _average(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Do what DDP does without a hook, and take the time; bfloat16 is added up in float32."""
    gradients: Tensor = bucket.buffer()
    if gradients.dtype == torch.float32:
        return traffic.average_beside(gradients)
    return traffic.average_beside(gradients.float()).then(lambda future: gradients.copy_(future.value()))
