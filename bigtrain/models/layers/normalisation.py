"""The normalisations of image-to-image networks, by name."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.models.layers.conditional_batch_norm import BatchNorm
from bigtrain.ops.layout import channels_last

ImageNorm = Literal["batch", "instance", "none"]
"""`batch` normalises each channel over the samples of all ranks, `instance` each channel of each sample by itself."""


class InstanceNorm(nn.Module):
    """Normalises each channel of each sample to zero mean and unit variance (Ulyanov et al. 2016, equation 4).

    It has neither parameters nor running statistics.

    Args:
        channels: of the activations.
        eps: added to the variance.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape and dtype; the statistics are at least float32."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        gain = torch.ones(self.channels, dtype=dtype, device=x.device)
        bias = torch.zeros(self.channels, dtype=dtype, device=x.device)
        # Group normalisation with a channel a group keeps the layout, but subtracts two large numbers for the variance:
        # it is past 1e-4 of PixelGAN's golden logits. The gain is there for the statistics to be float32.
        # Height and width are one axis because PyTorch 2.14 on CPUs computes wrong gradients with four axes if there is
        # one sample and the gradient of the output is channels_last.
        rows = F.instance_norm(x.flatten(2), weight=gain, bias=bias, eps=self.eps)
        return channels_last(rows.reshape(x.shape))


def image_norm(kind: ImageNorm, channels: int) -> nn.Module:
    """Build the normalisation `kind` for activations with so many channels."""
    match kind:
        case "batch":
            return BatchNorm(channels)
        case "instance":
            return InstanceNorm(channels)
        case "none":
            return nn.Identity()


def bias_before(kind: ImageNorm) -> bool:
    """Whether a convolution before the normalisation has a bias: with instance normalisation only.

    Batch normalisation has a bias of its own. That a bias changes nothing before instance normalisation, and would be
    of use where the norm is `none`, did not guide the reference implementation of pix2pix and CycleGAN, whose
    checkpoints these networks read.
    """
    return kind == "instance"
