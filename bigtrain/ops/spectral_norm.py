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
        iterate = _compiled_iterate if update and torch.compiler.is_compiling() else _iterate
        with torch.no_grad():
            left, right = iterate(_matrix(weight), u, update, iterations, eps)
        normalised, sigma = divide_by_singular_value(weight, left, right)
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
        iterate = _compiled_iterate_both if update and torch.compiler.is_compiling() else _iterate_both
        with torch.no_grad():
            left, right = iterate(_matrix(weight), u, v, update, eps)
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


def _iterate(matrix: Tensor, u: Tensor, update: bool, iterations: int, eps: float) -> tuple[Tensor, Tensor]:
    """Return the singular vectors after some steps from `u` [1, O], which moves if `update`."""
    left = u.to(matrix.dtype)
    for _ in range(iterations):
        right = F.normalize(left @ matrix, eps=eps)
        left = F.normalize(right @ matrix.t(), eps=eps)
    if update:
        u.copy_(left)
    return left[0], right[0]


def _iterate_both(matrix: Tensor, u: Tensor, v: Tensor, update: bool, eps: float) -> tuple[Tensor, Tensor]:
    """Return copies of the singular vectors, which move by one step before if `update`: a second forward moves them."""
    if update:
        v.copy_(F.normalize(matrix.t() @ u.to(matrix.dtype), dim=0, eps=eps))
        u.copy_(F.normalize(matrix @ v.to(matrix.dtype), dim=0, eps=eps))
    return u.to(matrix.dtype, copy=True), v.to(matrix.dtype, copy=True)


# One operation each for PyTorch's compiler in training, where it would compute them again in the backward, from buffers
# that the next forward has moved. An exported network has no such operation: it runs where bigtrain is not.
_compiled_iterate = torch.library.custom_op("bigtrain::iterate", _iterate, mutates_args=("u",))
_compiled_iterate_both = torch.library.custom_op("bigtrain::iterate_both", _iterate_both, mutates_args=("u", "v"))


@_compiled_iterate.register_fake
def _(matrix: Tensor, u: Tensor, update: bool, iterations: int, eps: float) -> tuple[Tensor, Tensor]:
    return matrix.new_empty(matrix.shape[0]), matrix.new_empty(matrix.shape[1])


@_compiled_iterate_both.register_fake
def _(matrix: Tensor, u: Tensor, v: Tensor, update: bool, eps: float) -> tuple[Tensor, Tensor]:
    return matrix.new_empty(matrix.shape[0]), matrix.new_empty(matrix.shape[1])


def _matrix(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32)).flatten(1)
