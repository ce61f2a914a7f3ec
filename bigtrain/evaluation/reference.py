"""Statistics of the images that others are compared with, from the cache where it has them."""

from collections.abc import Iterable

from bigtrain.core.logging import console, log
from bigtrain.distributed.collectives import any_rank, from_all_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.cache import Ingredients, keep, look_up
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import Statistics, Stop, extract, never
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics.base import Need
from bigtrain.evaluation.published import Published
from bigtrain.evaluation.statistics import Statistic
from bigtrain.evaluation.statistics.features import FeatureRows, Features
from bigtrain.evaluation.statistics.moments import MomentSums

_ORDERS = {"spatial": "spatial by row, column, channel"}
"""What a layer is called in the cache, where the order of its features was another one in earlier versions."""


def reference_statistics(
    images: Images | Published,
    needs: Iterable[Need],
    extractor: Extractor,
    ranks: Ranks,
    *,
    batch: int,
    stop: Stop = never,
) -> Statistics:
    """Return what is needed of a reference; what the cache lacks is made in one pass and kept. Collective.

    Where damaged images are met on the way nothing is kept, for the key stands for the whole ones; from then on their
    digest is another, and so is the key.

    Raises:
        EvaluationError: published statistics are not what is needed.
        Interrupted: a rank was asked to stop.
    """
    if isinstance(images, Published):
        return {need: published_statistic(images, need, extractor) for need in needs}
    before = images.digest
    if before is None:
        return extract(images, needs, extractor, ranks, batch=batch, stop=stop)
    digests = sorted(set(from_all_ranks(before)))
    digest = "+".join(digests)
    keys: dict[Need, Ingredients] = {
        need: {
            "data": digest,
            "samples": len(images),
            "weights": extractor.weights_sha256,
            "preprocessing": extractor.preprocessing,
            "dtype": extractor.dtype,
            "layer": _ORDERS.get(need.layer, need.layer),
            "statistic": need.collector.name,
        }
        for need in needs
    }
    found: Statistics = {}
    for need, key in keys.items():
        if (tensors := look_up(key)) is not None:
            found[need] = need.collector.restore(tensors)
    missing = [need for need in keys if need not in found]
    if missing:
        if console.is_terminal:  # for a person who waits for the progress bar to move
            log.info("extracting features of the %d images of %s, once: they are kept", len(images), images.name)
        found |= extract(images, missing, extractor, ranks, batch=batch, stop=stop)
        if not any_rank(images.digest != before):
            for need in missing:
                keep(keys[need], found[need].tensors())
    return found


def published_statistic(published: Published, need: Need, extractor: Extractor) -> Statistic:
    """Return what a file of statistics has of a need.

    Raises:
        EvaluationError: it has nothing of it, or of another extractor.
    """
    features = extractor.layers[need.layer]
    if need.collector is MomentSums and need.layer in ("pool", "spatial"):
        return published.moments_for(features, extractor.name, need.layer)
    if need.collector is FeatureRows and need.layer == "pool" and published.features is not None:
        published.moments_for(features, extractor.name, "pool")  # checks the width
        return Features.unlabelled(published.features)
    raise EvaluationError(
        f"{published.path}: a metric needs {need.collector.name} of '{need.layer}', but the file contains "
        f"{published.layout}; compare with the images themselves"
    )
