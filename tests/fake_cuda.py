"""GPUs that are not there: tensors that say that they are on one and have no content, with autograd.

PyTorch's autograd engine starts a thread for each GPU that it finds, and so refuses to differentiate tensors of one
that is not there. `fake_cuda` puts a small engine of its own in its place, which walks the same graph in Python.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from bigtrain.core import constants
from bigtrain.distributed.memory import tensors_in

GPU = torch.device("cuda", 0)


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make tensors without content, on GPUs too, and let them be differentiated."""
    with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(torch.autograd, "grad", _grad)
        patch.setattr(Tensor, "backward", _backward)
        # Autocast switches itself off, with a warning, where there is no GPU.
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        yield


def _grad(outputs: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> tuple[Tensor | None, ...]:
    create = bool(options.get("create_graph", False))
    outputs, inputs = (list(x) if isinstance(x, list | tuple) else [x] for x in (outputs, inputs))
    given = list(grad_outputs) if isinstance(grad_outputs, list | tuple) else [grad_outputs] * len(outputs)
    found = _walk(outputs, given, create, towards={_edge(tensor)[0] for tensor in inputs})
    return tuple(found.get(_edge(tensor)) for tensor in inputs)


def _backward(
    self: Tensor, gradient: Tensor | None = None, retain_graph: Any = None, create_graph: bool = False
) -> None:
    for (node, _), found in _walk([self], [gradient], create_graph).items():
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf.requires_grad:
            leaf.grad = found if leaf.grad is None else leaf.grad + found


def _edge(tensor: Tensor) -> tuple[Any, int]:
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    return torch.autograd.graph.get_gradient_edge(tensor).node, 0


def _walk(
    outputs: Sequence[Tensor], given: Sequence[Tensor | None], create: bool, towards: set[Any] | None = None
) -> dict[tuple[Any, int], Tensor]:
    """Return the gradients that arrive at every edge of a graph, or at those on the way to some nodes."""
    arrived: dict[tuple[Any, int], Tensor] = {}
    with torch.set_grad_enabled(create):
        for output, gradient in zip(outputs, given, strict=True):
            arrived[_edge(output)] = torch.ones_like(output) if gradient is None else gradient
        order = _in_order([_edge(output)[0] for output in outputs])
        if towards is not None:
            leads = set(towards)
            for node in reversed(order):
                if any(following in leads for following, _ in node.next_functions):
                    leads.add(node)
            order = [node for node in order if node in leads]
        for node in order:
            if hasattr(node, "variable"):  # a leaf
                continue
            mine = [arrived.get((node, number)) for number in range(len(node._input_metadata))]
            if any(gradient is not None for gradient in mine):
                for edge, result in _call(node, mine):
                    if result is not None and edge[0] is not None:
                        result = _as_expected(edge, result)
                        arrived[edge] = arrived[edge] + result if edge in arrived else result
    return arrived


def _as_expected(edge: tuple[Any, int], gradient: Tensor) -> Tensor:
    """Return a gradient in the shape and dtype of what it is of, as PyTorch's engine does."""
    node, number = edge
    meta = node._input_metadata[number]
    gradient = gradient.sum_to_size(tuple(meta.shape)) if gradient.shape != tuple(meta.shape) else gradient
    return gradient.to(meta.dtype) if gradient.dtype != meta.dtype else gradient


def _call(node: Any, gradients: list[Tensor | None]) -> list[tuple[tuple[Any, int], Tensor | None]]:
    """Return what a node makes of the gradients of its results, by the edges where that goes."""
    edges = [edge for edge in node.next_functions if edge[0] is not None]
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        results = node(*gradients)
        results = results if isinstance(results, tuple) else (results,)
        return list(zip(node.next_functions, results, strict=True))
    whole = [
        torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=meta.device) if gradient is None else gradient
        for gradient, meta in zip(gradients, node._input_metadata, strict=True)
    ]
    results = node.apply(*whole)
    results = results if isinstance(results, tuple) else (results,)
    needed = [result for result, needs in zip(results, node.needs_input_grad, strict=False) if needs]
    return list(zip(edges, needed, strict=True))


def _in_order(roots: Sequence[Any]) -> list[Any]:
    """Return all nodes, each before those that it hands gradients to."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following is not None]
    return order[::-1]


class Operators(TorchDispatchMode):
    """Notes every operator, and those whose result would not be on the GPU.

    Attributes:
        names: of the operators, in order; views are left out: they launch nothing.
        on_host: those that made or took a tensor of the host with more than one number, constants left out, which are
            made there once and kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.on_host: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        tensors = tensors_in((args, tuple((kwargs or {}).values()), result))
        if not operator.is_view and operator.overloadpacket is not torch.ops.aten.detach:
            self.names.append(str(operator.overloadpacket))
        if any(tensor.device.type == "cpu" and tensor.ndim for tensor in tensors) and not _makes_a_constant():
            self.on_host.append(str(operator))
        return result


def _makes_a_constant() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename == constants.__file__:
            return True
    return False
