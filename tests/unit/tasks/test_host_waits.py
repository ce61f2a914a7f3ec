"""Whether the host can run ahead of a GPU through a whole step: whatever asks the device for a number makes it wait."""

import copy
from typing import Any

import pytest
import torch

from bigtrain.core.schedules import ConstantSchedule
from bigtrain.engine.ema import EMA, EMAConfig
from tests.task_training import TASKS, TaskTraining
from tests.training import Training
from tests.waits import Waits

pytestmark = pytest.mark.usefixtures("alone")

BIGGAN = {
    "generator": {"kind": "biggan", "width": 8, "z_dim": 8, "multiples": [1, 1], "attention": [8]},
    "discriminator": {"kind": "biggan", "width": 8, "multiples": [1, 1], "halvings": 1},
}
EVERYTHING = {
    "style_mixing": 0.9,
    "instance_noise": 0.1,
    "terms": {
        "r1": {"gamma": 1.0, "interval": 2},
        "r2": {"gamma": 1.0},
        "path_length": {"interval": 2},
        "lecam": {},
        "bcr": {},
    },
}


@pytest.mark.parametrize(
    "precision", ["fp32", "bf16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pure_bf16", "fp16"))]
)
@pytest.mark.parametrize(
    "config",
    [
        {"objective": EVERYTHING, "augment": {"kind": "ada", "transforms": "bgcfnc"}},
        {"objective": {"adversarial": "hinge", "n_critic": 2}, **BIGGAN, "augment": {"kind": "diffaugment"}},
    ],
    ids=["stylegan2", "biggan"],
)
def test_a_step_never_asks_the_device(config: dict[str, Any], precision: str) -> None:
    training = Training(config, precision=precision)
    average = EMA(
        EMAConfig(half_life_kimg=ConstantSchedule(value=1.0)), copy.deepcopy(training.task.averaged["G"]).float()
    )
    training.averages = {"G": average}
    training.run(1)  # constants are made, and sent to the device, at their first use
    with Waits() as waits:
        for _ in range(2):
            training.step()
    assert waits.found == []


@pytest.mark.parametrize("task", TASKS)
def test_a_step_of_a_translator_never_asks_the_device(task: str) -> None:
    training = TaskTraining(task)
    training.run(2)
    with Waits() as waits:
        training.run(2)
    assert waits.found == []


def test_what_waits_is_found() -> None:
    with Waits() as waits:
        x = torch.arange(3.0)
        _ = bool(x.sum() > 0), x[x > 1], x.nonzero()
    assert [name.removeprefix("aten.") for name in waits.found] == [
        "_local_scalar_dense.default",
        "index.Tensor",
        "nonzero.default",
    ]
