"""Sampling from the generator during training."""

from typing import Any

import torch
from torch import Tensor

from bigtrain.core.rng import Draws


def sample(generator: Any, z: Tensor, label: Tensor, draws: Draws, *, style_mixing: float = 0.0) -> Tensor:
    """Generate images from latents, some of them with the styles of two.

    Args:
        generator: a `Generator`; a `StyleGenerator` where styles are mixed.
        z: shape [N, z_dim].
        label: as in `Generator.forward`.
        draws: of these samples in this phase.
        style_mixing: share of images with a second latent's styles from a random layer on.

    Returns:
        Shape [N, C, H, W].
    """
    if not style_mixing:
        image: Tensor = generator(z, label, draws=draws)
        return image
    mixed: Tensor = generator.synthesize(styles_of(generator, z, label, draws, style_mixing), draws=draws)
    return mixed


def styles_of(generator: Any, z: Tensor, label: Tensor, draws: Draws, style_mixing: float) -> Tensor:
    """Return the styles of latents, some of them mixed with another's; see `sample` for the arguments.

    Returns:
        Shape [N, layers, w_dim].
    """
    styles: Tensor = generator.styles(z, label)
    if not style_mixing:
        return styles
    other = draws.of("mixing/z").normal(generator.z_dim)
    return mix_styles(styles, generator.styles(other, label), draws.of("mixing"), style_mixing)


def mix_styles(styles: Tensor, others: Tensor, draws: Draws, probability: float) -> Tensor:
    """Take the layers from a random one on from other styles (Karras et al. 2019, section 3.1).

    Args:
        styles: shape [N, layers, w_dim].
        others: the same shape.
        draws: one sample each.
        probability: share of samples that are mixed.

    Returns:
        The same shape.
    """
    layers = styles.shape[1]
    crossover = 1 + draws.of("crossover").integers(max(layers - 1, 1), 1)
    unmixed = draws.of("share").uniform(1) >= probability
    own = unmixed | (torch.arange(layers, device=styles.device) < crossover)
    return torch.where(own[:, :, None], styles, others)
