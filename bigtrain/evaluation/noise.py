"""The noise of a score: confidence intervals of FID and KID, by a bootstrap of their first-order expansions.

What the interval is about is the expected score: the mean of the scores that this generator gets with other latents,
with the same number of images and the same reference. A single other score lies outside more often, because it has
noise of its own (measured: inside in 86 of 100 cases). The distance of infinitely many images is another number,
smaller by the bias of FID, which is of the size of the noise or larger, and the interval says nothing about it.

Resampling the samples themselves and computing the score anew is slow, and wrong for the Fréchet distance of few
samples: a resample repeats samples, its covariance loses rank, and the spread comes out up to three times too wide. So
the score is replaced by its first-order expansion in the distribution of the samples (the influence function, Hampel
1974; the infinitesimal jackknife, Jaeckel 1972), which is a mean over samples, and that mean is resampled. See
docs/decisions/0015.

The reference is held fixed: it is part of the protocol, the same for all scores that may be compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.evaluation.statistics.moments import Moments

_RESAMPLES = 1000
_LEVEL = 0.95
_NULL = 1e-9
"""Eigenvalues below this share of the largest one are those of directions that no sample spans."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval, at 95 %, of a score's expectation over latents, for this number of images.

    Attributes:
        low: its lower end.
        high: its upper end.
        error: the score's standard error.
    """

    low: float
    high: float
    error: float


def fid_influence(reference: Moments, generated: Moments, features: Tensor) -> Tensor:
    """Return how each sample moves the Fréchet distance: float64, shape [N], up to a constant.

    The derivative of |mu - mu_r|^2 + tr(S + S_r - 2 (S_r S)^(1/2)) by the weight of a sample x is
    2 (mu - mu_r)·(x - mu) + (x - mu)^T (I - A) (x - mu), where A = R (R^T S R)^(-1/2) R^T with R R^T = S_r is the
    linear map that carries one Gaussian into the other (Dowson & Landau 1982), whichever R is taken. Directions that
    no sample spans have no part.

    Args:
        reference: of the real images.
        generated: of all generated images.
        features: of some or all of the generated images, shape [N, F].
    """
    root = reference.root
    product = root.t() @ generated.covariance @ root
    values, vectors = torch.linalg.eigh((product + product.t()) / 2)
    inverse = torch.where(values > _NULL * values[-1], values.clamp(min=0).rsqrt(), 0.0)
    scaled = root @ (vectors * inverse.sqrt())
    centred = features.double() - generated.mean
    shift = 2 * centred @ (generated.mean - reference.mean)
    influence: Tensor = shift + centred.square().sum(1) - (centred @ scaled).square().sum(1)
    return influence


def kid_influence(reference: Tensor, generated: Tensor) -> Tensor:
    """Return how each sample moves the kernel distance: float64, shape [N], up to a constant.

    KID is the U-statistic mean k(x, x') + mean k(y, y') - 2 mean k(x, y) (Bińkowski et al. 2018); a sample moves it by
    2 (mean over x' of k(x, x') - mean over y of k(x, y)). Where the generator is as good as the data the true
    derivative vanishes, and the spread of these means is their own noise: the error is about 1.4 times too large.

    Args:
        reference: features of some real images, shape [M, F].
        generated: features of some generated images, shape [N, F].
    """
    x, y = generated.double(), reference.double()
    within = _polynomial(x, x)
    others = (within.sum(1) - within.diagonal()) / (len(x) - 1)
    influence: Tensor = 2 * (others - _polynomial(x, y).mean(1))
    return influence


def interval(
    value: float, influences: Sequence[Tensor], count: int, *, lowest: float = -math.inf, more: float = 0.0
) -> Interval:
    """Return the bootstrap interval of a score: percentiles of its first-order expansion over resampled samples.

    Args:
        value: the score; with several seeds, the mean of theirs.
        influences: of one seed each: how some of its samples move its score. Each seed is resampled by itself.
        count: samples a seed that its score was computed of; scales the spread of those in `influences`.
        lowest: a value that the score cannot fall below.
        more: standard error of other chance, independent of the samples, such as the choice of subsets.
    """
    moved = torch.zeros(_RESAMPLES, dtype=torch.float64)
    for seed, influence in enumerate(influences):
        centred = (influence - influence.mean()).cpu()
        generator = torch.Generator().manual_seed(seed)
        picks = torch.randint(len(centred), (_RESAMPLES, len(centred)), generator=generator)
        # Resamples of m of n samples spread sqrt(n / m) times as far as those of all n.
        moved += centred[picks].mean(1) * math.sqrt(len(centred) / count)
    moved /= len(influences)
    moved += more * torch.randn(
        _RESAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(len(influences))
    )
    ends = torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64)
    low, high = (value + torch.quantile(moved, ends)).tolist()
    return Interval(max(low, lowest), high, float(moved.std()))


def is_better(new: float, new_error: float, old: float, old_error: float, *, higher: bool) -> bool:
    """Tell whether a score beats another by more than their noise: 1.96 standard errors of the difference.

    Args:
        new: the score that may be better.
        new_error: its standard error.
        old: the one to beat.
        old_error: its standard error.
        higher: whether more is better.
    """
    gain = new - old if higher else old - new
    return gain > 1.96 * math.hypot(new_error, old_error)


def _polynomial(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel (x·y / F + 1)³ of Bińkowski et al. 2018 between all pairs."""
    kernel: Tensor = (x @ y.t() / x.shape[1] + 1) ** 3
    return kernel
