"""Several ranks compute what one computes, second order included; and each silent trap has its test."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bigtrain.checkpoint.contents import join, split
from bigtrain.distributed.collectives import RunningMeans
from bigtrain.distributed.init import Ranks
from bigtrain.engine.optimizers import AdamConfig
from bigtrain.engine.player import Phase, Player
from bigtrain.engine.strategy import Strategy
from bigtrain.models import Discriminator, ImageSpec
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.single import SingleConfig
from tests.distributed.ranks import on_ranks
from tests.float64 import float64
from tests.training import STRATEGIES, STYLEGAN2, Training, distance

IMAGE = ImageSpec(32, 1, 3)
GLOBAL_BATCH = 16
GROWTH = {"first": 8, "stable_kimg": 0.016, "fade_kimg": 0.032}
JUDGE = {**STYLEGAN2["discriminator"], "channel_base": 128}
FAMILIES = {
    "biggan": {
        "generator": {"kind": "biggan", "z_dim": 8, "width": 4, "multiples": [4, 2, 2, 1]},
        "discriminator": {"kind": "biggan", "width": 4, "multiples": [1, 2, 2, 2]},
    },
    "stylegan2": {
        "generator": {**STYLEGAN2["generator"], "channel_base": 128},
        "discriminator": {**JUDGE, "mbstd_group": 2},
    },
    "stylegan3": {
        "generator": {
            "kind": "stylegan3",
            "z_dim": 8,
            "w_dim": 8,
            "layers": 4,
            "channel_base": 128,
            "channel_max": 8,
            "magnitude_decay": 0.5,
        },
        "discriminator": {**JUDGE, "mbstd_channels": 0},
    },
    "progan": {
        "generator": {"kind": "progan", "z_dim": 8, "channel_base": 128, "channel_max": 8, "growth": GROWTH},
        "discriminator": {
            "kind": "progan",
            "channel_base": 128,
            "channel_max": 8,
            "mbstd_group": 2,
            "growth": GROWTH,
        },
    },
}
STATISTICS_OVER_RANKS = ("biggan", "stylegan3")
WORLDS = [("ddp", 2), pytest.param(("ddp", 4), marks=pytest.mark.slow), ("flat", 2), ("fsdp", 2)]


def train(
    family: str,
    precision: str,
    micro_batch: int,
    steps: int = 4,
    *,
    strategy: str | None = None,
    freeze: bool = True,
) -> dict[str, Any]:
    """Train a few steps on this rank's share of fixed batches."""
    config = {
        **FAMILIES[family],
        "objective": {"terms": {"r1": {"gamma": 1.0, "interval": 2}}},
        # With its usual epsilon Adam makes a full step of either sign out of a gradient that is only rounding.
        "optim": {"G": {"lr": 1e-3, "eps": 1e-4}, "D": {"lr": 1e-3, "eps": 1e-4}},
    }
    training = Training(
        config,
        IMAGE,
        global_batch=GLOBAL_BATCH,
        micro_batch=micro_batch,
        precision=precision,
        strategy=strategy,
    )
    if freeze:
        return training.run(steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigtrain.engine.step.freeze_rivals", _rivals_left_trainable)
        return training.run(steps)


def _rivals_left_trainable(strategies: Mapping[str, Strategy], player: str) -> dict[str, Any]:
    """Do what `freeze_rivals` does, without the freeze."""
    rivals: dict[str, Any] = {}
    for name, strategy in strategies.items():
        if name != player:
            rivals.update(strategy.infer())
    return rivals


def _train_all(strategy: str | None) -> dict[str, dict[str, Any]]:
    # BigGAN's and StyleGAN3's statistics are those of a micro-batch over all ranks, so one micro-batch a step keeps
    # them over the same 16 samples; the others' are those of a micro-batch alone, so the same 4 on any number of ranks.
    whole = GLOBAL_BATCH // dist.get_world_size()
    with float64():
        return {
            family: train(family, "fp32", whole if family in STATISTICS_OVER_RANKS else 4, strategy=strategy)
            for family in FAMILIES
        }


@cache
def _expected(family: str) -> dict[str, Any]:
    with float64():
        return train(family, "fp32", GLOBAL_BATCH if family in STATISTICS_OVER_RANKS else 4)


@pytest.fixture(scope="module", params=WORLDS, ids=str)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    strategy, world_size = request.param
    return on_ranks(world_size, _train_all, tmp_path_factory.mktemp("ranks"), strategy)


@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_compute_what_one_computes(family: str, ranks: list[dict[str, Any]], alone: None) -> None:
    expected = _expected(family)
    for result in ranks:
        assert distance(result[family], ranks[0][family]) == 0.0, "the ranks drifted apart"
        assert distance(result[family], expected) < 1e-10
        for name, value in expected["means"].items():
            assert result[family]["means"][name] == pytest.approx(value, rel=1e-10, abs=1e-12), name


def test_each_weight_of_d_is_moved_once_a_step(alone: None) -> None:
    """Trap: in a phase that is R1 alone, D's last bias has no gradient, or with the usual tie one of zero too many."""
    training = Training({"objective": {"terms": {"r1": {"gamma": 1.0, "interval": 2}}}})
    training.run(4)
    moments = training.strategies["D"].state_dict()["optimizer"]
    assert {name: float(moment["step"]) for name, moment in moments.items()} == dict.fromkeys(moments, 4.0)


@pytest.mark.parametrize("family", ["biggan", "stylegan2"])
def test_a_rival_that_is_not_frozen_is_noticed(family: str, tmp_path: Path, alone: None) -> None:
    """The guard's own test: without the freeze, DDP averages G's step into D's gradients, and says nothing."""
    micro_batch = 8 if family in STATISTICS_OVER_RANKS else 4
    expected = _expected(family)
    (wrong, _) = on_ranks(2, _train_unfrozen, tmp_path, family, micro_batch)
    assert distance(wrong, expected) > 1e-2


def _train_unfrozen(family: str, micro_batch: int) -> dict[str, Any]:
    with float64():
        return train(family, "fp32", micro_batch, freeze=False)


def test_bf16_stays_near_fp32(tmp_path: Path, alone: None) -> None:
    exact = train("stylegan2", "fp32", 8, steps=2)
    (rough, _) = on_ranks(2, _train_short, tmp_path, "stylegan2", "bf16", 8)
    for name in ("loss/d_main", "loss/g_main"):
        assert rough["means"][name] == pytest.approx(exact["means"][name], rel=0.03), name


def _train_short(family: str, precision: str, micro_batch: int) -> dict[str, Any]:
    return train(family, precision, micro_batch, steps=2)


def test_several_ranks_are_refused_by_the_strategy_for_one() -> None:
    with pytest.raises(ValueError, match="use 'ddp'"):
        SingleConfig().check_ranks(2)


class Plain(nn.Module):
    """The least that a strategy trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, phase: Any, batch: Any, rivals: Any) -> Any:
        return (self.weight * batch).sum(), {}

    def networks(self) -> dict[str, nn.Module]:
        return {}


def _step_with_a_nan_on_one_rank() -> Any:
    player = Plain()
    strategy = DDPConfig().build(player, AdamConfig(lr=0.1), "fp32", 1, None)
    rank = dist.get_rank()
    skipped = []
    for bad in (False, True, False):
        value = torch.full((3,), float("nan")) if bad and rank == 1 else torch.ones(3)
        loss, _ = strategy.loss(None, value, {}, last_micro=True)
        strategy.backward(loss)
        skipped.append(float(strategy.step({"lr": 0.1, "betas": (0.0, 0.99)})["skipped_step"]))
    return skipped, player.weight.detach()


def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all(tmp_path: Path) -> None:
    (first, weight), (second, other) = on_ranks(2, _step_with_a_nan_on_one_rank, tmp_path)
    assert first == second == [0.0, 1.0, 0.0]
    assert torch.equal(weight, other)
    torch.testing.assert_close(weight, torch.full((3,), 0.8))


class Shapes(Player):
    """Parameters of all kinds: even and uneven over two ranks, channels_last, scalar; and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Inner()

    def forward(self, phase: Any, batch: Any, rivals: Any) -> Any:
        return self.net(batch), {}


class Inner(Discriminator):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3).to(memory_format=torch.channels_last)
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def features(self, image: Any, label: Any) -> Any:
        return [self.conv(image)]

    def head(self, feature: Any, label: Any) -> Any:
        return feature.square().sum() * self.gain

    def forward(self, image: Any, label: Any = None) -> Any:
        return self.head(self.features(image, label)[-1], label)


def _hand_over() -> Any:
    """Three steps with one strategy, the rest with another that loads its state."""
    rank = dist.get_rank()
    ranks = Ranks(rank, 2, rank, torch.device("cpu"))
    torch.manual_seed(0)
    ends = []
    for first, second in (("ddp", "ddp"), ("ddp", "fsdp"), ("fsdp", "ddp")):
        state: Any = None
        for name in (first, second):
            torch.manual_seed(rank + 1)  # the ranks' own weights must not matter
            strategy = STRATEGIES[name].build(Shapes(), AdamConfig(lr=0.1), "fp32", 1, ranks)
            if state is None:
                state = {"player": {key: value * 0 + 0.3 for key, value in strategy.full_params()}, "optimizer": {}}
            strategy.load_state_dict(copy.deepcopy(state))
            for step in range(3):
                image = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(10 * step + rank))
                loss, _ = strategy.loss(Phase("main", "D"), image, {}, last_micro=True)
                strategy.backward(loss)
                strategy.step({"lr": 0.01, "betas": (0.5, 0.99)})
            structure, tensors = split(strategy.state_dict())
            state = join(structure, {key: strategy._whole(value) for key, value in tensors.items()})
        ends.append(state)
    return ends


def test_a_strategy_goes_on_from_the_state_of_another(tmp_path: Path) -> None:
    for straight, *others in on_ranks(2, _hand_over, tmp_path):
        for other in others:
            torch.testing.assert_close(other, straight)


def _means() -> Any:
    rank = dist.get_rank()
    means = RunningMeans()
    means.add({"a": torch.tensor(1.0 + rank), "b": 10.0})
    state = means.state_dict()
    resumed = RunningMeans()
    resumed.load_state_dict(state)
    for one in (means, resumed):
        one.add({"a": torch.tensor(5.0)})
    return means.read(), resumed.read(), means.read()


def test_means_are_over_ranks_and_survive_a_resume(tmp_path: Path) -> None:
    for straight, resumed, after in on_ranks(2, _means, tmp_path):
        assert straight == resumed == {"a": 3.25, "b": 10.0}
        assert after == {}
