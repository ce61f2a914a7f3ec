"""Minibatch standard deviation: lets D see how varied a batch is (Karras et al. 2018, ProGAN, section 3)."""

import torch
from torch import Tensor


def minibatch_stddev(x: Tensor, group_size: int, channels: int = 1) -> Tensor:
    """Append channels with the average standard deviation over a group of samples.

    Sample n belongs to group `n % (N / group)`, as in the official networks. Statistics are float32.

    Args:
        x: features, shape [N, C, H, W].
        group_size: samples a group; the largest divisor of N that does not exceed it is used.
        channels: statistics a group, each of an equal share of the features; divides C.

    Returns:
        Shape [N, C + channels, H, W].
    """
    batch, features, height, width = x.shape
    group = next(size for size in range(min(group_size, batch), 0, -1) if batch % size == 0)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    groups = wide.reshape(group, batch // group, channels, features // channels, height, width)
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4))
    statistics = deviation.to(x.dtype).repeat(group, 1)[:, :, None, None].expand(batch, channels, height, width)
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return torch.cat([x, statistics], dim=1).contiguous(memory_format=layout)
