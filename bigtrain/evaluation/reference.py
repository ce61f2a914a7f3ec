"""Statistics of the images that others are compared with, from the cache where it has them."""

from collections.abc import Iterable

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.cache import Ingredients, keep, look_up
from bigtrain.evaluation.extraction import Statistics, extract
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics.base import Need


def reference_statistics(
    images: Images, needs: Iterable[Need], extractor: Extractor, ranks: Ranks, *, batch: int
) -> Statistics:
    """Return what is needed of a reference; what the cache lacks is made in one pass and kept. Collective."""
    if images.digest is None:
        return extract(images, needs, extractor, ranks, batch=batch)
    keys: dict[Need, Ingredients] = {
        need: {
            "data": images.digest,
            "samples": len(images),
            "weights": extractor.weights_sha256,
            "preprocessing": extractor.preprocessing,
            "dtype": extractor.dtype,
            "layer": need.layer,
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
        found |= extract(images, missing, extractor, ranks, batch=batch)
        for need in missing:
            keep(keys[need], found[need].tensors())
    return found
