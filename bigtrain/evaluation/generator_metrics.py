"""Scores of a generator that need its latents, not its images alone; a new one is a line in the table below."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.lpips import LEAST_SIDE, LPIPS
from bigtrain.evaluation.metrics.base import Scores
from bigtrain.evaluation.metrics.lpips_diversity import pair_distances
from bigtrain.evaluation.metrics.path_length import Distance, path_lengths, trimmed_mean
from bigtrain.models.base import Generator

PerSample = Callable[[Generator, Distance, Draws, Tensor], Tensor]
GeneratorMetricName = Literal["ppl_zfull", "ppl_zend", "ppl_wfull", "ppl_wend", "lpips_diversity"]


def _mean(values: Tensor) -> float:
    return float(values.mean())


GENERATOR_METRICS: dict[GeneratorMetricName, tuple[PerSample, Callable[[Tensor], float]]] = {
    "ppl_zfull": (partial(path_lengths, space="z", along="full"), trimmed_mean),
    "ppl_zend": (partial(path_lengths, space="z", along="end"), trimmed_mean),
    "ppl_wfull": (partial(path_lengths, space="w", along="full"), trimmed_mean),
    "ppl_wend": (partial(path_lengths, space="w", along="end"), trimmed_mean),
    "lpips_diversity": (pair_distances, _mean),
}
"""Name -> what is computed of each sample, and what becomes of the values of all."""


@torch.inference_mode()
def score_generator(
    metrics: Sequence[GeneratorMetricName],
    generator: Generator,
    labels: Callable[[Draws], Tensor],
    distance: LPIPS,
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
    if min(generator.image.shape[1:]) < LEAST_SIDE or generator.image.channels not in (1, 3):
        raise EvaluationError(f"LPIPS needs grey or RGB images of {LEAST_SIDE} pixels a side, not {generator.image}")
    # The same batches on any number of ranks: a path's tiny step makes much of how a convolution rounds.
    mine = torch.arange(samples).split(batch)[ranks.rank :: ranks.world_size]  # type: ignore[no-untyped-call]
    scores: Scores = {}
    for name in metrics:
        per_sample, reduce = GENERATOR_METRICS[name]
        values = torch.zeros(samples, dtype=torch.float64)
        for index in mine:
            draws = Draws(seed, index.to(ranks.device), "eval")
            values[index] = per_sample(generator, distance, draws, labels(draws)).double().cpu()
        scores[name] = reduce(sum_over_ranks(values))
    return scores
