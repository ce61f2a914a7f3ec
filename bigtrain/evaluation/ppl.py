"""Score how images change with latents: `python -m bigtrain.evaluation.ppl snapshot=FOLDER`; see `bigtrain ppl`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.logging import console, counted
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.evaluation.distances import build_distance
from bigtrain.evaluation.generator_metrics import GENERATOR_METRICS, GeneratorMetricName, score_generator
from bigtrain.evaluation.protocol import Sampling, Score, ScoreProtocol, as_json, seen_by, with_settings
from bigtrain.evaluation.table import score_table
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.tasks.samplers import CLASS


class PathSettings(Config):
    """What `bigtrain ppl` computes.

    Attributes:
        snapshot: its folder.
        metrics: which.
        weights: folder of LPIPS's weights; null for where `find_weights` looks.
        samples: paths, or pairs of images.
        seed: of the latents.
        batch: samples at once.
        as_json: print one JSON line instead of a table.
    """

    snapshot: Path
    metrics: tuple[GeneratorMetricName, ...] = ("ppl_zfull",)
    weights: Path | None = None
    samples: int = Field(50_000, ge=2)
    seed: NonNegativeInt = 0
    batch: PositiveInt = 16
    as_json: bool = False


def score_paths(settings: PathSettings, ranks: Ranks) -> dict[str, Score]:
    """Score a snapshot, with classes as its sampler draws them. Collective.

    Args:
        settings: which snapshot, which metrics.
        ranks: who shares the work.

    Raises:
        EvaluationError, SnapshotError: weights or snapshot are missing or wrong, or do not offer what a metric needs.
    """
    distance = build_distance("lpips", ranks.device, weights=settings.weights)
    snapshot = load_snapshot(settings.snapshot)
    generator = snapshot.generator.to(ranks.device)

    with counted("measuring", settings.samples * len(settings.metrics), visible=is_rank_zero()) as advance:

        def labels(draws: Draws) -> Tensor:
            advance(len(draws) * ranks.world_size)
            return snapshot.sampler.draw_inputs(draws).get(CLASS, torch.zeros_like(draws.index))

        found = score_generator(
            settings.metrics,
            generator,
            labels,
            distance,
            ranks,
            samples=settings.samples,
            seed=settings.seed,
            batch=settings.batch,
        )
    suffix = f"_{distance.short_name}" if distance.short_name else ""
    return {
        f"{name}{suffix}": Score(
            found[name],
            ScoreProtocol(
                metric=with_settings(name, GENERATOR_METRICS[name].settings),
                samples=settings.samples,
                quantisation="none",
                reference="none",
                reference_samples=None,
                **seen_by(distance),
                **asdict(Sampling(ema=snapshot.average, prior=snapshot.sampler.prior)),
            ),
            higher_is_better=GENERATOR_METRICS[name].better == "higher",
        )
        for name in settings.metrics
    }


def main(settings: PathSettings | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(PathSettings, "bigtrain.evaluation.ppl")
    with as_one_of_the_ranks(answers_in_json=settings.as_json) as ranks:
        scores = score_paths(settings, ranks)
        if is_rank_zero() and settings.as_json:
            print(json.dumps({"scores": as_json(scores), "snapshot": str(settings.snapshot)}))
        elif is_rank_zero():
            console.print(score_table(scores, title=str(settings.snapshot)))
    sys.exit(0)


if __name__ == "__main__":
    main()
