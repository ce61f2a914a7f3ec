"""Whether the host can run ahead of a GPU through a whole step: whatever asks the device for a number makes it wait."""

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bigtrain.ema import EMA, EMAConfig
from tests.training import Training

pytestmark = pytest.mark.usefixtures("alone")

ASKS = {
    torch.ops.aten._local_scalar_dense,  # item(), bool(), float(), tolist()
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.nonzero,
    torch.ops.aten.repeat_interleave,
    torch.ops.aten.unique_consecutive,
}
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


class Waits(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = operator.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if operator.overloadpacket in ASKS or by_mask:
            self.found.append(str(operator))
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16", "fp16"])
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
    average = copy.deepcopy(training.task.generator()).float()
    ema = EMA(EMAConfig(half_life_kimg={"kind": "constant", "value": 1.0}), average)
    training.run(1)  # constants are made, and sent to the device, at their first use
    with Waits() as waits:
        for _ in range(2):
            training.step()
            live = training.strategies["G"].full_params()
            ema.update(((name.removeprefix("G."), value) for name, value in live), training.progress)
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
