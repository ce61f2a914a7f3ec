"""DeepSpeed's strategies: what a step does to gradients and weights, and a state that goes from one to another."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from bigtrain.core.errors import UserError
from bigtrain.distributed.init import Ranks
from bigtrain.engine.optimizers import AdamConfig
from bigtrain.engine.player import Phase
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from tests.distributed.ranks import on_ranks
from tests.distributed.test_strategies import Shapes
from tests.training import SMALL, STRATEGIES, Training, distance
from tests.unit.distributed.test_strategies import Line

pytestmark = pytest.mark.timeout(900)  # the first test waits for all ranks
STAGES = ("zero0", "zero1", "zero2", "zero2_offload", "zero3")
CHAINS = (
    ("ddp",) * 5,
    ("zero1", "ddp", "zero3", "fsdp", "zero0"),
    ("zero3", "zero2", "zero2_offload", "zero1", "zero3_module"),
)
R1_ONCE = {
    "approximate": ({"sigma": 1.0}, {}),
    "central_difference": (
        {"h": 1.0},
        {"discriminator": {"kind": "vit", "patch": 4, "width": 8, "depth": 1, "heads": 2, "spectral": False}},
    ),
}
"""Methods of R1 that differentiate once, and what they need of D. Small steps would divide rounding by their length."""
USUAL = {"lr": 0.1, "betas": (0.0, 0.99)}


def place() -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size(), dist.get_rank(), torch.device("cpu"))


def step(name: str, gradient: list[float], **limits: float) -> Any:
    """What a step with the same gradient on all ranks reports, the moment and the weight it leaves."""
    strategy = STRATEGIES[name].build(Line(), AdamConfig(lr=0.1, **limits), "fp32", 1, place())
    stats = one_step(strategy, torch.tensor(gradient))
    state = strategy.state_dict()
    moments = state["optimizer"]["weight"]
    return {
        "norm": stats["gradient_norm"].item(),
        "skipped": stats["skipped_step"].item(),
        "seen": moments["exp_avg"] if moments else None,
        "weight": state["player"]["weight"],
    }


def one_step(strategy: Any, batch: Any, rates: dict[str, Any] = USUAL) -> Any:
    loss, _ = strategy.loss(Phase("main", "D"), batch, {}, last_micro=True)
    strategy.backward(loss)
    return strategy.step(rates)


def steps(name: str) -> dict[str, Any]:
    nan = float("nan") if dist.get_rank() == 1 else 1.0
    return {
        "free": step(name, [3.0, 4.0]),
        "scaled": step(name, [3.0, 4.0], clip_norm=1.0),
        "bounded": step(name, [3.0, -0.1], clip_value=0.25),
        "limited": step(name, [-1.0, -1.0], weight_limit=0.55),
        "skipped": step(name, [nan, 1.0]),
    }


def hand_over(chain: tuple[str, ...], state: Any = None) -> Any:
    """Two steps with each strategy, which begins with the state of the one before."""
    start = None if state is None else copy.deepcopy(state)
    for number, name in enumerate(chain):
        torch.manual_seed(dist.get_rank() + 1)  # the ranks' own weights must not matter
        strategy = STRATEGIES[name].build(Shapes(), AdamConfig(lr=0.1), "fp32", 1, place())
        if start is None:
            start = {"player": {key: value * 0 + 0.3 for key, value in strategy.full_params()}, "optimizer": {}}
        strategy.load_state_dict(start)
        for image in images(2 * number, 2):
            strategy.set_trainable(True)
            one_step(strategy, image, {"lr": 0.01, "betas": (0.5, 0.99)})
            strategy.set_trainable(False)  # as the rival's phase leaves it
        start = whole(strategy.state_dict())
    return start


def whole(state: Any) -> Any:
    """Gather what is sharded, as a checkpoint that is read back."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return (state.full_tensor() if isinstance(state, DTensor) else state).detach().clone()


def images(first: int, count: int) -> Any:
    """This rank's shares of some global batches of 8."""
    share = slice(dist.get_rank() * 8 // dist.get_world_size(), (dist.get_rank() + 1) * 8 // dist.get_world_size())
    for seed in range(first, first + count):
        yield torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(seed))[share]


def r1_once(strategy: str) -> dict[str, dict[str, Any]]:
    """Train with each of these methods."""
    return {
        method: Training(
            {**D, "objective": {"terms": {"r1": {"gamma": 1.0, "method": method, **step}}}}, SMALL, strategy=strategy
        ).run(3)
        for method, (step, D) in R1_ONCE.items()
    }


def _two_ranks() -> dict[str, Any]:
    uneven = {"player": dict(Line().state_dict()), "optimizer": {"weight": {"step": torch.tensor(3.0)}, "other": {}}}
    uneven["optimizer"]["other"] = {"step": torch.tensor(2.0)}
    strategy = DeepSpeedConfig(stage=1).build(Line(), AdamConfig(lr=0.1), "fp32", 1, place())
    return {
        "steps": {name: steps(name) for name in STAGES},
        "r1_once": {name: r1_once(name) for name in ("flat", "zero3_module")},
        "chains": [hand_over(chain) for chain in CHAINS],
        "uneven": _message(UserError, lambda: strategy.load_state_dict(uneven)),
        "unknown": _message(
            UserError, lambda: DeepSpeedConfig(extra={"zero_optimization": {"no_such_key": 1}}).check_installed()
        ),
    }


def _message(kind: type[Exception], call: Any) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    return ""


def _one_rank(state: Any) -> list[Any]:
    return [hand_over((name,), state) for name in ("single", "zero0", "zero1", "zero3")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(2, _two_ranks, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", STAGES)
def test_a_step_bounds_what_it_is_told_to_and_nothing_else(name: str, two: list[dict[str, Any]]) -> None:
    """Trap 1: DeepSpeed bounds the norm at 1 unless told 0; without that line ZeRO-0 does not get through a step."""
    for rank in two:
        done = rank["steps"][name]
        torch.testing.assert_close(done["free"]["seen"], torch.tensor([3.0, 4.0]))
        assert done["free"]["norm"] == pytest.approx(5.0)
        torch.testing.assert_close(done["scaled"]["seen"], torch.tensor([0.6, 0.8]))
        assert done["scaled"]["norm"] == pytest.approx(5.0)
        torch.testing.assert_close(done["bounded"]["seen"], torch.tensor([0.25, -0.1]))
        torch.testing.assert_close(done["limited"]["weight"], torch.tensor([0.55, -0.4]))


@pytest.mark.parametrize("method", R1_ONCE)
def test_weights_that_are_gathered_by_module_have_the_other_methods_of_r1(
    method: str, two: list[dict[str, Any]]
) -> None:
    for rank in two:
        flat, zero3 = (rank["r1_once"][name][method] for name in ("flat", "zero3_module"))
        assert distance(flat, zero3) < 1e-5
        assert flat["means"]["reg/r1"] > 0


@pytest.mark.parametrize("name", STAGES)
def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all(name: str, two: list[dict[str, Any]]) -> None:
    for rank in two:
        assert rank["steps"][name]["skipped"]["skipped"] == 1.0
        assert rank["steps"][name]["free"]["skipped"] == 0.0
        torch.testing.assert_close(rank["steps"][name]["skipped"]["weight"], torch.tensor([0.5, -0.5]))


def test_each_strategy_goes_on_from_the_state_of_any_other(two: list[dict[str, Any]]) -> None:
    """DeepSpeed forgets the moments of a frozen player; without `_all_trainable` they are missing in the state."""
    for rank in two:
        straight, *others = rank["chains"]
        for other in others:
            torch.testing.assert_close(other, straight)


def test_a_state_of_two_ranks_loads_on_one(two: list[dict[str, Any]], tmp_path: Path) -> None:
    (ends,) = on_ranks(1, _one_rank, tmp_path, two[0]["chains"][0])
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


def test_mistakes_are_told(two: list[dict[str, Any]]) -> None:
    assert "differ: 2 and 3" in two[0]["uneven"]
    assert "extra.zero_optimization.no_such_key" in two[0]["unknown"]
