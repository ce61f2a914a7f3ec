"""Perceptual path length (Karras et al. 2019, section 4.1): how much an image changes with a small step in latents."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.models.base import Generator, StyleGenerator

Distance = Callable[[Tensor, Tensor], Tensor]
"""Maps images [N, C, H, W] and others around [-1, 1] to a distance each, shape [N]."""

EPSILON = 1e-4
_LARGEST = 256
"""Larger images are averaged down to this, as in the paper's code."""

_TRIMMED = (1, 99)
"""Percentiles outside of which distances are left out."""

PATH_SETTINGS = f"epsilon {EPSILON:g}, percentiles {_TRIMMED[0]} to {_TRIMMED[1]}, at most {_LARGEST} pixels"
"""What a path length depends on, for its protocol."""


def path_lengths(
    generator: Generator,
    distance: Distance,
    draws: Draws,
    label: Tensor,
    *,
    space: Literal["z", "w"],
    along: Literal["full", "end"],
) -> Tensor:
    """Return the squared speed of each sample's path, d(G(t), G(t + epsilon)) / epsilon^2 (eq. 2 and 3).

    Args:
        generator: in evaluation mode; w is a style-based one's alone.
        distance: LPIPS.
        draws: of these samples; a sample's path goes between two of its latents.
        label: shape [N], the same at both ends.
        space: z is interpolated along the sphere, w linearly.
        along: `full` looks anywhere on the path, `end` at its beginning.

    Returns:
        float32, shape [N].

    Raises:
        EvaluationError: the generator has no w.
    """
    one, other = (draws.of(name).normal(generator.z_dim) for name in ("path/z0", "path/z1"))
    t = draws.of("path/t").uniform(1) if along == "full" else torch.zeros(len(draws), 1, device=one.device)
    if space == "z":
        images = [generator(slerp(one, other, t + step), label) for step in (0.0, EPSILON)]
    else:
        if not isinstance(generator, StyleGenerator):
            raise EvaluationError("path length in w needs a style-based generator; in z, any generator is possible")
        first, second = (generator.styles(z, label) for z in (one, other))
        images = [generator.synthesize(torch.lerp(first, second, t[:, :, None] + step)) for step in (0.0, EPSILON)]
    first_image, second_image = (_shrunk(image.float()) for image in images)
    return distance(first_image, second_image) / EPSILON**2


def trimmed_mean(lengths: Tensor) -> float:
    """Return the mean of what lies between the first and the last percentile."""
    values = lengths.double().numpy()
    low = np.percentile(values, _TRIMMED[0], method="lower")
    high = np.percentile(values, _TRIMMED[1], method="higher")
    return float(values[(low <= values) & (values <= high)].mean())


def slerp(one: Tensor, other: Tensor, t: Tensor) -> Tensor:
    """Interpolate directions along the great circle, and lengths linearly (Shoemake 1985).

    Args:
        one: shape [N, F].
        other: shape [N, F].
        t: from 0 to 1, shape [N, 1].

    Returns:
        Shape [N, F].
    """
    a, b = (F.normalize(side.double(), dim=1) for side in (one, other))
    cosine = (a * b).sum(1, keepdim=True)
    angle = t * cosine.clamp(-1, 1).acos()
    direction = a * angle.cos() + F.normalize(b - cosine * a, dim=1) * angle.sin()
    length = torch.lerp(one.norm(dim=1, keepdim=True), other.norm(dim=1, keepdim=True), t)
    return (direction * length).to(one.dtype)


def _shrunk(image: Tensor) -> Tensor:
    factor = image.shape[2] // _LARGEST
    return F.avg_pool2d(image, factor) if factor > 1 else image
