"""Networks compiled by `torch.compile`, for phases that differentiate no gradient.

What PyTorch compiles has no second derivative. So a phase in which a term is due that differentiates a gradient (R1
and its kin, the path length), or a game that looks ahead, runs the networks themselves, and the other phases their
compiled twins, on the same weights: with lazy regularisation those are 15 of 16 of D's steps.

PyTorch's compiler can also record CUDA graphs of what it compiled, and replay them instead of launching each kernel. No
GPU has run this yet.
"""

from typing import Any, Literal

import torch
from torch import nn

_METHODS = ("forward", "features", "head", "styles", "synthesize")


class CompiledNetwork:
    """A network whose methods are compiled at their first call; all else is the network's own.

    Args:
        network: in one piece on this rank; its weights stay where they are.
        mode: what `torch.compile` calls so; "reduce-overhead" records CUDA graphs on GPUs.
    """

    def __init__(self, network: nn.Module, mode: str | None = None) -> None:
        self._network = network
        methods = {name: getattr(network, name) for name in _METHODS if hasattr(network, name)}
        self._compiled: dict[str, Any] = {name: torch.compile(method, mode=mode) for name, method in methods.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self._compiled["forward"](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return a compiled method, or what the network has of this name."""
        return self._compiled[name] if name in self._compiled else getattr(self._network, name)


class Compiler:
    """Compiles networks, each once.

    Args:
        wanted: whether to compile, and whether to record CUDA graphs as well; if false, networks are returned as they
            are.
    """

    def __init__(self, wanted: bool | Literal["cuda_graphs"]) -> None:
        self._wanted = wanted
        self._made: dict[int, CompiledNetwork] = {}

    def __call__(self, networks: dict[str, Any], *, second_order: bool) -> dict[str, Any]:
        """Return the networks as a phase is to run them; `second_order` if it differentiates a gradient."""
        if not self._wanted or second_order:
            return networks
        for network in networks.values():
            if id(network) not in self._made:
                mode = "reduce-overhead" if self._wanted == "cuda_graphs" else None
                self._made[id(network)] = CompiledNetwork(network, mode)
        return {name: self._made[id(network)] for name, network in networks.items()}

    def begin_step(self) -> None:
        """Let CUDA graphs use the memory of the last step's results again."""
        if self._wanted == "cuda_graphs":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
