"""Statistics over a batch: let them span the ranks, and tell whether there are any."""

from functools import partial
from typing import cast

import torch.distributed as dist
from torch import nn

from bigtrain.distributed.collectives import mean_over_ranks
from bigtrain.distributed.init import Ranks


def statistics_group(ranks: Ranks) -> dist.ProcessGroup | None:
    """Return the group by which batch statistics are averaged; None for the default one. Collective.

    On GPUs it has a communicator of its own: in the one that DDP averages gradients with, a few numbers that the
    network waits for would queue behind buckets of many MiB.

    Args:
        ranks: who computes together.
    """
    if ranks.device.type != "cuda" or ranks.world_size == 1:
        return None
    group = dist.new_group(backend="nccl")
    return cast(dist.ProcessGroup, group)  # every rank belongs to it


def synchronise_statistics(network: nn.Module, world_size: int, group: dist.ProcessGroup | None = None) -> None:
    """Let every layer that has an `over_ranks` compute its statistics over all ranks; over none where there is one.

    Args:
        network: its layers.
        world_size: number of ranks.
        group: of all ranks, see `statistics_group`; None for the default one.
    """
    over_ranks = partial(mean_over_ranks, group=group) if world_size > 1 else None
    for module in network.modules():
        if hasattr(module, "over_ranks"):
            vars(module)["over_ranks"] = over_ranks
            vars(module)["ranks"] = world_size


def changes_in_forward(network: nn.Module) -> bool:
    """Tell whether a training forward moves running statistics or singular vectors: it does so once a micro-batch."""
    return any(getattr(module, "changes_in_forward", False) for module in network.modules())
