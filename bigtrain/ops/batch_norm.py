"""Batch normalisation whose statistics can span the ranks (Ioffe & Szegedy 2015), without knowing of ranks.

Whoever distributes the network hands in `over_ranks`, a function that replaces a tensor by its mean over all ranks;
every rank must hold equally many samples. Statistics are float32 whatever the precision of the activations.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

OverRanks = Callable[[Tensor], Tensor]


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    over_ranks: OverRanks | None = None,
    ranks: int = 1,
) -> Tensor:
    """Normalise each channel to zero mean and unit variance; differentiable to any order.

    Args:
        x: shape [N, C, H, W].
        mean: running mean, shape [C]; used when not training, moved in place when training.
        var: running variance, likewise.
        training: normalise by the batch's own statistics.
        momentum: share of the batch's statistics in the running ones.
        eps: added to the variance.
        over_ranks: averages a tensor over the ranks; None for the statistics of this process alone.
        ranks: how many there are: the running variance is the unbiased one, of all their samples.

    Returns:
        Same shape and dtype as `x`.
    """
    if not training or over_ranks is None:
        return F.batch_norm(x, mean, var, *_wide_identity(x), training, momentum, eps)
    y: Tensor = _synchronised(x, mean, var, momentum, eps, over_ranks, ranks)
    return y


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled network is left here and entered again: messages are not compiled
def _synchronised(
    x: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float, over_ranks: OverRanks, ranks: int
) -> Tensor:
    y, batch_mean, batch_var = _SynchronisedBatchNorm.apply(x, eps, over_ranks)
    count = ranks * x.numel() // x.shape[1]
    with torch.no_grad():
        mean.lerp_(batch_mean, momentum)
        var.lerp_(batch_var * (count / max(count - 1, 1)), momentum)
    result: Tensor = y
    return result


class _SynchronisedBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, over_ranks: OverRanks) -> tuple[Tensor, Tensor, Tensor]:
        # In float64, where a variance survives as the difference of two large numbers.
        local_mean, local_var = (moment.double() for moment in _channel_moments(x))
        mean, mean_square = over_ranks(torch.stack([local_mean, local_var + local_mean.square()])).unbind()
        statistics = torch.promote_types(x.dtype, torch.float32)
        var = (mean_square - mean.square()).to(statistics)
        mean = mean.to(statistics)
        y = F.batch_norm(x, mean, var, *_wide_identity(x), eps=eps)
        ctx.save_for_backward(x, mean, var)
        ctx.eps, ctx.over_ranks = eps, over_ranks
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        x, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # this backward will be differentiated: create_graph
            return _differentiable_backward(grad, x, ctx.eps, ctx.over_ranks), None, None
        scaled, dot, total = torch.ops.aten.native_batch_norm_backward(
            grad.contiguous(memory_format=torch.channels_last),
            x,
            _wide_identity(x)[0],
            mean,
            var,
            mean,
            var,
            False,
            ctx.eps,
            [True, True, True],
        )
        # d loss / d x = rstd * (grad - mean(grad) - x_hat * mean(grad * x_hat)), the means over all ranks' samples.
        count = x.numel() / x.shape[1]
        mean_grad, mean_dot = (ctx.over_ranks(torch.stack([total, dot])) / count).unbind()
        rstd = (var + ctx.eps).rsqrt()
        slope = -rstd.square() * mean_dot
        offset = -rstd * mean_grad - mean * slope
        correction = torch.addcmul(_per_channel(offset, x), x, _per_channel(slope, x))
        return scaled + correction, None, None


class _MeanOverRanks(torch.autograd.Function):
    """Its gradient is the mean of all ranks' gradients: each rank's loss is a part of one sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, over_ranks: OverRanks) -> Tensor:
        ctx.over_ranks = over_ranks
        return over_ranks(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _MeanOverRanks.apply(grad, ctx.over_ranks), None


def _differentiable_backward(grad: Tensor, x: Tensor, eps: float, over_ranks: OverRanks) -> Tensor:
    """Compute the backward from `x` itself, by operations that have derivatives of their own."""

    def mean(values: Tensor) -> Tensor:
        result: Tensor = _MeanOverRanks.apply(values.mean((0, 2, 3), keepdim=True), over_ranks)
        return result

    wide = torch.promote_types(x.dtype, torch.float32)
    grad, centred = grad.to(wide), x.to(wide) - mean(x.to(wide))
    rstd = (mean(centred.square()) + eps).rsqrt()
    x_hat = centred * rstd
    return (rstd * (grad - mean(grad) - x_hat * mean(grad * x_hat))).to(x.dtype)


def _channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of each channel, at least float32."""
    _, mean, rstd = torch.native_batch_norm(x, *_wide_identity(x), None, None, True, 0.0, 1e-12)
    return mean, rstd.square().reciprocal() - 1e-12


def _wide_identity(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a gain of one and a bias of zero, at least float32: without them PyTorch rounds statistics to bfloat16."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.ones(x.shape[1], dtype=dtype, device=x.device), torch.zeros(x.shape[1], dtype=dtype, device=x.device)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(1, -1, 1, 1)
