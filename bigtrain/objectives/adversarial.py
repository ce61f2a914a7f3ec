"""Adversarial losses: pure functions of logits, one value a sample, to be averaged by the caller."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor


def non_saturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss -log D(x) - log(1 - D(G(z))), with D = sigmoid(logit) (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-real) + F.softplus(fake)


def non_saturating_g(fake: Tensor) -> Tensor:
    """Generator's loss -log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017, eq. 5)."""
    return F.relu(1 - real) + F.relu(1 + fake)


def hinge_g(fake: Tensor) -> Tensor:
    """Generator's loss -D(G(z)) (Lim & Ye 2017, eq. 6)."""
    return -fake


class Adversarial(NamedTuple):
    """The two sides of a game; both map logits of shape [N] to losses of shape [N]."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


AdversarialName = Literal["non_saturating", "hinge"]

ADVERSARIAL: dict[AdversarialName, Adversarial] = {
    "non_saturating": Adversarial(non_saturating_d, non_saturating_g),
    "hinge": Adversarial(hinge_d, hinge_g),
}
"""Every game by its name in a config."""
