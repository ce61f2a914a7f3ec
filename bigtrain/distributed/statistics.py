"""Statistics over a batch: let them span the ranks, and tell whether there are any."""

from torch import nn

from bigtrain.distributed.collectives import mean_over_ranks


def synchronise_statistics(network: nn.Module, world_size: int) -> None:
    """Hand `mean_over_ranks` and their number to every layer that has an `over_ranks`; None for a single rank."""
    for module in network.modules():
        if hasattr(module, "over_ranks"):
            vars(module)["over_ranks"] = mean_over_ranks if world_size > 1 else None
            vars(module)["ranks"] = world_size


def moves_in_forward(network: nn.Module) -> bool:
    """Tell whether a training forward moves running statistics or singular vectors: it does so once a micro-batch."""
    return any(getattr(module, "moves_in_forward", False) for module in network.modules())
