"""PyTorch's fully sharded data parallel, FSDP2: each rank keeps its share of weights, gradients and Adam's moments."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from bigtrain.core.batch import Batch
from bigtrain.core.config import ConfigError
from bigtrain.core.saved import SavedTensor
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.traffic import traffic
from bigtrain.engine.optimizers import GroupSettings, OptimizerConfig
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.strategy import Capability
from bigtrain.strategies.base import NOT_COMPILED, Precision, StrategySettings, TorchStrategy
from bigtrain.strategies.flat import average
from bigtrain.strategies.gathering import in_messages
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.fsdp import FSDPPlan
from bigtrain.strategies.plans.work import Sizes
from bigtrain.strategies.rival import PlainCopy


class FSDPConfig(StrategySettings):
    """Shard weights, gradients and moments over the ranks with FSDP2.

    Attributes:
        shard_ranks: number of neighbouring ranks over which weights are sharded; they are replicated over groups of
            this size (HSDP). Use the ranks of a node, because small convolutions are sharded inefficiently over many
            ranks; null shards over all ranks.
    """

    kind: Literal["fsdp"] = "fsdp"
    shard_ranks: PositiveInt | None = None

    @property
    def lacks(self) -> dict[Capability, str]:
        """See StrategySettings."""
        return {"compile": NOT_COMPILED}

    def check_ranks(self, world_size: int) -> None:
        """Raise ConfigError unless the ranks divide into groups of `shard_ranks`."""
        if self.shard_ranks and world_size % self.shard_ranks:
            raise ConfigError(f"shard_ranks {self.shard_ranks} does not divide {world_size} ranks")

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> "FSDPStrategy":
        """Shard a player. Collective: rank 0's weights go to all."""
        return FSDPStrategy(player, optimizer, precision, accumulation, self._mesh(ranks))

    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """See StrategySettings."""
        return FSDPPlan(sizes, optimizer, ranks, precision, accumulation, shard_ranks=self.shard_ranks or ranks)

    def _mesh(self, ranks: Ranks) -> DeviceMesh:
        if self.shard_ranks in (None, ranks.world_size):
            return init_device_mesh(ranks.device.type, (ranks.world_size,), mesh_dim_names=("shard",))
        shape = (ranks.world_size // self.shard_ranks, self.shard_ranks)
        return init_device_mesh(ranks.device.type, shape, mesh_dim_names=("replicate", "shard"))


class FSDPStrategy(TorchStrategy):
    """A player whose weights are gathered for a phase and given back before the step.

    They stay gathered from the forward to the end of the last backward, because a gradient penalty differentiates
    twice through them. Scalars cannot be sharded; they are replicated and averaged by hand. In `pure_bf16` the shares
    are the float32 masters, what is gathered is bfloat16, and gradients are added up in float32.
    """

    whole = False

    def __init__(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, mesh: DeviceMesh
    ) -> None:
        self._mesh = mesh
        self._copy = PlainCopy(player)
        player.to(memory_format=torch.contiguous_format)  # what FSDP can shard
        scalars = {parameter for parameter in player.parameters() if parameter.ndim == 0}
        for part in (*stages_of(player), player):
            fully_shard(
                part, mesh=mesh, reshard_after_forward=False, ignored_params=scalars, mp_policy=_policy(precision)
            )
        self._sharded = [module for module in player.modules() if isinstance(module, FSDPModule)]
        for module in self._sharded:
            module.set_reshard_after_backward(False)
            module.set_custom_all_gather(_Gather())
            module.set_custom_reduce_scatter(_Scatter())
        self._scalars = [parameter for parameter in player.parameters() if not isinstance(parameter, DTensor)]
        super().__init__(player, optimizer, precision, accumulation)

    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """See Strategy."""
        root = self._sharded[0]
        root.set_requires_gradient_sync(last_micro)
        root.set_is_last_backward(last_micro)
        for module in self._sharded:  # those too that a growing network does not call yet
            module.unshard()
        return super().loss(phase, batch, rivals, last_micro=last_micro)

    def step(self, settings: GroupSettings) -> Stats:
        """See Strategy; stale gathered weights must not outlive the step."""
        for module in self._sharded:
            module.reshard()
        return super().step(settings)

    def infer(self) -> Rivals:
        """See Strategy: a plain frozen copy, which is given the weights of the moment. Collective."""
        return self._copy.with_weights(self._player, self._gather)

    def full_params(self) -> Iterator[tuple[str, Tensor]]:
        """See Strategy."""
        yield from self._gather(self._player.state_dict().items())

    def _average_gradients(self) -> None:
        average([parameter.grad for parameter in self._scalars if parameter.grad is not None])

    def _whole(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        with traffic.blocking(tensor.nbytes):
            return tensor.full_tensor()

    def _gather(self, named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Make weights whole, many of them by each message: a network has hundreds, most of them small."""
        group = self._mesh.get_group("shard")
        ranks = dist.get_world_size(group)
        sharded = []
        for name, tensor in named:
            if isinstance(tensor, DTensor):
                sharded.append(((name, tensor), _padded(tensor.shape, ranks)))
            else:
                yield name, tensor
        for together in in_messages(sharded):
            mine = torch.cat([_share(tensor, count // ranks) for (_, tensor), count in together])
            everyone = mine.new_empty(ranks * len(mine))
            with traffic.blocking(everyone.nbytes):
                dist.all_gather_single(everyone, mine, group=group)
            first, rows = 0, everyone.view(ranks, -1)
            for (name, tensor), count in together:
                share = rows[:, first : first + count // ranks]
                yield name, share.reshape(-1)[: tensor.numel()].view(tensor.shape)
                first += count // ranks

    def _mine(self, value: SavedTensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return super()._mine(value, like)
        rows, offsets = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
        first = offsets[0] * math.prod(like.shape[1:])
        share = torch.empty_like(like)
        assert isinstance(share, DTensor)
        share.to_local().copy_(value.of_shape(like.shape).read(first, first + math.prod(rows)).view(rows))
        return share

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        parts = [
            torch.nn.utils.get_total_norm(
                [gradient for gradient in gradients if isinstance(gradient, DTensor) is sharded]
            )
            for sharded in (True, False)
        ]
        return torch.nn.utils.get_total_norm([self._whole(part) for part in parts])


def _policy(precision: Precision) -> MixedPrecisionPolicy:
    if precision != "pure_bf16":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _padded(shape: Sequence[int], ranks: int) -> int:
    """Count the elements of a weight whose rows divide over the ranks."""
    return -(-shape[0] // ranks) * ranks * math.prod(shape[1:])


def _share(tensor: Tensor, count: int) -> Tensor:
    """Return a rank's rows of a weight, and zeros where it has fewer than others."""
    assert isinstance(tensor, DTensor)
    rows = tensor.to_local().detach().flatten()
    return nn.functional.pad(rows, (0, count - len(rows)))


class _Gather(DefaultAllGather):
    """FSDP2's own all-gather, timed."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        with traffic.blocking(output_tensor.nbytes):
            return super().__call__(output_tensor, input_tensor, *args, **kwargs)


class _Scatter(DefaultReduceScatter):
    """FSDP2's own reduce-scatter, timed."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        with traffic.blocking(input_tensor.nbytes):
            return super().__call__(output_tensor, input_tensor, *args, **kwargs)


def stages_of(player: Player) -> list[nn.Module]:
    """Return the parts that are gathered one by one; what lies outside of them is gathered at once."""
    networks: list[Any] = [network for network in player.networks().values() if hasattr(network, "stages")]
    return [stage for network in networks for stage in network.stages()]
