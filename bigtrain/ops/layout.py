"""How activations lie in memory."""

import torch
from torch import Tensor

from bigtrain.ops.twins import use_reference


def channels_last(x: Tensor) -> Tensor:
    """Put the channels of a pixel side by side, as convolutions like it; the reference keeps PyTorch's default.

    Args:
        x: shape [N, C, H, W].
    """
    return x.contiguous(memory_format=torch.contiguous_format if use_reference() else torch.channels_last)
