"""Minibatch standard deviation: lets D see how varied a batch is (Karras et al. 2018, ProGAN, section 3)."""

import torch
from torch import Tensor


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one channel with the average standard deviation over a group of samples.

    Sample n belongs to group `n % (N / group)`, as in the official networks. Statistics are float32.

    Args:
        x: features, shape [N, C, H, W].
        group_size: samples a group; the largest divisor of N that does not exceed it is used.

    Returns:
        Shape [N, C + 1, H, W].
    """
    batch, channels, height, width = x.shape
    group = next(size for size in range(min(group_size, batch), 0, -1) if batch % size == 0)
    groups = x.float().reshape(group, batch // group, channels, height, width)
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    feature = deviation.to(x.dtype).repeat(group).reshape(batch, 1, 1, 1).expand(batch, 1, height, width)
    return torch.cat([x, feature], dim=1)
