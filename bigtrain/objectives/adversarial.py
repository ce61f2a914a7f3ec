"""Adversarial games: pure functions of logits, one value a sample, to be averaged by the caller.

`real` is D(x) and `fake` is D(G(z)), both before any sigmoid, here written σ.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor


def non_saturating_d(real: Tensor, fake: Tensor, real_target: float = 1.0, fake_target: float = 0.0) -> Tensor:
    """Discriminator's loss -log σ(real) - log(1 - σ(fake)) (Goodfellow et al. 2014, equation 1).

    With targets a for real and b for fake it is the cross-entropy to them (Salimans et al. 2016, section 3.4):
    -a log σ(real) - (1 - a) log(1 - σ(real)) - b log σ(fake) - (1 - b) log(1 - σ(fake)).
    """
    return F.softplus(-real) + (1 - real_target) * real + F.softplus(fake) - fake_target * fake


def minimax_g(fake: Tensor) -> Tensor:
    """Generator's loss log(1 - σ(fake)), flat where D wins ("saturating"; Goodfellow et al. 2014, equation 1)."""
    return -F.softplus(fake)


def non_saturating_g(fake: Tensor) -> Tensor:
    """Generator's loss -log σ(fake) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def least_squares_d(real: Tensor, fake: Tensor, real_target: float = 1.0, fake_target: float = 0.0) -> Tensor:
    """Discriminator's loss (real - b)² / 2 + (fake - a)² / 2 with b = 1 and a = 0 (Mao et al. 2017, equation 2)."""
    return 0.5 * ((real - real_target).square() + (fake - fake_target).square())


def least_squares_g(fake: Tensor) -> Tensor:
    """Generator's loss (fake - c)² / 2 with c = 1 (Mao et al. 2017, equation 2)."""
    return 0.5 * (fake - 1).square()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """Critic's loss fake - real; needs a critic whose slope is bounded (Arjovsky et al. 2017, equation 2)."""
    return fake - real


def wasserstein_g(fake: Tensor) -> Tensor:
    """Generator's loss -fake (Arjovsky et al. 2017, theorem 3)."""
    return -fake


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss max(0, 1 - real) + max(0, 1 + fake) (Lim & Ye 2017, equation 5)."""
    return F.relu(1 - real) + F.relu(1 + fake)


def hinge_g(fake: Tensor) -> Tensor:
    """Generator's loss -fake (Lim & Ye 2017, equation 6)."""
    return -fake


def relativistic_pairing_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss -log σ(real - fake), a real against a fake (Huang et al. 2024, R3GAN, equation 2)."""
    return F.softplus(fake - real)


def relativistic_pairing_g(real: Tensor, fake: Tensor) -> Tensor:
    """Generator's loss -log σ(fake - real) (Huang et al. 2024, R3GAN, section 2.1)."""
    return F.softplus(real - fake)


def relativistic_average_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss -log σ(real - E fake) - log(1 - σ(fake - E real)) (Jolicoeur-Martineau 2019, RaSGAN).

    The expectations are means over the samples given: those of a micro-batch, which is the same slice of the global
    batch on any number of ranks.
    """
    return F.softplus(fake.mean(0) - real) + F.softplus(fake - real.mean(0))


def relativistic_average_g(real: Tensor, fake: Tensor) -> Tensor:
    """Generator's loss: the discriminator's with real and fake exchanged (Jolicoeur-Martineau 2019, RaSGAN)."""
    return relativistic_average_d(fake, real)


class Game(NamedTuple):
    """The two sides of a game; both map logits of shape [N] (or [N, K], several opinions) to losses of that shape.

    Attributes:
        discriminator: of (real, fake).
        generator: of fake; of (real, fake) if relativistic.
        neutral: the logit that means "cannot tell"; None where a logit has no meaning on its own.
        takes_targets: whether the discriminator's loss has targets that can be smoothed.
        relativistic: whether the generator's loss compares fakes with reals.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    neutral: float | None = 0.0
    takes_targets: bool = False
    relativistic: bool = False

    def with_targets(self, real: float, fake: float) -> "Game":
        """Return the game with smoothed targets for the discriminator; the generator's stay (one- or two-sided)."""
        return self._replace(discriminator=partial(self.discriminator, real_target=real, fake_target=fake))

    def generator_loss(self, real: Callable[[], Tensor], fake: Tensor) -> Tensor:
        """Return the generator's loss; `real` is asked for logits only where the game compares."""
        return self.generator(real(), fake) if self.relativistic else self.generator(fake)


GameName = Literal[
    "minimax",
    "non_saturating",
    "least_squares",
    "wasserstein",
    "hinge",
    "relativistic_pairing",
    "relativistic_average",
]

GAMES: dict[GameName, Game] = {
    "minimax": Game(non_saturating_d, minimax_g, takes_targets=True),
    "non_saturating": Game(non_saturating_d, non_saturating_g, takes_targets=True),
    "least_squares": Game(least_squares_d, least_squares_g, neutral=0.5, takes_targets=True),
    "wasserstein": Game(wasserstein_d, wasserstein_g, neutral=None),
    "hinge": Game(hinge_d, hinge_g),
    "relativistic_pairing": Game(relativistic_pairing_d, relativistic_pairing_g, neutral=None, relativistic=True),
    "relativistic_average": Game(relativistic_average_d, relativistic_average_g, neutral=None, relativistic=True),
}
"""Every game by its name in a config."""
