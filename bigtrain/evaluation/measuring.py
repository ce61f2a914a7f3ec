"""Compute named metrics of one set of images against another."""

from collections.abc import Sequence
from dataclasses import dataclass

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import Stop, extract, never
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics import METRICS, MetricName
from bigtrain.evaluation.metrics.base import Metric, Need
from bigtrain.evaluation.noise import Interval, interval
from bigtrain.evaluation.published import Published
from bigtrain.evaluation.reference import published_statistic, reference_statistics
from bigtrain.evaluation.statistics.head import FirstRows


@dataclass(frozen=True)
class Measured:
    """A value of a metric.

    Attributes:
        value: the number.
        metric: what it is a value of.
        noise: how far chance moves it; None where that is not known.
    """

    value: float
    metric: Metric
    noise: Interval | None


def measure(
    metrics: Sequence[MetricName],
    reference: Images | Published,
    generated: Images,
    extractor: Extractor,
    ranks: Ranks,
    *,
    batch: int,
    noise: bool = True,
    stop: Stop = never,
) -> dict[str, Measured]:
    """Compute metrics from one pass over each set of images. Collective.

    Args:
        metrics: which.
        reference: images, or published statistics of some.
        generated: the images to score.
        extractor: makes the features.
        ranks: who shares the work.
        batch: images at once.
        noise: whether to tell how far chance moves those scores of which that is known.
        stop: tells whether this process was asked to stop.

    Returns:
        Values by short names, such as `fid`.

    Raises:
        EvaluationError: there are too few images for a metric, or the extractor has no features for it.
        Interrupted: a rank was asked to stop.
    """
    check_metrics(metrics, reference, len(generated), extractor, name=generated.name)
    chosen = {name: METRICS[name] for name in metrics}
    compared = [metric.need for metric in chosen.values() if metric.compares]
    real = reference_statistics(reference, compared, extractor, ranks, batch=batch, stop=stop)
    noisy = [metric for metric in chosen.values() if noise and metric.influence is not None]
    heads = {metric.need: Need(metric.need.layer, FirstRows) for metric in noisy}
    needs = [*(metric.need for metric in chosen.values()), *heads.values()]
    fake = extract(generated, needs, extractor, ranks, batch=batch, stop=stop)
    found: dict[str, Measured] = {}
    for name, metric in chosen.items():
        ours, theirs = real.get(metric.need), fake[metric.need]
        values = metric.score(ours, theirs)
        found |= {key: Measured(value, metric, None) for key, value in values.items()}
        if metric in noisy and metric.influence is not None:
            rows = fake[heads[metric.need]].tensors()["rows"]
            around = interval(values[name], [metric.influence(ours, theirs, rows)], len(generated))
            found[name] = Measured(values[name], metric, around)
    return found


def score(
    metrics: Sequence[MetricName],
    reference: Images | Published,
    generated: Images,
    extractor: Extractor,
    ranks: Ranks,
    *,
    batch: int,
) -> dict[str, float]:
    """Compute metrics as `measure` does, without their noise; return values by short names. Collective."""
    found = measure(metrics, reference, generated, extractor, ranks, batch=batch, noise=False)
    return {name: one.value for name, one in found.items()}


def check_metrics(
    metrics: Sequence[MetricName],
    reference: Images | Published,
    count: int,
    extractor: Extractor,
    *,
    name: str = "the generator",
) -> None:
    """Find what would stop `measure`, before any work is done.

    Args:
        metrics: which.
        reference: images, or published statistics of some.
        count: images to score.
        extractor: would make the features.
        name: of these images.

    Raises:
        EvaluationError: too few images for a metric, an extractor or published statistics without what it needs.
    """
    for key in metrics:
        metric = METRICS[key]
        if metric.need.layer not in extractor.layers:
            offered = ", ".join(extractor.layers)
            raise EvaluationError(f"{key} needs the layer '{metric.need.layer}', {extractor.name} offers {offered}")
        if count < metric.least:
            raise EvaluationError(f"{key} needs {metric.least} images, {name} has {count}")
        if metric.compares and isinstance(reference, Published):
            published_statistic(reference, metric.need, extractor)
        elif metric.compares and not isinstance(reference, Published) and len(reference) < metric.least:
            raise EvaluationError(f"{key} needs {metric.least} images, {reference.name} has {len(reference)}")
