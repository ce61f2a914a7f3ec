import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.objectives.adversarial import GAMES, Game

REAL, FAKE = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([1.5, -0.3, -4.0])


def log_sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x.double()).log().float()


def expected() -> dict[str, tuple[Tensor, Tensor]]:
    """Each game's two losses, written with logarithms of probabilities, or by hand."""
    real, fake = REAL, FAKE
    saturating = -log_sigmoid(real) - log_sigmoid(-fake)
    centred_real, centred_fake = real - fake.mean(), fake - real.mean()
    return {
        "minimax": (saturating, log_sigmoid(-fake)),
        "non_saturating": (saturating, -log_sigmoid(fake)),
        "least_squares": (((real - 1) ** 2 + fake**2) / 2, (fake - 1) ** 2 / 2),
        "wasserstein": (fake - real, -fake),
        "hinge": (torch.tensor([0.5 + 2.5, 3.0 + 0.7, 0.0]), -fake),
        "relativistic_pairing": (-log_sigmoid(real - fake), -log_sigmoid(fake - real)),
        "relativistic_average": (
            -log_sigmoid(centred_real) - log_sigmoid(-centred_fake),
            -log_sigmoid(centred_fake) - log_sigmoid(-centred_real),
        ),
    }


def generator_loss(game: Game) -> Tensor:
    return game.generator_loss(lambda: REAL, FAKE)


@pytest.mark.parametrize("name", GAMES)
def test_the_games_equal_their_equations(name: str) -> None:
    game, (discriminator, generator) = GAMES[name], expected()[name]
    torch.testing.assert_close(game.discriminator(REAL, FAKE), discriminator)
    torch.testing.assert_close(generator_loss(game), generator)


@pytest.mark.parametrize("name", GAMES)
def test_each_side_wants_the_opposite_of_fakes(name: str) -> None:
    """One descent step of G raises D's logits of fakes, one of D lowers them and raises those of reals."""
    game = GAMES[name]
    real = torch.tensor([0.4, 0.2, 0.6]).requires_grad_()
    fake = torch.tensor([0.3, 0.7, 0.1]).requires_grad_()
    for_real, for_fake = torch.autograd.grad(game.discriminator(real, fake).mean(), [real, fake])
    assert for_real.mean() < 0 < for_fake.mean()
    (for_g,) = torch.autograd.grad(game.generator_loss(lambda: real, fake).mean(), fake)
    assert for_g.mean() < 0


@pytest.mark.parametrize("name", [name for name, game in GAMES.items() if game.neutral is not None])
def test_the_neutral_logit_is_where_equal_distributions_end(name: str) -> None:
    """Where D cannot tell, its best single answer is neutral."""
    game = GAMES[name]
    logit = torch.tensor([2.0], requires_grad=True)
    for _ in range(400):
        (slope,) = torch.autograd.grad(game.discriminator(logit, logit).sum(), logit)
        logit = (logit - 0.1 * slope).detach().requires_grad_()
    if name == "hinge":  # flat between -1 and 1
        assert logit.abs() <= 1
    else:
        assert logit.item() == pytest.approx(game.neutral, abs=1e-4)


def test_at_chance_the_discriminator_loses_two_log_two() -> None:
    loss = GAMES["non_saturating"].discriminator(torch.zeros(1), torch.zeros(1))
    assert loss.item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("real_target", "fake_target"), [(0.9, 0.0), (0.8, 0.1)])
def test_smoothed_targets_are_a_cross_entropy_to_them(real_target: float, fake_target: float) -> None:
    game = GAMES["non_saturating"].with_targets(real_target, fake_target)

    def entropy(logits: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")

    torch.testing.assert_close(game.discriminator(REAL, FAKE), entropy(REAL, real_target) + entropy(FAKE, fake_target))
    torch.testing.assert_close(generator_loss(game), generator_loss(GAMES["non_saturating"]))


def test_several_opinions_are_judged_one_by_one() -> None:
    real, fake = torch.randn(5, 3), torch.randn(5, 3)
    for name, game in GAMES.items():
        loss = game.discriminator(real, fake)
        columns = [game.discriminator(real[:, k], fake[:, k]) for k in range(3)]
        torch.testing.assert_close(loss, torch.stack(columns, dim=1), msg=name)
