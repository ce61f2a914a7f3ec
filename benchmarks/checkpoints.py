"""How long a checkpoint holds up the training: `torchrun --nproc-per-node=2 benchmarks/checkpoints.py --mb 200`.

Also what its writing in a thread takes from other threads meanwhile: the longest pause of one that wakes every
millisecond, beside that of a second in which nothing is written; and the processor time of the whole process.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--saves", type=int, default=10)
    options = parser.parse_args()
    join_ranks()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(from_rank_zero(own))
        progress = Progress(10**6, 1000)
        checkpoints = Checkpoints(
            CheckpointConfig(interval_kimg=1), folder, {"progress": progress, "weights": Weights(options.mb)}
        )
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
