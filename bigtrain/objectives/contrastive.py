"""Contrastive losses as pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.precision import outside_autocast


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """The loss of telling which place of the input a place of the output belongs to (Park et al. 2020, equation 3).

    -log exp(v · v⁺ / τ) / (exp(v · v⁺ / τ) + Σ exp(v · v⁻ / τ)): v⁺ is the key of the same place, v⁻ are the keys of
    the other places of the same image.

    Args:
        query: unit vectors v of the output's places, shape [N, S, K].
        key: unit vectors of the input's, likewise.
        temperature: τ.

    Returns:
        Shape [N, S], float32.
    """
    with outside_autocast(query.device.type):  # bfloat16 has two digits for what is divided by the temperature
        similarity = query.float() @ key.float().transpose(1, 2) / temperature
    images, count, _ = query.shape
    places = torch.arange(count, device=query.device).repeat(images)
    return F.cross_entropy(similarity.flatten(0, 1), places, reduction="none").reshape(images, count)
