"""Squared MMD with a Gaussian kernel, as in CMMD (Jayasumana et al. 2024, section 4), over all images.

CMMD proper is this in CLIP's features, which come as an extractor from a file.
"""

import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.blocks import my_blocks
from bigtrain.evaluation.statistics.features import FeatureRows, Features

SIGMA = 10.0
SCALE = 1000.0
"""Of the reported value, for people."""


def gaussian_mmd(reference: Tensor, generated: Tensor, sigma: float = SIGMA) -> float:
    """Return the squared MMD, pairs of an image with itself included, of features scaled to length 1. Collective.

    Args:
        reference: features, shape [N, F].
        generated: features, shape [M, F].
        sigma: width of the kernel exp(-|x - y|^2 / (2 sigma^2)).
    """
    one, other = (torch.nn.functional.normalize(side.double()) for side in (reference, generated))
    within = _mean_kernel(one, one, sigma) + _mean_kernel(other, other, sigma)
    return max(within - 2 * _mean_kernel(one, other, sigma), 0.0)


def _mean_kernel(one: Tensor, other: Tensor, sigma: float) -> float:
    total = torch.zeros((), dtype=torch.float64)
    for rows in my_blocks(len(one)):
        # 1 - exp(-d), whose sum keeps its digits: the kernels of a wide Gaussian are all close to 1.
        total -= torch.expm1((one[rows] @ other.t() - 1) / sigma**2).sum()
    return 1 - float(sum_over_ranks(total)) / (len(one) * len(other))


def _score(reference: Features, generated: Features) -> Scores:
    return {"mmd": SCALE * gaussian_mmd(reference.rows, generated.rows)}


MMD = Metric(Need("pool", FeatureRows), _score, lowest=0, is_distance=True)
