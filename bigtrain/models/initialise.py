"""Building a network where it will live, with one copy of its weights in memory.

The network is built on the meta device, where tensors have shapes and no content; then its memory is allocated on the
device, and every module fills its own after its children's (`reset_parameters`). That is the order in which most
families draw as they are built: on a CPU they get the weights that building directly gives under the same seed.
The StyleGANs and the transformers, which draw in another order as they are built, get others.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch._guards import detect_fake_mode

from bigtrain.models.base import DataSpec
from bigtrain.ops.layout import layout_of

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_network(config: Any, *data: DataSpec | None, device: torch.device) -> Any:
    """Build a network on its device, its weights laid out as channels_last.

    Args:
        config: of the network; it has a method `build`.
        data: what the network makes, judges or is given.
        device: where it will live.

    Raises:
        ValueError: the config and the data do not fit.
    """
    return build_on_device(lambda: config.build(*data), device)


def build_on_device(build: Callable[[], NetworkT], device: torch.device) -> NetworkT:
    """Let `build` make a network on the meta device, and fill it on its own.

    Args:
        build: makes the network, for example `lambda: config.build(source, target)`.
        device: where it will live.
    """
    if detect_fake_mode() is not None:  # there is no memory to save, and fake tensors cannot be allocated anew
        with torch.device(device):
            return lay_out(build())
    with torch.device("meta"):
        network = build()
    network.to_empty(device=device)
    with torch.device(device):
        initialise(network)
    return lay_out(network)


@torch.no_grad()
def lay_out(network: NetworkT) -> NetworkT:
    """Lay out a network's weights as convolutions like them best; return the same network.

    It does what `Module.to(memory_format=…)` does, also under FakeTensorMode, where that fails. `contiguous` would
    leave a weight of one input channel, or of one pixel, as it is: both layouts fit its strides, and a convolution
    takes the layout that they name.
    """
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim in (4, 5):
                laid_out = parameter.detach().to(memory_format=layout_of(parameter))
                module._parameters[name] = nn.Parameter(laid_out, parameter.requires_grad)
        for name, value in module._buffers.items():
            if value is not None and value.ndim in (4, 5) and value.is_floating_point():
                module._buffers[name] = value.to(memory_format=layout_of(value))
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
