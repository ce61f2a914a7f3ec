"""How activations lie in memory."""

import torch
from torch import Tensor

from bigtrain.ops.twins import use_reference


def channels_last(x: Tensor) -> Tensor:
    """Put the channels of a position side by side, as convolutions like it; the reference keeps PyTorch's default.

    The strides of one channel fit both layouts, and `contiguous` would leave them: `to` writes those that a convolution
    takes for channels_last, whatever layout its weights have (gathered ones name none).

    Args:
        x: shape [N, C, H, W] or [N, C, D, H, W].
    """
    return x.contiguous() if use_reference() else x.to(memory_format=layout_of(x))


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the layout that `channels_last` gives a tensor of four or five axes."""
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d
