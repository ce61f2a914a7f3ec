"""Batch normalisation whose gain and bias depend on the condition (de Vries et al. 2017)."""

import torch
from torch import Tensor, nn

from bigtrain.ops.batch_norm import OverRanks, batch_norm


class BatchStatistics(nn.Module):
    """Normalisation by batch statistics, with the running ones for sampling.

    Attributes:
        over_ranks: averages a tensor over the ranks; whoever distributes the network sets it.
        ranks: how many there are; likewise.
        changes_in_forward: a training forward changes buffers, so that the number of micro-batches is part of the
            recipe.
    """

    stored_mean: Tensor
    stored_var: Tensor
    over_ranks: OverRanks | None = None
    ranks = 1
    changes_in_forward = True

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.empty(channels))
        self.register_buffer("stored_var", torch.empty(channels))
        self.eps, self.momentum = eps, momentum
        BatchStatistics.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Forget the running statistics."""
        nn.init.zeros_(self.stored_mean)
        nn.init.ones_(self.stored_var)

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
            ranks=self.ranks,
        )


class BatchNorm(BatchStatistics):
    """Batch normalisation with a learnt gain and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start without a gain or a bias."""
        super().reset_parameters()
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.bias)

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


@torch.no_grad()
def set_standing_statistics(generator: nn.Module, z: Tensor, label: Tensor, *, batch: int) -> None:
    """Set a generator's batch statistics to their mean over batches of latents (Brock et al. 2019, section 3).

    Args:
        generator: whose `BatchStatistics` are set in place; all else stays as it is, its mode too.
        z: latents, shape [N, z_dim].
        label: as in `Generator.forward`.
        batch: latents a forward.
    """
    layers = [module for module in generator.modules() if isinstance(module, BatchStatistics)]
    was_training, momenta = generator.training, [layer.momentum for layer in layers]
    # Only the batch normalisation leaves evaluation mode: a spectral norm's state must not move.
    generator.eval()
    for layer in layers:
        layer.train()
    for count, start in enumerate(range(0, len(z), batch), 1):
        for layer in layers:
            layer.momentum = 1.0 / count
        generator(z[start : start + batch], label[start : start + batch])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    generator.train(was_training)
