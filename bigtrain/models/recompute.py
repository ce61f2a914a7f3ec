"""Activation checkpointing (Chen et al. 2016): a stage keeps its input alone, and is computed again in the backward.

Some layers move a state as they compute: the vectors of spectral normalisation, running statistics. The second
computation must start from the state that the first one found, or it would be another function; and it must leave no
trace, or the state would move twice. All random numbers are functions of their position, and need no care.
"""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def stages_of(network: nn.Module) -> list[nn.Module]:
    """Return the stages of a network in order; none where it tells of none."""
    stages = getattr(network, "stages", None)
    return list(stages()) if callable(stages) else []


def recompute_stages(network: nn.Module) -> None:
    """Let the stages of a network be computed again in the backward pass; names and copies of it stay as they are."""
    for stage in stages_of(network):
        stage.__class__ = _recomputed(type(stage))


def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the class of a stage that keeps its input alone: a class, so that copies of the stage are their own."""
    return type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})


class _Recomputed(nn.Module):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        compute = super().forward
        if not torch.is_grad_enabled():
            return compute(*arguments, **options)
        again: AbstractContextManager[Any] = _AsFound(self) if self.training else nullcontext()
        return checkpoint(
            compute,
            *arguments,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again),
            **options,
        )


class _AsFound(AbstractContextManager[None]):
    """Gives a stage the buffers that it had when this was made, for as long as it lasts."""

    def __init__(self, stage: nn.Module) -> None:
        self._places = [
            (module, name, value.clone())
            for module in stage.modules()
            for name, value in module.named_buffers(recurse=False)
        ]
        self._now: list[Tensor] = []

    def __enter__(self) -> None:
        self._now = [module.get_buffer(name) for module, name, _ in self._places]
        for module, name, found in self._places:
            module._buffers[name] = found.clone()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (module, name, _), now in zip(self._places, self._now, strict=True):
            module._buffers[name] = now
