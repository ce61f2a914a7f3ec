"""Score a snapshot on all ranks: `python -m bigtrain.evaluate SNAPSHOT --data DIR`, under torchrun or alone."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from bigtrain.core.errors import UserError
from bigtrain.core.logging import console, set_up_logging
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import join_ranks, leave_ranks, place_from_environment
from bigtrain.evaluation.evaluator import EvalConfig, Evaluator
from bigtrain.snapshot import SnapshotError, load_snapshot
from data_pipelines.errors import DataError
from data_pipelines.read import ShardDataset


def evaluate(snapshot_folder: Path, data: Path, config: EvalConfig, *, seed: int) -> dict[str, float]:
    """Score a snapshot against a dataset. Collective.

    Raises:
        SnapshotError, DataError, EvaluationError: missing, damaged, or not fitting each other.
    """
    snapshot, dataset = load_snapshot(snapshot_folder), ShardDataset(data)
    image, manifest = snapshot.generator.image, dataset.manifest
    if image.shape != manifest.shape:
        ours, theirs = ("x".join(map(str, shape)) for shape in (image.shape, manifest.shape))
        raise SnapshotError(f"{snapshot_folder} makes {ours} images, {data} has {theirs}")
    if image.classes not in (0, len(manifest.classes)):
        raise SnapshotError(f"{snapshot_folder} has {image.classes} classes, {data} has {len(manifest.classes)}")
    ranks = join_ranks()
    generator = snapshot.generator.to(ranks.device)
    weights = manifest.class_histogram if image.classes else [1]

    def generate(draws: Draws) -> tuple[Tensor, Tensor]:
        label = draws.of("label").categorical(weights)
        return generator(draws.of("z").normal(generator.z_dim), label), label

    return Evaluator(config, dataset, seed=seed, ranks=ranks).run(generate)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bigtrain.evaluate", description=__doc__)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--reference-samples", type=int)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rank = place_from_environment(os.environ)[0]
    set_up_logging(rank=rank)
    config = EvalConfig(
        interval_kimg=0, samples=options.samples, reference_samples=options.reference_samples, dtype=options.dtype
    )
    try:
        scores = evaluate(options.snapshot, options.data, config, seed=options.seed)
        if is_rank_zero():
            lines = [json.dumps(scores)] if options.json else [f"{name}  {value:.3f}" for name, value in scores.items()]
            console.print("\n".join(lines))
    except (UserError, DataError) as error:
        if rank == 0:
            print(f"bigtrain: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        leave_ranks()
    sys.exit(0)


if __name__ == "__main__":
    main()
