"""Compiled networks train as plain ones do, and stay out of second derivatives."""

from typing import Any

import pytest
import torch

from bigtrain.core.config import parse_config
from bigtrain.tasks.compiled import CompiledNetwork
from bigtrain.tasks.synthesis import SynthesisConfig
from tests.training import STYLEGAN2, Training, distance

pytestmark = pytest.mark.usefixtures("alone")
TERMS = {"r1": {"gamma": 1.0, "interval": 2}, "path_length": {"interval": 2}}


@pytest.fixture(autouse=True)
def _without_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same capture, derivatives and choice of what is kept as with inductor, whose code takes minutes to build."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda method, mode: compile_(method, backend="aot_eager_decomp_partition"))


BIGGAN = {
    "generator": {"kind": "biggan", "z_dim": 8, "width": 4, "multiples": [2, 1]},
    "discriminator": {"kind": "biggan", "width": 4, "multiples": [1, 2], "halvings": 1},
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo's own looking around
@pytest.mark.parametrize("networks", [pytest.param(STYLEGAN2, marks=pytest.mark.slow), BIGGAN])
def test_compiled_networks_train_as_plain_ones_do(networks: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("__call__", "__getattr__"):
        original: Any = getattr(CompiledNetwork, name)

        def note(self: Any, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
            calls.append("compiled")
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(CompiledNetwork, name, note)
    terms = TERMS if networks is STYLEGAN2 else {"r1": TERMS["r1"]}
    plain = Training({**networks, "objective": {"terms": terms}}).run(4)
    assert not calls
    compiled = Training({**networks, "objective": {"terms": terms}, "compile": True}).run(4)
    assert calls
    assert distance(plain, compiled) < 1e-4


def test_cuda_graphs_are_recorded_by_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU can show: PyTorch is asked for them, and told where a step begins."""
    modes, steps = [], []
    monkeypatch.setattr(torch, "compile", lambda method, mode: modes.append(mode) or method)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1))
    Training({"objective": {"terms": TERMS}, "compile": "cuda_graphs"}).run(2)
    assert set(modes) == {"reduce-overhead"}
    assert len(steps) == 2


def test_what_is_compiled_has_no_second_derivative() -> None:
    """The reason for the rule: the day this fails, the rule may go."""
    training = Training({})
    D = CompiledNetwork(training.task.players["D"].networks()["D"])
    batch = training.batch(0)
    real = batch["image"].requires_grad_()
    (slope,) = torch.autograd.grad(D(real, batch.label()).sum(), real, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.square().sum().backward()


def test_a_penalty_in_every_step_is_refused() -> None:
    objective = {"terms": {"r1": {"gamma": 1.0}}}
    optim = {"G": {"lr": 1e-3}, "D": {"lr": 1e-3}}
    config = parse_config(
        SynthesisConfig,
        {**STYLEGAN2, "optim": optim, "global_batch": 8, "objective": objective, "compile": True},
        source="test",
    )
    with pytest.raises(ValueError, match=r"terms.r1.interval=16"):
        config._check_compile()
