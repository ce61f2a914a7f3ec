"""Building a network where it will live, with one copy of its weights in memory.

The network is built on the meta device, where tensors have shapes and no content; then its memory is allocated on the
device, and every module fills its own after its children's (`reset_parameters`). That is the order in which most
families draw as they are built: on a CPU they get the weights that building directly gives under the same seed.
The StyleGANs and the transformers, which draw in another order as they are built, get others.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import nn

from bigtrain.models.base import ImageSpec

NetworkT = TypeVar("NetworkT", bound=nn.Module, covariant=True)


class Buildable(Protocol[NetworkT]):
    """A network's config."""

    def build(self, image: ImageSpec) -> NetworkT:
        """Build the network for `image`."""


def build_network(config: Buildable[NetworkT], image: ImageSpec, device: torch.device) -> NetworkT:
    """Build a network on its device.

    Args:
        config: of the network.
        image: what it makes or judges.
        device: where it will live.

    Raises:
        ValueError: the config and the image do not fit.
    """
    return build_on_device(lambda: config.build(image), device)


def build_on_device(build: Callable[[], NetworkT], device: torch.device) -> NetworkT:
    """Let `build` make a network on the meta device, and fill it on its own.

    Args:
        build: makes the network, for example `lambda: config.build(source, target)`.
        device: where it will live.
    """
    with torch.device("meta"):
        network = build()
    network.to_empty(device=device)
    with torch.device(device):
        initialise(network)
    return network


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Fill all parameters and buffers in place, module by module."""
    for child in network.children():
        initialise(child)
    if [*network.parameters(recurse=False), *network.buffers(recurse=False)]:
        reset = getattr(network, "reset_parameters", None)
        assert callable(reset), f"{type(network).__name__} has weights and cannot fill them"
        reset()
