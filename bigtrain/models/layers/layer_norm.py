"""Layer normalisation (Ba et al. 2016): statistics of one sample, so that a gradient penalty is one sample's, too."""

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelLayerNorm(nn.GroupNorm):
    """Zero mean and unit variance over all channels and positions of a sample, then a gain and bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape and dtype; computed in float32."""
        return F.group_norm(x.float(), 1, self.weight, self.bias, self.eps).to(x.dtype)
