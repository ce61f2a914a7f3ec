"""Attention that can be differentiated twice (Vaswani et al. 2017, equation 1).

PyTorch's fused kernels never hold the matrix of weights, and know no second derivative, which a gradient penalty needs.
Here the forward and a plain backward run fused; only a backward that is itself to be differentiated is written out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.twins import use_reference

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Compute `softmax(scale * query @ key.T) @ value`; differentiable to any order.

    Args:
        query: shape [N, heads, L, D].
        key: shape [N, heads, M, D], of the same dtype.
        value: shape [N, heads, M, E], of the same dtype.
        scale: usually 1 / sqrt(D).

    Returns:
        Shape [N, heads, L, E]; in the inputs' dtype, whatever autocast says.
    """
    if use_reference():
        return attention_reference(query, key, value, scale=scale)
    result: Tensor = _Attention.apply(query, key, value, scale)
    return result


def attention_reference(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Compute the same as `attention`, as the equation stands."""
    with outside_autocast(query.device.type):
        return _weights(query, key, scale) @ value


def negative_distance(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Extend vectors so that their inner product is minus their squared distance, up to a constant a query.

    `-|q - k|^2 = 2 q.k - |k|^2 - |q|^2`, and a softmax over the keys does not see the last term: so the attention by
    distance (Kim et al. 2021, "L2 attention") is an attention by inner product, of vectors one longer.

    Args:
        query: shape [..., L, D].
        key: shape [..., M, D].

    Returns:
        Both in float32, shapes [..., L, D + 1] and [..., M, D + 1].
    """
    query, key = query.float(), key.float()
    return (
        torch.cat([2.0 * query, torch.ones_like(query[..., :1])], dim=-1),
        torch.cat([key, -key.square().sum(-1, keepdim=True)], dim=-1),
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        if not _keeps_sums(query):
            ctx.save_for_backward(query, key, value)
            return _fused(query, key, value, scale)
        whole, sums = _flash.default(*_of_one_length(query, key, value), scale=scale)
        out: Tensor = whole[..., : value.shape[-1]]
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # this backward will be differentiated: create_graph
            return *_differentiable_backward(query, key, value, grad, ctx.scale), None
        if kept:
            out, sums = kept
            *inputs, grad, out = _of_one_length(query, key, value, grad, out)
            d_query, d_key, d_value = _flash_backward.default(grad, *inputs, out, sums, 0.0, False, scale=ctx.scale)
            d_query, d_key = (slope[..., : query.shape[-1]] for slope in (d_query, d_key))
            return d_query, d_key, d_value[..., : value.shape[-1]], None
        with torch.enable_grad():
            query, key, value = (tensor.detach().requires_grad_() for tensor in (query, key, value))
            out = _fused(query, key, value, ctx.scale)
        d_query, d_key, d_value = torch.autograd.grad(out, (query, key, value), grad)
        return d_query, d_key, d_value, None


def _keeps_sums(query: Tensor) -> bool:
    """Tell whether the kernel's own sums over the keys can be had: else the backward computes the forward again."""
    return query.device.type == "cpu" and not torch.compiler.is_compiling() and not isinstance(query, FakeTensor)


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Compute it by PyTorch's kernels."""
    length = value.shape[-1]
    query, key, value = _of_one_length(query, key, value)
    with outside_autocast(query.device.type):
        out = F.scaled_dot_product_attention(query, key, value, scale=scale)
    return out if out.shape[-1] == length else out[..., :length]


def _of_one_length(*vectors: Tensor) -> list[Tensor]:
    """Fill up the shorter with zeros: not all kernels take D other than E; nor vectors that lie across memory."""
    longest = max(vector.shape[-1] for vector in vectors)
    padded = (F.pad(vector, (0, rest)) if (rest := longest - vector.shape[-1]) else vector for vector in vectors)
    return [vector if vector.stride(-1) == 1 else vector.contiguous() for vector in padded]


def _differentiable_backward(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    with outside_autocast(query.device.type):
        weights = _weights(query, key, scale)
        d_weights = grad @ value.mT
        d_scores = weights * (d_weights - (d_weights * weights).sum(-1, keepdim=True)) * scale
        return d_scores @ key, d_scores.mT @ query, weights.mT @ grad


def _weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return the softmax, taken in float32 at least, in the inputs' dtype."""
    scores = (query @ key.mT) * scale
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
