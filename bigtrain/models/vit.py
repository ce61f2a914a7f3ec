"""A transformer on patches as G and D, after ViTGAN (Lee et al. 2021).

G feeds learnt positions through blocks whose layer normalisations are modulated by the style, and paints one patch a
token. D is a vision transformer (Dosovitskiy et al. 2021) on overlapping patches with attention by distance and a
spectral normalisation that keeps the initial scale: without these two its training is not stable.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.projection_discriminator import SpectralProjection
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle
from bigtrain.models.layers.transformer import (
    FeedForward,
    LayerNorm,
    ModulatedLayerNorm,
    MultiHeadAttention,
    Similarity,
    TokenLinear,
    Tokens,
)

_PLAIN = WeightStyle("xavier", spectral=False)


class ViTGeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape; the defaults are for 32x32 (ViTGAN-S).

    Attributes:
        z_dim: length of the latent.
        w_dim: length of the style.
        mapping_layers: number of fully connected layers from latent to style.
        label_dim: length of the class embedding, which is appended to the latent.
        patch: height and width of a patch.
        width: length of a token.
        depth: number of blocks.
        heads: number of attention heads; must divide the width.
        mlp_ratio: number of units between the two layers of a block's feed-forward part, as a multiple of the width.
        painter: how a token becomes pixels: `linear`, or `implicit`, a small network of sines that takes the position
            of a pixel in the patch and is modulated by the token (section 4.2).
    """

    kind: Literal["vit"] = "vit"
    z_dim: PositiveInt = 128
    w_dim: PositiveInt = 384
    mapping_layers: PositiveInt = 2
    label_dim: PositiveInt = 64
    patch: PositiveInt = 4
    width: PositiveInt = 384
    depth: PositiveInt = 4
    heads: PositiveInt = 6
    mlp_ratio: PositiveFloat = 4.0
    painter: Literal["linear", "implicit"] = "implicit"

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return ViTGenerator(self, image)


class ViTDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size and shape; the defaults are for 32x32 (ViTGAN-S).

    Attributes:
        patch: distance between two patches, in pixels.
        overlap: number of pixels by which a patch is extended on each side.
        width: length of a token.
        depth: number of blocks.
        heads: number of attention heads; must divide the width.
        mlp_ratio: as for the generator.
        similarity: similarity in the attention, `distance` or `dot`.
        spectral: whether the weights have spectral normalisation that keeps the initial largest singular value.
    """

    kind: Literal["vit"] = "vit"
    patch: PositiveInt = 4
    overlap: NonNegativeInt = 2
    width: PositiveInt = 384
    depth: PositiveInt = 4
    heads: PositiveInt = 6
    mlp_ratio: PositiveFloat = 4.0
    similarity: Similarity = "distance"
    spectral: bool = True

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        return ViTDiscriminator(self, image)


class ViTGenerator(Generator):
    """z and class -> style; learnt positions -> blocks, modulated by the style -> one patch a token."""

    def __init__(self, config: ViTGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim, self.patch = image, config.z_dim, config.patch
        self.grid = _grid(image, config.patch)
        features = config.z_dim
        if image.classes:
            self.embedding = ClassTable(image.classes, config.label_dim, _PLAIN)
            features += config.label_dim
        self.mapping = nn.ModuleList(
            SpectralLinear(config.w_dim if layer else features, config.w_dim, style=_PLAIN)
            for layer in range(config.mapping_layers)
        )
        self.positions = Tokens(self.grid[0] * self.grid[1], config.width)
        inner = round(config.mlp_ratio * config.width)
        self.blocks = nn.ModuleList(
            StyledBlock(config.width, inner, config.heads, config.w_dim) for _ in range(config.depth)
        )
        self.norm = ModulatedLayerNorm(config.width, config.w_dim)
        painter = LinearPainter if config.painter == "linear" else ImplicitPainter
        self.painter = painter(config.width, image.channels, config.patch)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z."""
        w = z * truncation
        if self.image.classes:
            w = torch.cat([w, self.embedding(class_weights(label, self.image.classes)).to(w.dtype)], dim=1)
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), 0.2)
        x = self.positions().expand(z.shape[0], -1, -1)
        for block in self.blocks:
            x = block(x, w)
        patches = self.painter(self.norm(x, w)).float()
        # [N, rows * columns, C * patch * patch] is what `fold` puts side by side.
        size = self.image.shape[1:]
        return F.fold(patches.transpose(1, 2), size, kernel_size=self.patch, stride=self.patch)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)


class ViTDiscriminator(SpectralProjection):
    """Patches and a class token -> blocks -> the class token, normalised -> logit and projection on the class."""

    def __init__(self, config: ViTDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        self.smooth = not config.spectral  # each pass moves the singular vectors
        rows, columns = _grid(image, config.patch)
        style = WeightStyle("xavier", config.spectral)
        self.patch, self.overlap = config.patch, config.overlap
        side = config.patch + 2 * config.overlap
        self.from_patch = TokenLinear(image.channels * side**2, config.width, style=style)
        self.positions = Tokens(rows * columns, config.width)
        self.class_token = Tokens(1, config.width)
        inner = round(config.mlp_ratio * config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, inner, config.heads, similarity=config.similarity, style=style)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width)
        self.add_head(config.width, style)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; all but the last are tokens, shape [N, 1 + patches, width]."""
        side = self.patch + 2 * self.overlap
        patches = F.unfold(image, kernel_size=side, padding=self.overlap, stride=self.patch).transpose(1, 2)
        x = self.from_patch(patches).float() + self.positions()
        x = torch.cat([self.class_token().expand(x.shape[0], -1, -1), x], dim=1)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        found.append(self.norm(x[:, 0]))
        return found


class StyledBlock(nn.Module):
    """Attention and feed-forward, each after a modulated normalisation and added to its input."""

    def __init__(self, width: int, inner: int, heads: int, w_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ModulatedLayerNorm(width, w_dim), ModulatedLayerNorm(width, w_dim)
        self.attention = MultiHeadAttention(width, heads, similarity="dot", style=_PLAIN)
        self.feed_forward = FeedForward(width, inner, style=_PLAIN)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map tokens [N, L, width] and styles [N, w_dim] to [N, L, width]."""
        x = x + self.attention(self.norm1(x, w))
        out: Tensor = x + self.feed_forward(self.norm2(x, w))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each after a normalisation and added to its input."""

    def __init__(self, width: int, inner: int, heads: int, *, similarity: Similarity, style: WeightStyle) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, similarity=similarity, style=style)
        self.feed_forward = FeedForward(width, inner, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [N, L, width] to the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out


class LinearPainter(nn.Module):
    """One linear function from a token to all pixels of its patch."""

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.linear = SpectralLinear(width, channels * patch**2, style=_PLAIN)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [N, L, width] to [N, L, channels * patch * patch]."""
        pixels: Tensor = self.linear(tokens)
        return pixels


class ImplicitPainter(nn.Module):
    """A network of sines (Sitzmann et al. 2020) from a place in a patch to its colour, modulated by the token.

    Args:
        width: of a token, and of the hidden layer.
        channels: of the image.
        patch: height and width.
    """

    places: Tensor

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.register_buffer("places", torch.empty(patch**2, 2), persistent=False)
        self.encoding = SpectralLinear(2, width, style=WeightStyle("xavier", spectral=False))
        self.gain = SpectralLinear(width, width, style=_PLAIN)
        self.shift = SpectralLinear(width, width, style=_PLAIN)
        self.to_pixel = SpectralLinear(width, channels, style=_PLAIN)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the places, from -pi to pi in both directions."""
        line = (torch.arange(self.patch, device=self.places.device) + 0.5) / self.patch * 2.0 - 1.0
        self.places.copy_(torch.cartesian_prod(line, line) * torch.pi)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [N, L, width] to [N, L, channels * patch * patch]."""
        waves = torch.sin(self.encoding(self.places).float())
        gain, shift = (layer(tokens)[:, :, None] for layer in (self.gain, self.shift))
        pixels: Tensor = self.to_pixel(torch.sin(waves.to(gain.dtype) * (1.0 + gain) + shift))
        return pixels.transpose(2, 3).flatten(2)


def _grid(image: ImageSpec, patch: int) -> tuple[int, int]:
    _, height, width = image.shape
    if height % patch or width % patch:
        raise ValueError(f"vit: images of {height}x{width} do not divide into patches of {patch} pixels")
    return height // patch, width // patch
