"""Spectral normalisation (Miyato et al. 2018, algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def spectral_norm(weight: Tensor, u: Tensor, *, update: bool, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Divide a weight by its largest singular value, estimated by one power iteration from `u`.

    Runs in float32 whatever the surrounding precision. The gradient flows through the singular value, with the
    singular vectors held constant, as in the paper.

    Args:
        weight: shape [O, ...]; seen as a matrix of O rows.
        u: the left singular vector of the last iteration, shape [1, O]; moved in place if `update`.
        update: keep this iteration's vector (during training).
        eps: bound on the norms that are divided by.

    Returns:
        The normalised weight, and the singular value, shape [].
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.float().flatten(1)
        with torch.no_grad():
            v = F.normalize(u @ matrix, eps=eps)
            left = F.normalize(v @ matrix.t(), eps=eps)
            if update:
                u.copy_(left)
        sigma = (v @ matrix.t() @ left.t()).squeeze()
        return weight / sigma, sigma.detach()
