"""Score a generator against the training data, on all ranks together."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveInt

from bigtrain.core.config import Config
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import extract
from bigtrain.evaluation.extractors import ExtractorName, build_extractor
from bigtrain.evaluation.extractors.base import Extractor, FeatureDtype, suffix_of
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.generated import Generate, GeneratedImages
from bigtrain.evaluation.images.shards import ShardImages
from bigtrain.evaluation.metrics import METRICS, MetricName
from bigtrain.evaluation.metrics.base import Metric, Scores
from bigtrain.evaluation.reference import reference_statistics
from data_pipelines.read import ShardDataset


class EvalConfig(Config):
    """Which scores, how often.

    Attributes:
        interval_kimg: thousands of training images between two evaluations; 0 for never.
        metrics: what to compute, all from one pass over the images.
        samples: generated images.
        reference_samples: real images that they are compared with; null for all.
        extractor: network that makes the features: `inception-v3-compat`, `efficientnet-lite0`, `vgg16`, `file:PATH` of
            your own; `auto` is the first of them where its weights are, else the second.
        weights: the extractor's file of weights, or its folder; null for $BIGTRAIN_WEIGHTS, then the cache.
        dtype: its precision; `bf16` moves scores by some percent and is named in the metric: for progress, not reports.
        batch: images a forward of the extractor.
    """

    interval_kimg: NonNegativeFloat
    metrics: tuple[MetricName, ...] = ("fid",)
    samples: PositiveInt = 50_000
    reference_samples: PositiveInt | None = None
    extractor: ExtractorName = "auto"
    weights: str | None = None
    dtype: FeatureDtype = "fp32"
    batch: PositiveInt = 32


class Evaluator:
    """Computes named metrics of generated images against the dataset.

    Args:
        config: which scores.
        dataset: the reference.
        seed: of the latents and labels; image i is the same on any number of ranks.
        ranks: who shares the work.
    """

    def __init__(self, config: EvalConfig, dataset: ShardDataset, *, seed: int, ranks: Ranks) -> None:
        self._config, self._seed, self._ranks = config, seed, ranks
        self._reference = ShardImages(dataset, config.reference_samples)
        self._extractor = build_extractor(
            config.extractor, config.dtype, ranks.device, weights=Path(config.weights) if config.weights else None
        )

    def run(self, generate: Generate) -> Scores:
        """Score a generator. Collective.

        Args:
            generate: makes the images.

        Returns:
            Values by their full names, such as `eval/fid5k_full_efflite0`.
        """
        config, ranks = self._config, self._ranks
        images = GeneratedImages(generate, config.samples, seed=self._seed, device=ranks.device)
        scores = score(config.metrics, self._reference, images, self._extractor, ranks, batch=config.batch)
        return {self._full_name(name): value for name, value in scores.items()}

    def _full_name(self, name: str) -> str:
        """Return a score's name with sample count, reference, extractor and precision."""
        full = "_full" if self._config.reference_samples is None else ""
        return f"eval/{name}{_short(self._config.samples)}{full}{suffix_of(self._extractor)}"


def score(
    metrics: Sequence[MetricName],
    reference: Images,
    generated: Images,
    extractor: Extractor,
    ranks: Ranks,
    *,
    batch: int,
) -> Scores:
    """Compute metrics from one pass over each set of images. Collective.

    Returns:
        Values by short names, such as `fid`.

    Raises:
        EvaluationError: there are too few images for a metric, or the extractor has no features for it.
    """
    chosen = {name: METRICS[name] for name in metrics}
    for name, metric in chosen.items():
        _check(name, metric, [generated, reference] if metric.compares else [generated], extractor)
    real = reference_statistics(
        reference, [metric.need for metric in chosen.values() if metric.compares], extractor, ranks, batch=batch
    )
    fake = extract(generated, [metric.need for metric in chosen.values()], extractor, ranks, batch=batch)
    scores: Scores = {}
    for metric in chosen.values():
        scores |= metric.score(real.get(metric.need), fake[metric.need])
    return scores


def _check(name: str, metric: Metric, sides: Sequence[Images], extractor: Extractor) -> None:
    for images in sides:
        if len(images) < metric.least:
            raise EvaluationError(f"{name} needs {metric.least} images, {images.name} has {len(images)}")
    if metric.need.layer not in extractor.layers:
        offered = ", ".join(extractor.layers)
        raise EvaluationError(f"{name} needs the layer '{metric.need.layer}', {extractor.name} offers {offered}")


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
