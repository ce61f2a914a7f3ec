"""Frames of clips for discriminators that judge some of them: drawn at random in training, evenly chosen elsewhere.

A network gets one tensor, so the drawn frames travel behind the clip's own: [N, frames + count, C, H, W].
"""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws


def append_drawn_frames(clip: Tensor, draws: Draws, count: int) -> Tensor:
    """Return clips with some of their frames appended, drawn without replacement and in the order of time.

    Args:
        clip: shape [N, T, C, H, W].
        draws: of these samples; the choice is a function of each sample's position in the run.
        count: number of frames to draw, at most T.

    Returns:
        Shape [N, T + count, C, H, W].
    """
    order = draws.of("frames").uniform(clip.shape[1]).argsort(dim=1, stable=True)
    chosen = order[:, :count].sort(dim=1).values
    rows = torch.arange(len(clip), device=clip.device)[:, None]
    return torch.cat([clip, clip[rows, chosen]], dim=1)


def split_drawn_frames(clip: Tensor, length: int, count: int) -> tuple[Tensor, Tensor]:
    """Return clips and the frames that were drawn from them; of clips without drawn ones, frames at even distances.

    Args:
        clip: shape [N, length, C, H, W], or [N, length + count, C, H, W] as `append_drawn_frames` returns it.
        length: number of frames of a clip.
        count: number of frames that are drawn.

    Returns:
        Shapes [N, length, C, H, W] and [N, count, C, H, W].
    """
    if clip.shape[1] != length:
        return clip[:, :length], clip[:, length:]
    even = [(2 * number + 1) * length // (2 * count) for number in range(count)]
    return clip, torch.stack([clip[:, place] for place in even], dim=1)
