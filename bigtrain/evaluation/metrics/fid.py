"""Fréchet inception distance (Heusel et al. 2017), whatever network made the features."""

import torch
from torch import Tensor

from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.noise import fid_influence
from bigtrain.evaluation.statistics.moments import Moments, MomentSums


def frechet_distance(reference: Moments, generated: Moments) -> float:
    """Return |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two Gaussians (Dowson & Landau 1982, eq. 4).

    With S1 = R R^T the trace of the root is the sum of the roots of the eigenvalues of R^T S2 R, which is symmetric: no
    general matrix square root is needed. All float64; what rounding takes below 0 is 0.

    Covariances of n samples have no more than n - 1 eigenvalues that are not 0: the others, which are rounding, and
    whose roots are a million times larger, are left out.
    """
    root = reference.root
    product = root.t() @ generated.covariance @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.t()) / 2)[-generated.rank :]
    overlap = eigenvalues.clamp(min=0).sqrt().sum()
    shift = (reference.mean - generated.mean).square().sum()
    return max(float(shift + reference.covariance.trace() + generated.covariance.trace() - 2 * overlap), 0.0)


def frechet_distance_of(reference: Tensor, generated: Tensor) -> float:
    """Return the Fréchet distance between features [N, F] and [M, F], in time that grows with the smaller of N, F.

    With X and Y the centred features, tr (S1 S2)^(1/2) is the sum of the singular values of X Y^T / sqrt((N-1)(M-1)).
    """
    one, other = reference.double(), generated.double()
    shift = (one.mean(0) - other.mean(0)).square().sum()
    one, other = ((side - side.mean(0)) / (len(side) - 1) ** 0.5 for side in (one, other))
    spread = one.square().sum() + other.square().sum()
    return max(float(shift + spread - 2 * _nuclear_norm_of_product(one, other)), 0.0)


def _nuclear_norm_of_product(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of the singular values of one @ other.T, where one is [N, F] and other [M, F]."""
    if max(len(one), len(other)) > one.shape[1]:  # the same singular values, of triangular factors that are smaller
        one, other = (torch.linalg.qr(side, mode="r").R if len(side) > side.shape[1] else side for side in (one, other))
    total: Tensor = torch.linalg.svdvals(one @ other.t()).sum()
    return total


def _fid(reference: Moments, generated: Moments) -> Scores:
    return {"fid": frechet_distance(reference, generated)}


def _sfid(reference: Moments, generated: Moments) -> Scores:
    return {"sfid": frechet_distance(reference, generated)}


FID = Metric(Need("pool", MomentSums), _fid, lowest=0, is_distance=True, influence=fid_influence)
SFID = Metric(
    Need("spatial", MomentSums),
    _sfid,
    lowest=0,
    is_distance=True,
    influence=fid_influence,
    settings="by row, column, channel",
)
