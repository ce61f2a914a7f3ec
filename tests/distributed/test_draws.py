"""Ranks see what one process sees: latents, classes, mixing, noise and augmentation come from the sample's number."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bigtrain.models import ImageSpec
from tests.distributed.ranks import on_ranks
from tests.training import STYLEGAN2, Training

IMAGE = ImageSpec(16, 3, 3)
EVERY_DRAW = {
    "generator": {**STYLEGAN2["generator"], "channel_base": 128},
    "discriminator": {**STYLEGAN2["discriminator"], "channel_base": 128},
    "objective": {"style_mixing": 0.5, "instance_noise": 0.05, "terms": {"wgan_gp": {}, "path_length": {}}},
    "optim": {"G": {"lr": 1e-12}, "D": {"lr": 1e-12}},  # the weights stay: what differs then is a draw
    "augment": {"kind": "ada", "transforms": "bgcfnc", "probability": {"kind": "fixed", "p": 0.7}},
}
STEPS = 2

Shown = list[list[Tensor]]
"""For each micro-batch of each phase, in turn, what D was shown in each of its calls."""


def _train() -> Shown:
    training = Training(EVERY_DRAW, IMAGE)
    shown: Shown = []
    D: Any = training.task.players["D"].networks()["D"]
    D.features = _noting_images(D.features, shown)
    for strategy in training.strategies.values():
        strategy.loss = _noting(strategy.loss, shown)  # type: ignore[method-assign]
    for _ in range(STEPS):
        training.step()
    return shown


def _noting(loss: Any, shown: Shown) -> Any:
    """Begin a list for each micro-batch of each phase."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        shown.append([])
        return loss(*args, **kwargs)

    return noted


def _noting_images(features: Any, shown: Shown) -> Any:
    def noted(image: Tensor, label: Tensor) -> Any:
        shown[-1].append(image.detach().clone())
        return features(image, label)

    return noted


def _in_order(ranks: list[Shown]) -> list[Tensor]:
    """Return what D was shown in each call of each step and phase: images of all micro-batches, of all ranks."""
    micro_batches = len(ranks[0]) // (2 * STEPS)  # of a phase; two phases a step
    found = []
    for first in range(0, len(ranks[0]), micro_batches):
        calls = len(ranks[0][first])
        assert calls
        for call in range(calls):
            parts = [rank[first + number][call] for rank in ranks for number in range(micro_batches)]
            found.append(torch.cat(parts))
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> list[Tensor]:
    return _in_order(on_ranks(1, _train, tmp_path_factory.mktemp("one")))


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_d_is_shown_the_same_on_any_number_of_ranks(world_size: int, one: list[Tensor], tmp_path: Path) -> None:
    several = _in_order(on_ranks(world_size, _train, tmp_path))
    assert len(several) == len(one)
    for ours, theirs in zip(several, one, strict=True):
        assert len(theirs) == 16 and theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
