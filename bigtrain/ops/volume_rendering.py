"""Rendering of a volume's densities and colours along rays (Max 1995; Mildenhall et al. 2020, section 4 and 5.2)."""

import torch
from torch import Tensor


def composite(density: Tensor, colour: Tensor, depth: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Return the colours that are seen along rays, by the quadrature of Max (1995).

    Args:
        density: at each place, not negative, shape [N, R, S].
        colour: of each place, shape [N, R, S, C].
        depth: distance of each place from the beginning of its ray, ascending, shape [N, R, S].
        far: where the rays end, shape [N].

    Returns:
        Sums of the colours, shape [N, R, C], and the weights of the places, shape [N, R, S]; where a ray meets little,
        its weights sum to less than 1.
    """
    end = far[:, None, None].expand(-1, depth.shape[1], 1)
    absorbed = density * torch.diff(depth, dim=2, append=end)
    before = absorbed @ _running(absorbed).triu(1)
    weights = (-before).exp() * (1 - (-absorbed).exp())
    return (weights[..., None] * colour).sum(2), weights


def stratified(near: Tensor, far: Tensor, uniform: Tensor) -> Tensor:
    """Return one depth in each of equal parts of rays.

    Args:
        near: where rays begin, shape [N].
        far: where they end, shape [N].
        uniform: place within each part, in [0, 1), shape [N, R, S].

    Returns:
        Ascending, shape [N, R, S].
    """
    count = uniform.shape[2]
    share = (torch.arange(count, device=uniform.device) + uniform) / count
    return near[:, None, None] + (far - near)[:, None, None] * share


def resampled(near: Tensor, far: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Return depths where the weights of equal parts of rays are large, by the inverse of their distribution.

    Args:
        near: where rays begin, shape [N].
        far: where they end, shape [N].
        weights: of each part, shape [N, R, S]; without a gradient.
        uniform: ascending in [0, 1), shape [N, R, K].

    Returns:
        Ascending, shape [N, R, K].
    """
    count = weights.shape[2]
    share = weights + 1e-5  # a ray that meets nothing is sampled everywhere
    upper = (share / share.sum(2, keepdim=True)) @ _running(share)
    part = torch.searchsorted(upper.contiguous(), uniform.contiguous(), right=True).clamp(max=count - 1)
    last = upper.gather(2, part)
    width = torch.diff(upper, dim=2, prepend=torch.zeros_like(upper[..., :1])).gather(2, part)
    within = ((uniform - last + width) / width).clamp(0, 1)
    return near[:, None, None] + (far - near)[:, None, None] * (part + within) / count


def _running(x: Tensor) -> Tensor:
    """Return the matrix that makes running sums along the last axis: on GPUs, the bits of `cumsum` do not repeat."""
    return x.new_ones(x.shape[-1], x.shape[-1]).triu()
