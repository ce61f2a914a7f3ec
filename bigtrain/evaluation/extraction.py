"""One pass over images that makes all statistics that the metrics need, on all ranks together."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from bigtrain.core.alpha import opaque
from bigtrain.distributed.collectives import any_rank, from_all_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import ImagesError, Interrupted
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.ahead import read_ahead
from bigtrain.evaluation.metrics.base import Need
from bigtrain.evaluation.statistics import Statistic

_NAMED = 3
"""Faults that a message names; the others are counted."""

Statistics = dict[Need, Statistic]
Stop = Callable[[], bool]
"""Tells whether this process was asked to stop."""


def never() -> bool:
    """Return False: nobody asks the process to stop."""
    return False


def check(stop: Stop) -> None:
    """Break off where any rank was asked to stop. Collective.

    Raises:
        Interrupted: on every rank.
    """
    if any_rank(stop()):
        raise Interrupted


@torch.inference_mode()
def extract(
    images: Images, needs: Iterable[Need], extractor: Extractor, ranks: Ranks, *, batch: int, stop: Stop = never
) -> Statistics:
    """Extract features of every image on exactly one rank, and collect what is needed of them. Collective.

    Args:
        images: all of them are read.
        needs: what to collect.
        extractor: makes the features.
        ranks: who shares the work.
        batch: images at once.
        stop: asked before every batch.

    Raises:
        ImagesError: some of the images cannot be read, or are none.
        Interrupted: a rank was asked to stop.
    """
    needs = list(dict.fromkeys(needs))
    layers = list(dict.fromkeys(need.layer for need in needs))
    collectors = {need: need.collector(extractor.layers[need.layer], len(images), ranks.device) for need in needs}
    # The same batches on any number of ranks: how a convolution rounds may depend on what is in its batch.
    firsts = range(0, len(images), batch)
    mine = firsts[ranks.rank :: ranks.world_size]
    reading = read_ahead(images, (numbers_from(first, batch, len(images)) for first in mine))
    for turn in range(-(-len(firsts) // ranks.world_size)):  # as many on every rank
        check(stop)
        if turn >= len(mine):
            continue
        lost = bool(images.faults)  # of the batches before: of this one, a GPU would have to be waited for
        index = numbers_from(mine[turn], batch, len(images))
        image, label = next(reading)
        if lost:  # no score comes of it: the rest is read only to name what else is damaged
            continue
        features = extractor(_seen(image.to(ranks.device)), layers)
        for need, collector in collectors.items():
            collector.add(features[need.layer], index, label)
    check_faults(images)
    return {need: collector.over_ranks() for need, collector in collectors.items()}


def _seen(samples: Tensor) -> Tensor:
    """Return what an extractor looks at: images without alpha, everything else as it is."""
    return opaque(samples) if samples.ndim == 4 and samples.dtype == torch.uint8 else samples


def numbers_from(first: int, batch: int, count: int) -> Tensor:
    """Return the numbers of a batch's images."""
    return torch.arange(first, min(first + batch, count))


def check_faults(images: Images) -> None:
    """Raise ImagesError on every rank where any of them met an image that it could not read. Collective."""
    faults = sorted(fault for part in from_all_ranks(images.faults) for fault in part)
    if faults:
        named = ", ".join(faults[:_NAMED]) + (", …" if len(faults) > _NAMED else "")
        files = images.digest is not None
        way_on = (
            "; bigtrain data prepare --resolution N makes a set of one size of those that can be read" if files else ""
        )
        raise ImagesError(f"{images.name}: {len(faults)} of {len(images)} images cannot be scored: {named}{way_on}")
