"""Batch normalisation whose gain and bias depend on the condition (de Vries et al. 2017)."""

import torch
from torch import Tensor, nn

from bigtrain.ops.batch_norm import OverRanks, batch_norm


class BatchStatistics(nn.Module):
    """Normalisation by batch statistics, with the running ones for sampling.

    Attributes:
        over_ranks: averages a tensor over the ranks; whoever distributes the network sets it.
    """

    stored_mean: Tensor
    stored_var: Tensor
    over_ranks: OverRanks | None = None

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.eps, self.momentum = eps, momentum

    def normalise(self, x: Tensor) -> Tensor:
        """Return `x` with zero mean and unit variance a channel."""
        return batch_norm(
            x,
            self.stored_mean,
            self.stored_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            over_ranks=self.over_ranks,
        )


class BatchNorm(BatchStatistics):
    """Batch normalisation with a learnt gain and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return _scale_and_shift(self.normalise(x), self.gain[None], self.bias[None])


class ConditionalBatchNorm(BatchStatistics):
    """Batch normalisation with gain = 1 + gain(condition) and bias = bias(condition).

    Args:
        channels: of the activations.
        gain: maps the condition to [N, channels].
        bias: likewise.
    """

    def __init__(self, channels: int, gain: nn.Module, bias: nn.Module) -> None:
        super().__init__(channels)
        self.gain, self.bias = gain, bias

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map [N, C, H, W] and the condition to [N, C, H, W]."""
        return _scale_and_shift(self.normalise(x), 1.0 + self.gain(condition), self.bias(condition))


def _scale_and_shift(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return torch.addcmul(bias.to(x.dtype)[:, :, None, None], x, gain.to(x.dtype)[:, :, None, None])
