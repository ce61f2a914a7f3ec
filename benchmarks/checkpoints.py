"""How long a checkpoint holds up the training: `torchrun --nproc-per-node=2 -m benchmarks.checkpoints --mb 200`.

Also what its writing in a thread takes from other threads meanwhile: the longest pause of one that wakes every
millisecond, beside that of a second in which nothing is written; and the processor time of the whole process.

With `--steps 8`, real training steps (the networks of biggan-fashion32) are timed instead: in turn, blocks of so many
steps before each of which a checkpoint is saved, whose writing goes on beside the step, and blocks without.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.distributed as dist

from bigtrain.checkpoint import CheckpointConfig, Checkpoints
from bigtrain.core.state import Progress, State
from bigtrain.distributed.collectives import from_rank_zero, is_rank_zero
from bigtrain.distributed.init import join_ranks, leave_ranks


class Weights:
    """As many tensors as a StyleGAN2 has, with Adam's moments."""

    def __init__(self, megabytes: int) -> None:
        self.tensors = {f"{number}": torch.randn(megabytes * 250_000 // 300) for number in range(300)}

    def state_dict(self) -> State:
        return dict(self.tensors)

    def load_state_dict(self, state: State) -> None:
        self.tensors = dict(state)


@contextmanager
def pauses() -> Iterator[list[float]]:
    """Yield a list that gets the pauses of a thread that wakes every millisecond, in seconds beyond that."""
    found: list[float] = []
    over = threading.Event()

    def wake() -> None:
        while not over.is_set():
            began = time.perf_counter()
            time.sleep(0.001)
            found.append(time.perf_counter() - began - 0.001)

    thread = threading.Thread(target=wake)
    thread.start()
    yield found
    over.set()
    thread.join()


class Steps:
    """Blocks of training steps, with and without a checkpoint being written beside them.

    Args:
        checkpoints: writes the state.
        progress: of the state.
        steps: in a block.
    """

    def __init__(self, checkpoints: Checkpoints, progress: Progress, steps: int) -> None:
        from tests.distributed.planned import Steps as TrainingSteps

        ranks = dist.get_world_size()
        sizes = [f"global_batch={16 * ranks}", "micro_batch=16", "generator.width=16", "discriminator.width=16"]
        self._training = TrainingSteps([*sizes, "precision=fp32"])
        self._checkpoints, self._progress, self._steps = checkpoints, progress, steps
        for _ in range(3):  # the first steps allocate
            self._training.take()

    def block(self, *, writing: bool) -> float:
        """Take the steps of a block; return the median time of one."""
        times = []
        for _ in range(self._steps):
            if writing:
                self._checkpoints.wait()
                self._progress.advance()
                self._checkpoints.save(self._progress)
            began = time.perf_counter()
            self._training.take()
            times.append(time.perf_counter() - began)
        self._checkpoints.wait()
        return median(times)

    def compare(self, blocks: int) -> None:
        """Take blocks in turn, and print how many times as long steps take beside the writing."""
        ratios = []
        for number in range(blocks):
            order = (True, False) if number % 2 else (False, True)  # so that a trend of the machine favours neither
            found = {writing: self.block(writing=writing) for writing in order}
            ratios.append(found[True] / found[False])
        quartiles = quantiles(ratios, n=4)
        if is_rank_zero():
            print(f"a step beside the writing takes {median(ratios):.3f} times as long", end=" ")
            print(
                f"(quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}, {blocks} pairs of blocks of {self._steps} steps)"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--steps", type=int, help="of a block; times training steps, not the saves")
    parser.add_argument("--blocks", type=int, default=12)
    options = parser.parse_args()
    join_ranks()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(from_rank_zero(own))
        progress = Progress(10**6, 1000)
        checkpoints = Checkpoints(
            CheckpointConfig(interval_kimg=1), folder, {"progress": progress, "weights": Weights(options.mb)}
        )
        if options.steps:
            Steps(checkpoints, progress, options.steps).compare(options.blocks)
            leave_ranks()
            return
        blocked, written, longest, cpu = [], [], [], []
        for _ in range(options.saves):
            progress.advance()
            began = time.perf_counter()
            checkpoints.save(progress)
            blocked.append(checkpoints.blocked_s)
            used = time.process_time()
            with pauses() as found:
                checkpoints.wait()
            written.append(time.perf_counter() - began)
            longest.append(max(found))
            cpu.append(time.process_time() - used)
        with pauses() as found:
            time.sleep(1)
        if is_rank_zero():
            print(f"{options.mb} MB: blocked {1000 * blocked[0]:.0f} ms the first time, then", end=" ")
            print(
                f"{1000 * median(blocked[1:]):.0f} ms ({1000 * min(blocked[1:]):.0f} to {1000 * max(blocked[1:]):.0f})"
            )
            print(f"on disk after {median(written):.2f} s ({min(written):.2f} to {max(written):.2f})")
            print(f"longest pause of another thread {1000 * median(longest):.0f} ms", end=" ")
            print(
                f"({1000 * min(longest):.0f} to {1000 * max(longest):.0f}), {1000 * max(found):.0f} ms without",
                end=", ",
            )
            print(f"processor {median(cpu):.2f} s ({min(cpu):.2f} to {max(cpu):.2f})")
    leave_ranks()


if __name__ == "__main__":
    main()
