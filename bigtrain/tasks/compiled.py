"""Networks compiled by `torch.compile`, for phases that differentiate no gradient.

What PyTorch compiles has no second derivative. So a phase in which a term is due that differentiates a gradient (R1
and its kin, the path length), or a game that looks ahead, runs the networks themselves, and the other phases their
compiled twins, on the same weights: with lazy regularisation those are 15 of 16 of D's steps.
"""

from typing import Any

import torch
from torch import nn

_METHODS = ("forward", "features", "head", "styles", "synthesize")


class CompiledNetwork:
    """A network whose methods are compiled at their first call; all else is the network's own.

    Args:
        network: in one piece on this rank; its weights stay where they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        methods = {name: getattr(network, name) for name in _METHODS if hasattr(network, name)}
        self._compiled: dict[str, Any] = {name: torch.compile(method) for name, method in methods.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self._compiled["forward"](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return a compiled method, or what the network has of this name."""
        return self._compiled[name] if name in self._compiled else getattr(self._network, name)


class Compiler:
    """Compiles networks, each once.

    Args:
        active: whether to; if not, networks are returned as they are.
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._made: dict[int, CompiledNetwork] = {}

    def __call__(self, networks: dict[str, Any], *, second_order: bool) -> dict[str, Any]:
        """Return the networks as a phase is to run them; `second_order` if it differentiates a gradient."""
        if not self._active or second_order:
            return networks
        for network in networks.values():
            if id(network) not in self._made:
                self._made[id(network)] = CompiledNetwork(network)
        return {name: self._made[id(network)] for name, network in networks.items()}
