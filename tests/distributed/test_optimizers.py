"""Every kind of optimizer under every strategy: two ranks compute what one does, and skip what is not finite."""

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.distributed.init import Ranks
from bigtrain.engine.player import Phase
from tests.distributed.ranks import on_ranks
from tests.distributed.test_strategies import Shapes
from tests.distributed.test_zero import whole
from tests.training import OPTIMIZERS, STRATEGIES

pytestmark = pytest.mark.timeout(600)  # the first test waits for all ranks
SHARING = ("ddp", "fsdp", "zero1", "zero2", "zero3")
CHAIN = ("ddp", "fsdp", "zero1", "zero3", "zero2", "ddp")
GLOBAL_BATCH, STEPS = 8, 2


class MeanShapes(Shapes):
    """A loss that is the mean over the samples, however many a rank has."""

    def forward(self, phase: Any, batch: Any, rivals: Any) -> Any:
        return self.net(batch) / len(batch), {}


def begin(name: str, kind: str, state: Any = None) -> Any:
    """Return a strategy that goes on from a state, or begins with weights of 0.3."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    place = Ranks(rank, world_size, rank, torch.device("cpu"))
    torch.manual_seed(rank + 1)  # the ranks' own weights must not matter
    strategy = STRATEGIES[name].build(MeanShapes(), OPTIMIZERS[kind], "fp32", 1, place)
    if state is None:
        state = {"player": {key: value * 0 + 0.3 for key, value in strategy.full_params()}, "optimizer": {}}
    strategy.load_state_dict(copy.deepcopy(state))
    return strategy


def take(strategy: Any, kind: str, number: int, *, bad: bool = False) -> float:
    """Take a step on this rank's share of a batch; tell whether it was skipped."""
    images = torch.randn(GLOBAL_BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(number))
    rank, world_size = dist.get_rank(), dist.get_world_size()
    share = images[rank * GLOBAL_BATCH // world_size : (rank + 1) * GLOBAL_BATCH // world_size]
    loss, _ = strategy.loss(Phase("main", "D"), share * (torch.nan if bad and rank else 1.0), {}, last_micro=True)
    strategy.backward(loss)
    settings = OPTIMIZERS[kind].settings_at(0, 1000, global_batch=GLOBAL_BATCH)
    return float(strategy.step(settings)["skipped_step"])


def straight(name: str, kind: str, steps: int = STEPS) -> Any:
    strategy = begin(name, kind)
    for number in range(steps):
        take(strategy, kind, number)
    return whole(strategy.state_dict())


def handed_over(kind: str) -> Any:
    """One step with each of a chain of strategies, which goes on from the state of the one before."""
    state = None
    for number, name in enumerate(CHAIN):
        strategy = begin(name, kind, state)
        take(strategy, kind, number)
        state = whole(strategy.state_dict())
    return state


def skipping(name: str, kind: str) -> dict[str, Any]:
    """What a step with a NaN on rank 1 does after a good one."""
    strategy = begin(name, kind)
    take(strategy, kind, 0)
    before = whole(strategy.state_dict())
    skipped = take(strategy, kind, 1, bad=True)
    return {"skipped": skipped, "before": before, "after": whole(strategy.state_dict())}


def _two_ranks() -> dict[str, Any]:
    return {
        "straight": {(name, kind): straight(name, kind) for name in SHARING for kind in OPTIMIZERS},
        "handed_over": {kind: handed_over(kind) for kind in OPTIMIZERS},
        "skipping": {(name, kind): skipping(name, kind) for name in SHARING for kind in OPTIMIZERS},
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(2, _two_ranks, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", SHARING)
def test_two_ranks_compute_what_one_does(name: str, kind: str, two: list[dict[str, Any]], alone: None) -> None:
    expected = straight("single", kind)
    for rank in two:
        torch.testing.assert_close(rank["straight"][name, kind], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_each_strategy_goes_on_from_the_state_of_another(kind: str, two: list[dict[str, Any]], alone: None) -> None:
    expected = straight("single", kind, len(CHAIN))
    for rank in two:
        torch.testing.assert_close(rank["handed_over"][kind], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", SHARING)
def test_a_gradient_that_is_not_finite_leaves_weights_and_moments(
    name: str, kind: str, two: list[dict[str, Any]]
) -> None:
    for rank in two:
        found = rank["skipping"][name, kind]
        assert found["skipped"] == 1.0
        torch.testing.assert_close(found["after"], found["before"], rtol=0, atol=0)
