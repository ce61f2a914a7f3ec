"""Fréchet inception distance (Heusel et al. 2017), whatever network made the features."""

import torch
from torch import Tensor

from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.statistics.moments import Moments, MomentSums


def frechet_distance(reference: Moments, generated: Moments) -> float:
    """Return |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two Gaussians (Dowson & Landau 1982, eq. 4).

    The trace of the root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric:
    no general matrix square root is needed. All float64.
    """
    root = _symmetric_root(reference.covariance)
    product = root @ generated.covariance @ root
    overlap = torch.linalg.eigvalsh((product + product.t()) / 2).clamp(min=0).sqrt().sum()
    shift = (reference.mean - generated.mean).square().sum()
    return float(shift + reference.covariance.trace() + generated.covariance.trace() - 2 * overlap)


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.t()
    return root


def _score(reference: Moments, generated: Moments) -> Scores:
    return {"fid": frechet_distance(reference, generated)}


FID = Metric(Need("pool", MomentSums), _score)
