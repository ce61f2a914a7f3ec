import math

import pytest
import torch

from bigtrain.objectives.adversarial import ADVERSARIAL
from bigtrain.objectives.regularizers import r1_penalty


def test_the_games_equal_their_equations() -> None:
    real, fake = torch.tensor([0.5, -2.0]), torch.tensor([1.5, -0.3])
    sigmoid = torch.sigmoid
    game = ADVERSARIAL["non_saturating"]
    torch.testing.assert_close(game.discriminator(real, fake), -sigmoid(real).log() - (1 - sigmoid(fake)).log())
    torch.testing.assert_close(game.generator(fake), -sigmoid(fake).log())
    game = ADVERSARIAL["hinge"]
    torch.testing.assert_close(game.discriminator(real, fake), torch.tensor([0.5 + 2.5, 3.0 + 0.7]))
    torch.testing.assert_close(game.generator(fake), -fake)


def test_at_chance_the_discriminator_loses_two_log_two() -> None:
    loss = ADVERSARIAL["non_saturating"].discriminator(torch.zeros(1), torch.zeros(1))
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_r1_of_a_linear_discriminator_is_the_norm_of_its_weight() -> None:
    weight = torch.randn(3, 4, 4)
    real = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = r1_penalty((real * weight).sum((1, 2, 3)), real)
    torch.testing.assert_close(penalty, weight.square().sum().expand(5))
