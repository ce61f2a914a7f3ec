"""Compute named metrics of one set of images against another."""

from collections.abc import Sequence
from dataclasses import dataclass

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics import METRICS, MetricName
from bigtrain.evaluation.metrics.base import Metric, Need
from bigtrain.evaluation.noise import Interval, interval
from bigtrain.evaluation.published import Published
from bigtrain.evaluation.reference import published_statistic, reference_statistics
from bigtrain.evaluation.statistics.some import SomeRows


@dataclass(frozen=True)
class Measured:
    """A value of a metric.

    Attributes:
        value: the number.
        metric: what it is a value of.
        noise: standard error; None where it is not known.
    """

    value: float
    metric: Metric
    noise: Interval | None


def measure(
    metrics: Sequence[MetricName],
    reference: Images | Published,
    generated: Images | Published,
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
        generated: what is scored, likewise.
        extractor: makes the features.
        ranks: who shares the work.
        batch: images at once.
        noise: whether to estimate the standard error of the scores that have one.
        stop: tells whether this process was asked to stop.

    Returns:
        Values by short names, such as `fid`.

    Raises:
        EvaluationError: there are too few images for a metric, or the extractor has no features for it.
        Interrupted: a rank was asked to stop.
    """
    check_metrics(metrics, reference, generated, extractor)
    chosen = {name: METRICS[name] for name in metrics}
    compared = [metric.need for metric in chosen.values() if metric.compares]
    real = reference_statistics(reference, compared, extractor, ranks, batch=batch, stop=stop)
    noise = noise and not isinstance(generated, Published)  # statistics tell of no single image
    noisy = [metric for metric in chosen.values() if noise and metric.influence is not None]
    some = {metric.need: Need(metric.need.layer, SomeRows) for metric in noisy}
    needs = [*(metric.need for metric in chosen.values()), *some.values()]
    fake = reference_statistics(generated, needs, extractor, ranks, batch=batch, stop=stop)
    found: dict[str, Measured] = {}
    for name, metric in chosen.items():
        ours, theirs = real.get(metric.need), fake[metric.need]
        values = metric.score(ours, theirs)
        found |= {key: Measured(value, metric, None) for key, value in values.items()}
        if metric in noisy and metric.influence is not None:
            rows = fake[some[metric.need]].tensors()["rows"]
            influences = [metric.influence(ours, theirs, rows)]
            around = interval(values[name], influences, theirs.count, more=metric.own_error(values))
            found[name] = Measured(values[name], metric, around)
    return found


def check_metrics(
    metrics: Sequence[MetricName],
    reference: Images | Published,
    generated: Images | Published | int,
    extractor: Extractor,
) -> None:
    """Find what would stop `measure`, before any work is done.

    Args:
        metrics: which.
        reference: images, or published statistics of some.
        generated: likewise; or how many images a generator is going to make.
        extractor: would make the features.

    Raises:
        EvaluationError: too few images for a metric, an extractor or published statistics without what it needs.
    """
    for key in metrics:
        metric = METRICS[key]
        if metric.need.layer not in extractor.layers:
            offered = ", ".join(extractor.layers)
            raise EvaluationError(f"{key} needs the layer '{metric.need.layer}', {extractor.name} offers {offered}")
        for side in (generated, reference) if metric.compares else (generated,):
            name, count = _name_and_count(side, metric.need, extractor)
            if count is not None and count < metric.least:
                raise EvaluationError(f"{key} needs {metric.least} images, {name} has {count}")


def _name_and_count(side: Images | Published | int, need: Need, extractor: Extractor) -> tuple[str, int | None]:
    """Return what a side is called, and its images; None where published statistics do not tell."""
    if isinstance(side, int):
        return "the generator", side
    if isinstance(side, Published):
        return str(side.path), published_statistic(side, need, extractor).count or None
    return side.name, len(side)
