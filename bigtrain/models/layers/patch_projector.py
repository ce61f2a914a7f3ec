"""Projects activations at some places to unit vectors, which a contrastive loss compares (Chen et al. 2020; CUT)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.core.rng import Draws


class PatchProjector(nn.Module):
    """A perceptron of two layers for each of several activations (Park et al. 2020, section 3.2).

    Args:
        channels: of each activation.
        width: of both layers.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)) for count in channels
        )

    def forward(self, activations: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Project activations.

        Args:
            activations: each [N, C, H, W].
            places: of each activation the places to look at, int64 in [0, H · W), shape [N, S].

        Returns:
            Unit vectors, each float32 of shape [N, S, width].
        """
        found = []
        for head, x, place in zip(self.heads, activations, places, strict=True):
            rows = x.flatten(2).transpose(1, 2)
            chosen = rows.gather(1, place[:, :, None].expand(-1, -1, rows.shape[2]))
            found.append(F.normalize(head(chosen).float(), dim=2))
        return found


def draw_places(draws: Draws, activations: Sequence[Tensor], count: int) -> list[Tensor]:
    """Draw places of each activation, none of them twice: all of them where there are no more than `count`.

    Args:
        draws: of the samples.
        activations: each [N, C, H, W].
        count: places of each sample and activation.

    Returns:
        For each activation int64 in [0, H · W), shape [N, S].
    """
    found = []
    for number, x in enumerate(activations):
        total = x.shape[2] * x.shape[3]
        if total <= count:
            found.append(torch.arange(total, device=x.device).expand(len(x), -1))
        else:
            found.append(draws.of(str(number)).bits(total).argsort(dim=1, stable=True)[:, :count])
    return found
