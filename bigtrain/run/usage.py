"""What training uses: time, floating-point operations and memory."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import max_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.engine.player import Phase
from bigtrain.models.layers.growth import Growth

_GIB = 2.0**30
_aten = torch.ops.aten
_SAME_AS = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _aten._scaled_dot_product_flash_attention_backward,
}
"""Operators that torch has no formula for, and what they compute."""


class Speed:
    """How fast a run trains, without what is left out: evaluations.

    Args:
        progress: of the run; the time begins now.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._since, self._images = time.perf_counter(), progress.samples_seen

    def leave_out(self, seconds: float) -> None:
        """Leave out time that has passed."""
        self._since += seconds

    def read(self) -> dict[str, float]:
        """Return the speed since the last reading, and start afresh."""
        now, seen = time.perf_counter(), self._progress.samples_seen
        seconds, images = now - self._since, seen - self._images
        self._since, self._images = now, seen
        return {"time/img_per_s": images / seconds, "time/sec_per_kimg": 1000 * seconds / images}


class Usage:
    """Counts what a rank computes, and looks at its memory.

    Each kind of phase (its name and the terms that are due) is counted once, as one of its micro-batches is computed,
    and once more when its networks have grown. Matrix products, attention and convolutions count,
    two operations a multiply-add, forward and backward; what is computed element by element does not.

    Args:
        players: whose phases are counted, by name.
        ranks: who computes the same at the same time.
    """

    def __init__(self, players: Mapping[str, nn.Module], ranks: Ranks) -> None:
        self._ranks = ranks
        self._growths = [part for player in players.values() for part in player.modules() if isinstance(part, Growth)]
        self._known: dict[tuple[object, ...], int] = {}
        self._flops = self._micro_batches = 0

    @contextmanager
    def counting(self, phase: Phase, *, last: bool) -> Iterator[None]:
        """Count the micro-batch that is computed inside.

        Only a phase's last one is watched: watched gradients may lie otherwise in memory than DDP expects, except where
        they are added to those of other micro-batches.
        """
        self._micro_batches += 1
        if not last:
            yield
            return
        kind = (phase.name, *sorted(phase.values), *(growth.complete for growth in self._growths))
        if kind in self._known:
            yield
        else:
            with warnings.catch_warnings(), Counter() as counter:  # type: ignore[no-untyped-call]
                warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # DDP copies them
                yield
            self._known[kind] = counter.flops
        self._flops += self._micro_batches * self._known[kind]
        self._micro_batches = 0

    def of_step(self, progress: Progress) -> dict[str, float]:
        """Return what the step just taken computed, for each image of it, and start afresh."""
        flops, self._flops = self._flops, 0
        return {"compute/gflop_per_img": flops * self._ranks.world_size / progress.batch / 1e9}

    def of_interval(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the speed of all ranks together, and the memory of the one that needs most. Collective.

        Args:
            metrics: means since the last reading.
        """
        speed = metrics.get("compute/gflop_per_img", 0.0) * metrics["time/img_per_s"] / 1000
        memory = {"memory/host_gib_max": psutil.Process().memory_info().rss / _GIB}
        if self._ranks.device.type == "cuda":
            memory["memory/gpu_peak_gib_max"] = torch.cuda.max_memory_allocated() / _GIB
            torch.cuda.reset_peak_memory_stats()
        return {"compute/tflop_per_s": speed, **max_over_ranks(memory)}


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by the formulas of torch's `FlopCounterMode`, whose module hooks `autograd.grad` does not bear."""

    flops = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.flops += operations(operator, args, kwargs or {}, result)
        return result


def operations(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Return the floating-point operations of a call, by torch's formulas; 0 where it has none.

    Torch's counts a grouped convolution's gradient by the weight as if there were no groups: that one is our own.
    """
    packet = _SAME_AS.get(operator.overloadpacket, operator.overloadpacket)
    if packet is _aten.convolution_backward and args[9] > 1:
        grad, image, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
        places = (image if transposed else grad).shape[2:].numel()
        return int(2 * len(image) * places * weight.numel() * (wanted[0] + wanted[1]))
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=result)) if formula else 0
