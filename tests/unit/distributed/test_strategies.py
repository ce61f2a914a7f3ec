"""What a step does to gradients and weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigtrain.engine.optimizers import AdamConfig
from bigtrain.engine.player import Phase, Player
from bigtrain.strategies.single import SingleConfig


class Line(Player):
    """A loss whose gradient is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -0.5]))

    def forward(self, phase: Phase, batch: Any, rivals: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.weight * batch).sum(), {}


USUAL = {"lr": 0.1, "betas": (0.0, 0.99)}


def step(gradient: list[float], rates: dict[str, Any] = USUAL, **limits: float) -> tuple[Any, Tensor, Tensor]:
    """Return what the step reports, the gradient that Adam saw, and the new weights."""
    player = Line()
    strategy = SingleConfig().build(player, AdamConfig(lr=0.1, **limits), "fp32", 1, None)
    loss, _ = strategy.loss(Phase("line", "L"), torch.tensor(gradient), {}, last_micro=True)
    strategy.backward(loss)
    stats = strategy.step(rates)
    moment = strategy.state_dict()["optimizer"]["weight"]["exp_avg"] / (1 - rates["betas"][0])
    return stats, moment, player.weight.detach()


def test_a_gradient_is_scaled_down_to_its_largest_norm_and_reported_as_it_was() -> None:
    stats, seen, _ = step([3.0, 4.0], clip_norm=1.0)
    torch.testing.assert_close(seen, torch.tensor([0.6, 0.8]))
    assert stats["gradient_norm"].item() == pytest.approx(5.0)
    torch.testing.assert_close(step([0.3, 0.4], clip_norm=1.0)[1], torch.tensor([0.3, 0.4]))


def test_each_element_of_a_gradient_is_bounded() -> None:
    torch.testing.assert_close(step([3.0, -0.1], clip_value=0.25)[1], torch.tensor([0.25, -0.1]))


def test_weights_are_bounded_after_the_step() -> None:
    torch.testing.assert_close(step([-1.0, -1.0], weight_limit=0.55)[2], torch.tensor([0.55, -0.4]))


def test_adam_goes_by_the_rates_of_the_step() -> None:
    _, seen, weight = step([2.0, 2.0], {"lr": 0.2, "betas": (0.5, 0.9)})
    torch.testing.assert_close(seen, torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(weight, torch.tensor([0.3, -0.7]))
