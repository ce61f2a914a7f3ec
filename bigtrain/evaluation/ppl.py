"""Score how images change with latents: `python -m bigtrain.evaluation.ppl SNAPSHOT`; see `bigtrain ppl`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from bigtrain.core.logging import console
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks
from bigtrain.evaluation.generator_metrics import GENERATOR_METRICS, GeneratorMetricName, score_generator
from bigtrain.evaluation.lpips import build_lpips
from bigtrain.evaluation.protocol import Protocol, Sampling, Score, as_json, seen_by, with_settings
from bigtrain.evaluation.table import score_table
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.tasks.samplers import CLASS


def score_paths(
    place: Path,
    metrics: Sequence[GeneratorMetricName],
    ranks: Ranks,
    *,
    weights: Path | None,
    samples: int,
    seed: int,
    batch: int,
) -> dict[str, Score]:
    """Score a snapshot; classes are drawn with the shares of its training data. Collective.

    Args:
        place: of the snapshot.
        metrics: which.
        ranks: who shares the work.
        weights: folder of LPIPS's; None for where `find_weights` looks.
        samples: paths, or pairs of images.
        seed: of the latents.
        batch: samples at once.

    Raises:
        EvaluationError, SnapshotError: weights or snapshot are missing or wrong, or do not offer what a metric needs.
    """
    distance = build_lpips(ranks.device, weights=weights)
    snapshot = load_snapshot(place)
    generator = snapshot.generator.to(ranks.device)

    def labels(draws: Draws) -> Tensor:
        return snapshot.sampler.draw_inputs(draws).get(CLASS, torch.zeros_like(draws.index))

    found = score_generator(metrics, generator, labels, distance, ranks, samples=samples, seed=seed, batch=batch)
    suffix = f"_{distance.short_name}" if distance.short_name else ""
    return {
        f"{name}{suffix}": Score(
            found[name],
            Protocol(
                metric=with_settings(name, GENERATOR_METRICS[name].settings),
                samples=samples,
                quantisation="none",
                reference="none",
                reference_samples=None,
                **seen_by(distance),
                **asdict(Sampling(ema=snapshot.average)),
            ),
            higher_is_better=GENERATOR_METRICS[name].better == "higher",
        )
        for name in metrics
    }


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bigtrain.evaluation.ppl", description=__doc__)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--metric", action="append", choices=list(GENERATOR_METRICS), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args(arguments))
    in_json, place, metrics = (options.pop(name) for name in ("json", "snapshot", "metric"))
    with as_one_of_the_ranks(answers_in_json=in_json) as ranks:
        scores = score_paths(place, metrics, ranks, **options)
        if is_rank_zero() and in_json:
            print(json.dumps({"scores": as_json(scores), "snapshot": str(place)}))
        elif is_rank_zero():
            console.print(score_table(scores, title=str(place)))
    sys.exit(0)


if __name__ == "__main__":
    main()
