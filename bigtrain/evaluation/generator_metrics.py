"""Scores of a generator that need its latents, not its images alone; a new one is a line in the table below."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.distances import LEAST_SIDE, FeatureDistance
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.metrics.base import Scores
from bigtrain.evaluation.metrics.lpips_diversity import pair_distances
from bigtrain.evaluation.metrics.path_length import PATH_SETTINGS, Distance, path_lengths, trimmed_mean
from bigtrain.models.base import Generator

PerSample = Callable[[Generator, Distance, Draws, Tensor], Tensor]
GeneratorMetricName = Literal["ppl_zfull", "ppl_zend", "ppl_wfull", "ppl_wend", "lpips_diversity"]


class GeneratorMetric(NamedTuple):
    """A score of a generator.

    Attributes:
        per_sample: what is computed of each sample.
        reduce: what becomes of the values of all.
        settings: what else the score depends on, in words; part of its protocol.
        better: which values are good.
    """

    per_sample: PerSample
    reduce: Callable[[Tensor], float]
    settings: str
    better: Literal["lower", "higher"] = "lower"


def _path_length(space: Literal["z", "w"], along: Literal["full", "end"]) -> GeneratorMetric:
    return GeneratorMetric(partial(path_lengths, space=space, along=along), trimmed_mean, PATH_SETTINGS)


def _mean(values: Tensor) -> float:
    return float(values.mean())


GENERATOR_METRICS: dict[GeneratorMetricName, GeneratorMetric] = {
    "ppl_zfull": _path_length("z", "full"),
    "ppl_zend": _path_length("z", "end"),
    "ppl_wfull": _path_length("w", "full"),
    "ppl_wend": _path_length("w", "end"),
    "lpips_diversity": GeneratorMetric(pair_distances, _mean, "pairs of one class", better="higher"),
}
"""Every metric of a generator by its name on the command line."""


@torch.inference_mode()
def score_generator(
    metrics: Sequence[GeneratorMetricName],
    generator: Generator,
    labels: Callable[[Draws], Tensor],
    distance: FeatureDistance,
    ranks: Ranks,
    *,
    samples: int,
    seed: int,
    batch: int,
) -> Scores:
    """Compute metrics of a generator; each sample is on exactly one rank, and the same on any number. Collective.

    Args:
        metrics: which.
        generator: in evaluation mode, on the ranks' device.
        labels: draws classes.
        distance: between images.
        ranks: who shares the work.
        samples: how many paths or pairs.
        seed: of latents and labels.
        batch: samples at once.

    Returns:
        Values by name.

    Raises:
        EvaluationError: the images are too small, or the generator lacks what a metric needs.
    """
    channels, *sides = generator.image.shape
    if len(sides) != 2 or min(sides) < LEAST_SIDE or channels not in (1, 3):
        raise EvaluationError(
            f"LPIPS needs grey or RGB images of {LEAST_SIDE} pixels or more a side, not {generator.image}"
        )
    # The same batches on any number of ranks: a path's tiny step makes much of how a convolution rounds.
    mine = torch.arange(samples).split(batch)[ranks.rank :: ranks.world_size]  # type: ignore[no-untyped-call]
    scores: Scores = {}
    for name in metrics:
        metric = GENERATOR_METRICS[name]
        values = torch.zeros(samples, dtype=torch.float64)
        for index in mine:
            draws = Draws(seed, index.to(ranks.device), "eval")
            values[index] = metric.per_sample(generator, distance, draws, labels(draws)).double().cpu()
        scores[name] = metric.reduce(sum_over_ranks(values))
    return scores
