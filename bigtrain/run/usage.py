"""Speed, floating-point operations and memory of the training."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil
import torch

from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import max_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.engine.player import Phase

_GIB = 2.0**30


class Speed:
    """How fast a run trains, without what is left out: evaluations; and how long the rest takes, with them.

    Args:
        progress: of the run; the time begins now.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._since, self._images = time.perf_counter(), progress.samples_seen
        self._began, self._first = self._since, self._images

    def leave_out(self, seconds: float) -> None:
        """Leave out time that has passed."""
        self._since += seconds

    def read(self) -> dict[str, float]:
        """Return the speed since the last reading, and start it afresh; and the time left, at the pace since the start.

        The pace counts all that happens beside the steps: evaluations, checkpoints, previews.
        """
        now, seen = time.perf_counter(), self._progress.samples_seen
        seconds, images = now - self._since, seen - self._images
        self._since, self._images = now, seen
        pace = (now - self._began) / (seen - self._first)
        return {
            "time/img_per_s": images / seconds,
            "time/sec_per_kimg": 1000 * seconds / images,
            "time/left_s": pace * max(self._progress.total - seen, 0),
        }


class Cost(NamedTuple):
    """What one micro-batch of a phase takes.

    Attributes:
        flops: floating-point operations, forward and backward: those of matrix products, attention and convolutions,
            two a multiply-add; what is computed element by element does not count.
        activations: bytes that it holds at most besides weights and finished gradients.
    """

    flops: int
    activations: int


class Usage:
    """Counts the floating-point operations of the ranks, and reads their memory.

    The steps themselves are not watched, so that no bit of them depends on what is measured.

    Args:
        cost: of a phase at a place of the run; asked on rank 0.
        ranks: who computes the same at the same time.
        micro_batches: of a phase, on each rank.

    Attributes:
        activations: bytes that each phase met so far holds at most, by name; on rank 0.
    """

    def __init__(self, cost: Callable[[Phase, Progress], Cost], ranks: Ranks, micro_batches: int) -> None:
        self._cost, self._ranks, self._micro_batches = cost, ranks, micro_batches
        self._taken: list[tuple[Phase, int]] = []
        self.activations: dict[str, int] = {}

    def take(self, phase: Phase, progress: Progress) -> None:
        """Take note of a phase of the step that begins at `progress`; it is counted when the step is over."""
        if self._ranks.rank == 0:
            self._taken.append((phase, progress.samples_seen))

    def of_step(self, progress: Progress) -> dict[str, float]:
        """Return what the step just taken computed, for each image of it, and start afresh.

        Rank 0 tells it for all: its mean over ranks is what all of them computed.
        """
        flops, place = 0, Progress(progress.total, progress.batch)
        for phase, place.samples_seen in self._taken:
            cost = self._cost(phase, place)
            flops += self._micro_batches * self._ranks.world_size * cost.flops
            self.activations[phase.name] = max(cost.activations, self.activations.get(phase.name, 0))
        self._taken.clear()
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
        return {"compute/tflop_per_s": speed, **max_over_ranks(memory)}
