"""Spectral normalisation (Miyato et al. 2018, algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.precision import outside_autocast


def spectral_norm(
    weight: Tensor, u: Tensor, *, update: bool, iterations: int = 1, eps: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Divide a weight by its largest singular value, estimated by power iteration from `u`.

    Runs in float32 at least, whatever the surrounding precision. The gradient flows through the singular value, with
    the singular vectors held constant, as in the paper.

    Args:
        weight: shape [O, ...]; seen as a matrix of O rows.
        u: the left singular vector of the last iteration, shape [1, O]; moved in place if `update`.
        update: keep the last iteration's vector (during training).
        iterations: steps of power iteration.
        eps: bound on the norms that are divided by.

    Returns:
        The normalised weight, and the singular value, shape [].
    """
    with outside_autocast(weight.device.type):
        with torch.no_grad():
            matrix = _matrix(weight)
            left = u.to(matrix.dtype)
            for _ in range(iterations):
                v = F.normalize(left @ matrix, eps=eps)
                left = F.normalize(v @ matrix.t(), eps=eps)
            if update:
                u.copy_(left)
        normalised, sigma = divide_by_singular_value(weight, left[0], v[0])
        return normalised, sigma.detach()


def stored_spectral_norm(weight: Tensor, u: Tensor, v: Tensor, *, update: bool, eps: float = 1e-12) -> Tensor:
    """Divide a weight by its singular value along two kept vectors, in float32; the gradient is as in `spectral_norm`.

    Args:
        weight: shape [O, ...]; seen as a matrix of O rows.
        u: left singular vector, shape [O]; moved in place by one power iteration if `update`.
        v: right singular vector, shape [I]; likewise.
        update: iterate first (during training); without, the vectors are taken as they are.
        eps: bound on the norms that are divided by.
    """
    with outside_autocast(weight.device.type):
        if update:
            with torch.no_grad():
                matrix = _matrix(weight)
                v.copy_(F.normalize(matrix.t() @ u.to(matrix.dtype), dim=0, eps=eps))
                u.copy_(F.normalize(matrix @ v.to(matrix.dtype), dim=0, eps=eps))
        # Copies, as a second forward before the backward moves the buffers.
        left, right = (vector.to(torch.promote_types(weight.dtype, torch.float32), copy=True) for vector in (u, v))
        return divide_by_singular_value(weight, left, right)[0]


def divide_by_singular_value(weight: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Divide a weight by its singular value along two vectors that count as constants.

    Args:
        weight: shape [O, ...]; seen as a matrix of O rows.
        left: unit vector, shape [O].
        right: unit vector, shape [I].

    Returns:
        The normalised weight, and the singular value, shape [].
    """
    sigma = left @ (_matrix(weight) @ right)
    return weight / sigma, sigma


def _matrix(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32)).flatten(1)
