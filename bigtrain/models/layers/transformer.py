"""Layers of transformers (Vaswani et al. 2017; Dosovitskiy et al. 2021), with those of ViTGAN (Lee et al. 2021)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle
from bigtrain.ops.attention import attention, negative_distance

Similarity = Literal["dot", "distance"]
"""By inner product, or by distance with the same weights for queries and keys (Kim et al. 2021), which is Lipschitz."""


class TokenLinear(SpectralLinear):
    """Fully connected layer; under spectral normalisation it keeps the singular value that it started with.

    At a singular value of one, transformers do not train; ViTGAN multiplies each normalised weight by the one it had at
    the start (Lee et al. 2021, section 4.1, "improved spectral normalization").
    """

    start: Tensor

    def __init__(self, features: int, out_features: int, *, style: WeightStyle, bias: bool = True) -> None:
        super().__init__(features, out_features, style=style, bias=bias)
        if style.spectral:
            self.register_buffer("start", torch.empty(()))
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill weight, bias and buffers anew."""
        super().reset_parameters()
        if hasattr(self, "start"):
            self.start.copy_(torch.linalg.matrix_norm(self.weight, ord=2))

    def normalised_weight(self) -> Tensor:
        """Return the weight as it is used."""
        weight = super().normalised_weight()
        return weight * self.start if self.style.spectral else weight


class MultiHeadAttention(nn.Module):
    """Attention of each token to all, in several heads.

    Args:
        width: of a token.
        heads: divides the width.
        similarity: what attends to what.
        style: of the weights.
    """

    def __init__(self, width: int, heads: int, *, similarity: Similarity, style: WeightStyle) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: a width of {width} does not divide into {heads} heads")
        self.heads, self.similarity = heads, similarity
        self.query = TokenLinear(width, width, style=style)
        if similarity == "dot":
            self.key = TokenLinear(width, width, style=style)
        self.value = TokenLinear(width, width, style=style)
        self.out = TokenLinear(width, width, style=style)
        self.scale = 1.0 / math.sqrt(width // heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, L, width] to the same shape."""
        query, value = self._split(self.query(x)), self._split(self.value(x))
        if self.similarity == "dot":
            mixed = attention(query, self._split(self.key(x)), value, scale=self.scale)
        else:
            mixed = attention(*negative_distance(query, query), value.float(), scale=self.scale)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Two fully connected layers on each token, GELU in between."""

    def __init__(self, width: int, inner: int, *, style: WeightStyle) -> None:
        super().__init__()
        self.fc1 = TokenLinear(width, inner, style=style)
        self.fc2 = TokenLinear(inner, width, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, L, width] to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of each token, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, L, width] to the same shape."""
        return F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)


class ModulatedLayerNorm(nn.Module):
    """Layer normalisation whose gain and bias come from a style (Lee et al. 2021, equation 16, "SLN").

    Args:
        width: of a token.
        w_dim: length of the style.
    """

    def __init__(self, width: int, w_dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width, elementwise_affine=False)
        style = WeightStyle("xavier", spectral=False)
        self.gain = SpectralLinear(w_dim, width, style=style)
        self.bias = SpectralLinear(w_dim, width, style=style)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map tokens [N, L, width] and styles [N, w_dim] to [N, L, width]."""
        gain, bias = self.gain(w).float(), self.bias(w).float()
        return torch.addcmul(bias[:, None], self.norm(x), 1.0 + gain[:, None])


class Tokens(nn.Module):
    """A learnt vector for each of several places, normal with deviation 0.02 at first."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the vectors anew."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self) -> Tensor:
        """Return them, shape [1, count, width]."""
        return self.weight[None]
