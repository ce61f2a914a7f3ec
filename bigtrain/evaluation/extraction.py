"""One pass over images that makes all statistics that the metrics need, on all ranks together."""

from collections.abc import Iterable

import torch

from bigtrain.core.alpha import opaque
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics.base import Need
from bigtrain.evaluation.statistics import Statistic

Statistics = dict[Need, Statistic]


@torch.inference_mode()
def extract(images: Images, needs: Iterable[Need], extractor: Extractor, ranks: Ranks, *, batch: int) -> Statistics:
    """Extract features of every image on exactly one rank, and collect what is needed of them. Collective.

    Args:
        images: all of them are read.
        needs: what to collect.
        extractor: makes the features.
        ranks: who shares the work.
        batch: images at once.
    """
    needs = list(dict.fromkeys(needs))
    layers = list(dict.fromkeys(need.layer for need in needs))
    collectors = {need: need.collector(extractor.layers[need.layer], len(images), ranks.device) for need in needs}
    mine = torch.arange(ranks.rank, len(images), ranks.world_size)
    for index in torch.split(mine, batch) if len(mine) else ():
        image, label = images.read(index)
        features = extractor(opaque(image.to(ranks.device)), layers)
        for need, collector in collectors.items():
            collector.add(features[need.layer], index, label)
    return {need: collector.over_ranks() for need, collector in collectors.items()}
