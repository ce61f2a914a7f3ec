"""Regularisers: pure functions, one value a sample."""

import torch
from torch import Tensor


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Zero-centred gradient penalty on real samples (Mescheder et al. 2018, R1).

    Args:
        logits: D(real), shape [N], attached to `real`.
        real: images in [-1, 1], shape [N, C, H, W], requiring grad.

    Returns:
        Squared gradient norm of each sample, shape [N], float32; weight it by gamma / 2.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3))
