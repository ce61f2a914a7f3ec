"""Compute named metrics of one set of images against another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.class_names import match_classes
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.extractors.base import OWN_LOGITS, Extractor
from bigtrain.evaluation.extractors.values import POINTS
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.relabelled import Relabelled
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.noise import Interval, interval
from bigtrain.evaluation.published import Published
from bigtrain.evaluation.reference import published_statistic, reference_statistics
from bigtrain.evaluation.statistics import Statistic
from bigtrain.evaluation.statistics.some import SomeRows

_OTHER_LAYERS = {POINTS: "use the extractor 'values', for point clouds [N, 3]"}
"""Layer that few extractors offer -> how to have it."""


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
    metrics: Mapping[str, Metric],
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
        metrics: which, by name.
        reference: images, or published statistics of some.
        generated: what is scored, likewise.
        extractor: makes the features.
        ranks: who shares the work.
        batch: images at once.
        noise: whether to estimate the standard error of the scores that have one.
        stop: tells whether this process was asked to stop.

    Returns:
        Values by short names, such as `fid`, or `class_fid_cat_` of a class.

    Raises:
        EvaluationError: there are too few images for a metric, or the extractor has no features for it.
        Interrupted: a rank was asked to stop.
    """
    check_metrics(metrics, reference, generated, extractor)
    names: Sequence[str] = ()
    if any(metric.by_class for metric in metrics.values()):
        generated, names = _with_classes_of(reference, generated)
    compared = [metric.need for metric in metrics.values() if metric.compares]
    real = reference_statistics(reference, compared, extractor, ranks, batch=batch, stop=stop)
    noise = noise and not isinstance(generated, Published)  # statistics tell of no single image
    noisy = [metric for metric in metrics.values() if noise and metric.influence is not None]
    some = {metric.need: Need(metric.need.layer, SomeRows) for metric in noisy}
    needs = [*(metric.need for metric in metrics.values()), *some.values()]
    fake = reference_statistics(generated, needs, extractor, ranks, batch=batch, stop=stop)
    found: dict[str, Measured] = {}
    for name, metric in metrics.items():
        ours, theirs = real.get(metric.need), fake[metric.need]
        values = metric.score(ours, theirs)
        if metric.is_distance and ours is not None and _are_equal(ours, theirs):
            values = dict.fromkeys(values, 0.0)
        values = _named_by_class(values, names) if metric.by_class else values
        found |= {key: Measured(value, metric, None) for key, value in values.items()}
        if metric in noisy and metric.influence is not None:
            rows = fake[some[metric.need]].tensors()["rows"]
            influences, more = [metric.influence(ours, theirs, rows)], metric.own_error(values)
            around = interval(values[name], influences, theirs.count, lowest=metric.lowest, more=more)
            found[name] = Measured(values[name], metric, around)
    return found


def check_metrics(
    metrics: Mapping[str, Metric],
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
    for key, metric in metrics.items():
        if metric.need.layer not in extractor.layers:
            offered = ", ".join(extractor.layers) or "none"
            way_on = f"; {_OTHER_LAYERS[metric.need.layer]}" if metric.need.layer in _OTHER_LAYERS else ""
            raise EvaluationError(
                f"{key} needs the layer '{metric.need.layer}', {extractor.name} offers {offered}{way_on}"
            )
        for side in (generated, reference) if metric.compares else (generated,):
            name, count = _name_and_count(side, metric.need, extractor)
            if count is not None and count < metric.least:
                way_on = f"; {metric.with_fewer}" if metric.with_fewer else ""
                raise EvaluationError(f"{key} needs {metric.least} images, but {name} has {count}{way_on}")
            if count is not None and metric.most is not None and count > metric.most:
                raise EvaluationError(
                    f"{key} compares every two of at most {metric.most:,} samples of each side, {name} has {count:,}: "
                    "set eval.samples and eval.reference_samples, or --samples and --reference-samples"
                )


def check_classes(extractor: Extractor, metrics: Mapping[str, Metric], classes: Sequence[str]) -> None:
    """See that an extractor tells the data's own classes, where a metric needs that.

    Raises:
        EvaluationError: it tells others.
    """
    told: Sequence[str] = getattr(extractor, "classes", ())
    needed = [name for name, metric in metrics.items() if metric.need.layer == OWN_LOGITS]
    if needed and OWN_LOGITS in extractor.layers and tuple(told) != tuple(classes):
        ours, theirs = (", ".join(some[:4]) or "none" for some in (told, classes))
        raise EvaluationError(
            f"{needed[0]}: {extractor.name} was trained on the classes {ours}, but the data have {theirs}"
        )


def _name_and_count(side: Images | Published | int, need: Need, extractor: Extractor) -> tuple[str, int | None]:
    """Return what a side is called, and its images; None where published statistics do not tell."""
    if isinstance(side, int):
        return "the generator", side
    if isinstance(side, Published):
        return str(side.path), published_statistic(side, need, extractor).count or None
    return side.name, len(side)


def _with_classes_of(
    reference: Images | Published, generated: Images | Published
) -> tuple[Images | Published, Sequence[str]]:
    """Return the generated images with the reference's class indices, and the names of the classes.

    Raises:
        OtherClassesError: they have other classes.
    """
    if isinstance(reference, Published) or isinstance(generated, Published):
        return generated, ()
    order = match_classes(generated.classes, reference.classes, generated.name, reference.name)
    if order is None or order == list(range(len(order))):
        return generated, reference.classes or generated.classes
    return Relabelled(generated, order, reference.classes), reference.classes


def _named_by_class(values: Scores, names: Sequence[str]) -> Scores:
    """Return values `…_NUMBER_` as `…_NAME_`, where the classes have names that tell them apart."""
    if len(set(names)) != len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names)]
    named: Scores = {}
    for key, value in values.items():
        stem, _, number = key.rstrip("_").rpartition("_")
        known = key.endswith("_") and number.isdecimal() and int(number) < len(names)
        named[f"{stem}_{names[int(number)]}_" if known else key] = value
    return named


def _are_equal(one: Statistic, other: Statistic) -> bool:
    ours, theirs = one.tensors(), other.tensors()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
