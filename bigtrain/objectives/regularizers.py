"""Regularisers as pure functions; each tells its equation and its shape."""

from collections.abc import Callable

import torch
from torch import Tensor

from bigtrain.ops.precision import gradients_of

LogitsFunction = Callable[[Tensor], Tensor]


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Zero-centred gradient penalty on real images, |∇ₓ D(x)|² (Mescheder et al. 2018, R1).

    Args:
        logits: D(real), shape [N] or [N, K], attached to `real`.
        real: images in [-1, 1], shape [N, C, H, W], requiring grad.

    Returns:
        Shape [N], float32; multiply it by gamma / 2.
    """
    return _squared_slope(logits, real)


def r2_penalty(logits: Tensor, fake: Tensor) -> Tensor:
    """Zero-centred gradient penalty on generated images, |∇ₓ D(G(z))|² (Mescheder et al. 2018, R2).

    Args:
        logits: D(fake), shape [N] or [N, K], attached to `fake`.
        fake: shape [N, C, H, W], requiring grad.

    Returns:
        Shape [N], float32; multiply it by gamma / 2.
    """
    return _squared_slope(logits, fake)


def squared_slope_by_differences(logits_of: LogitsFunction, logits: Tensor, image: Tensor, h: float) -> Tensor:
    """The gradient of R1 or R2 without differentiating twice.

    With v = ∇ₓ Σ D(x), constant: ∇_θ |v|² = 2 v · ∇_θ v, and v · ∇_θ v is the derivative of ∇_θ Σ D along v, here the
    central difference over a step along v. The error is of order h².

    Args:
        logits_of: images [N, C, H, W] to D's logits of them, as `logits` are those of `image`.
        logits: D(image), shape [N] or [N, K], attached to `image`.
        image: shape [N, C, H, W], requiring grad.
        h: length of the step, the root mean square over images.

    Returns:
        Shape [], float32: its value is the mean of |v|² over images, its gradient in D's weights is that of it.
    """
    (gradient,) = gradients_of(logits.sum(), [image], create_graph=False)
    length = gradient.float().norm().clamp_min(torch.finfo(torch.float32).tiny)
    step = h * len(image) ** 0.5
    away = (step * gradient / length).detach()
    x = image.detach()
    along = (logits_of(x + away).float() - logits_of(x - away).float()).sum() / (2 * step)
    surrogate = 2 * length * along
    value: Tensor = surrogate - surrogate.detach() + length.square()
    return value / len(image)


def change_under_noise(logits_of: LogitsFunction, logits: Tensor, image: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """How far logits move with a little noise, ((D(x) - D(x + σε)) / σ)² (Lin et al. 2025, arXiv 2501.08316).

    Its mean over ε tends to the squared slope as σ tends to 0, but one ε is a rough guess of it: a regulariser of its
    own, for networks that cannot be differentiated twice.

    Args:
        logits_of: images [N, C, H, W] to D's logits of them, as `logits` are those of `image`.
        logits: D(image), shape [N] or [N, K].
        image: shape [N, C, H, W].
        noise: ε, standard normal, shaped like `image`.
        sigma: σ, for images in [-1, 1].

    Returns:
        Shape [N], float32.
    """
    change = logits_of(image.detach() + sigma * noise).float() - logits.float()
    return (change.reshape(len(image), -1).sum(1) / sigma).square()


def slope_to_one(logits: Tensor, image: Tensor) -> Tensor:
    """Distance of D's slope from one, (|∇ₓ D(x)| - 1)² (Gulrajani et al. 2017, equation 3).

    Args:
        logits: D(image), shape [N] or [N, K], attached to `image`.
        image: shape [N, C, H, W], requiring grad.

    Returns:
        Shape [N], float32; multiply it by lambda.
    """
    return ((_squared_slope(logits, image) + 1e-12).sqrt() - 1).square()


def path_lengths(image: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """How far an image moves with its style: |Jᵀ y|, y a random image (Karras et al. 2020a, equation 4).

    Args:
        image: the synthesis of `styles`, shape [N, C, H, W].
        styles: shape [N, layers, w_dim], requiring grad.
        noise: standard normal, shaped like `image`.

    Returns:
        Lengths, the root mean square over layers, shape [N], float32, twice differentiable.
    """
    directions = noise / (image.shape[2] * image.shape[3]) ** 0.5
    (gradient,) = gradients_of((image * directions).sum(), [styles], create_graph=True)
    return gradient.float().square().sum(2).mean(1).sqrt()


def lecam_penalty(real: Tensor, fake: Tensor, real_average: Tensor, fake_average: Tensor) -> Tensor:
    """Distance of logits from the other side's moving average (Tseng et al. 2021, equation 5).

    (D(x) - α_F)² + (D(G(z)) - α_R)²

    Args:
        real: D(x), shape [N].
        fake: D(G(z)), shape [N].
        real_average: α_R, moving average of D(x), shape [].
        fake_average: α_F, moving average of D(G(z)), shape [].

    Returns:
        Shape [N].
    """
    return (real - fake_average).square() + (fake - real_average).square()


def off_orthogonal(weight: Tensor) -> Tensor:
    """Overlap between the rows of a weight, |W Wᵀ ⊙ (1 - I)|² (Brock et al. 2019, equation 3; their rows are filters).

    Args:
        weight: shape [O, ...]; seen as a matrix of O rows.

    Returns:
        Shape [], float32.
    """
    rows = weight.float().flatten(1)
    overlap = rows @ rows.t()
    return overlap.square().sum() - overlap.diagonal().square().sum()


def feature_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Distance of mean features, mean |E f(x) - E f(G(z))|² over their elements (Salimans et al. 2016, section 3.1).

    Args:
        real: f(x), shape [N, ...].
        fake: f(G(z)), the same shape.

    Returns:
        Shape [], float32.
    """
    return (real.float().mean(0) - fake.float().mean(0)).square().mean()


def _squared_slope(logits: Tensor, image: Tensor) -> Tensor:
    (gradient,) = gradients_of(logits.sum(), [image], create_graph=True)
    return gradient.float().square().sum(dim=tuple(range(1, gradient.ndim)))
