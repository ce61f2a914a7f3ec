"""Let batch statistics span the ranks, in networks that know of none."""

from torch import nn

from bigtrain.distributed.collectives import mean_over_ranks


def synchronise_statistics(network: nn.Module, world_size: int) -> None:
    """Hand `mean_over_ranks` to every layer that has an `over_ranks`, where there is more than one rank."""
    for module in network.modules():
        if hasattr(module, "over_ranks"):
            vars(module)["over_ranks"] = mean_over_ranks if world_size > 1 else None
