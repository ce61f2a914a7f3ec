"""A rank that writes down of which images and random numbers each step is made: `python -m tests.faults.witness ...`.

Each line of `witness-RANK.jsonl` is a step: where the run is after it, and the checksums.
"""

import json
import os
import zlib

from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws
from bigtrain.engine.feed import Feed
from bigtrain.engine.step import StepResult
from bigtrain.train import main as train
from bigtrain.trainer import Trainer
from tests.float64 import float64


def main() -> None:
    take_step, bits, take = Trainer.take_step, Draws.bits, Feed.__next__
    seen: list[tuple[str, int, int]] = []

    def note(what: str, positions: Tensor, rows: Tensor) -> None:
        sums = [zlib.crc32(row.contiguous().numpy().tobytes()) for row in rows]
        seen.extend(zip([what] * len(sums), positions.tolist(), sums, strict=True))

    def watched_bits(draws: Draws, count: int) -> Tensor:
        drawn = bits(draws, count)
        note(draws.stream, draws.index, drawn)
        return drawn

    def watched_batch(feed: Feed) -> Batch:
        batch = take(feed)
        note("real", batch.draws.index, batch["image"])
        return batch

    def watched_step(trainer: Trainer) -> StepResult:
        seen.clear()
        result = take_step(trainer)
        with (trainer.config.folder / f"witness-{os.environ['RANK']}.jsonl").open("a") as file:
            file.write(json.dumps([trainer.progress.samples_seen, seen]) + "\n")
        return result

    Draws.bits = watched_bits  # type: ignore[method-assign]
    Feed.__next__ = watched_batch  # type: ignore[method-assign]
    Trainer.take_step = watched_step  # type: ignore[method-assign]
    with float64():
        train()


if __name__ == "__main__":
    main()
