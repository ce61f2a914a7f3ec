"""The optimizers: what each computes, and that a step whose gradient is not finite leaves all as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.engine.optimizers import AdamConfig, RMSpropConfig
from bigtrain.engine.task import TaskConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from tests.training import OPTIMIZERS, STYLEGAN2


def weights(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((4, 3), (5,), ())]


def take_step(optimizer: Any, parameters: list[Tensor], seed: int, *, lr: float = 0.01) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def test_rmsprop_is_that_of_torch() -> None:
    mine, theirs = weights(), weights()
    ours = RMSpropConfig(kind="rmsprop", lr=0.01, alpha=0.9, eps=1e-6).build(mine)
    twin = torch.optim.RMSprop(theirs, lr=0.01, alpha=0.9, eps=1e-6)
    for step in range(5):
        take_step(ours, mine, step)
        take_step(twin, theirs, step)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.state[one]["square_avg"], twin.state[other]["square_avg"])


TWINS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, betas=(0.0, 0.99), fused=False),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, betas=(0.0, 0.99), weight_decay=0.1, fused=False),
    "sgd": lambda parameters: torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.1, nesterov=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, alpha=0.99),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_kind_goes_by_its_settings(kind: str) -> None:
    config = OPTIMIZERS[kind]
    mine, theirs = weights(), weights()
    ours, twin = config.build(mine), TWINS[kind](theirs)
    settings = config.settings_at(0, 1000, global_batch=8)
    for step in range(3):
        for group in ours.param_groups:
            group.update(settings)
        take_step(ours, mine, step, lr=settings["lr"])
        take_step(twin, theirs, step, lr=settings["lr"])
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert {key for key in ours.state[mine[0]] if key != "step"} == set(config.moments)
    assert ("step" in ours.state[mine[0]]) == config.counts_steps


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_skipped_step_leaves_weights_and_moments(kind: str, steps_before: int) -> None:
    """With `found_inf` set, as the strategies set it where a gradient is not finite."""
    mine, undisturbed = weights(), weights()
    optimizers = [OPTIMIZERS[kind].build(parameters) for parameters in (mine, undisturbed)]
    for optimizer, parameters in zip(optimizers, (mine, undisturbed), strict=True):
        for step in range(steps_before):
            optimizer.found_inf = torch.zeros(())
            take_step(optimizer, parameters, step)
    for parameter in mine:
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizers[0].found_inf = torch.ones(())
    optimizers[0].step()
    for optimizer, parameters in zip(optimizers, (mine, undisturbed), strict=True):
        optimizer.found_inf = torch.zeros(())
        take_step(optimizer, parameters, steps_before)
    for one, other in zip(mine, undisturbed, strict=True):
        assert torch.equal(one, other)
        for key, value in optimizers[1].state[other].items():
            assert torch.equal(optimizers[0].state[one][key], value), key


def parsed(optim: dict[str, Any]) -> TaskConfig:
    return parse_config(SynthesisConfig, {**STYLEGAN2, "optim": optim, "global_batch": 8}, source="test")


def test_without_a_kind_it_is_adam() -> None:
    assert parsed({"G": {"lr": 1e-3}, "D": {"kind": "rmsprop", "lr": 1e-3}}).optim["G"] == AdamConfig(lr=1e-3)


@pytest.mark.parametrize(
    ("optim", "words"),
    [
        ({"G": {"lrr": 1}}, r"unknown key 'optim.G.lrr' \(did you mean 'optim.G.lr'\?\)"),
        ({"G": {"kind": "adm", "lr": 1}}, r"unknown optim.G.kind 'adm' \(did you mean 'adam'\?\)"),
        ({"G": {"kind": "sgd", "lr": 1, "beta1": 0.5}}, "unknown key 'optim.G.beta1'"),
        ({"G": {"kind": "sgd", "lr": 1, "momentum": 0, "nesterov": True}}, "'optim.G': nesterov needs a momentum"),
        ({"G": {"lr": 1, "beta2": 1.0}}, "'optim.G': beta2 must stay below 1"),
        ({"G": {"kind": "rmsprop", "lr": 1, "alpha": 1.0}}, "'optim.G.alpha': input should be less than 1"),
        ({"G": {"lr": {"kind": "linaer", "value": 1}}}, r"unknown optim.G.lr.kind 'linaer' \(did you mean 'linear'"),
    ],
)
def test_a_mistake_is_told_with_its_key(optim: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parsed({"D": {"lr": 1e-3}, **optim})
