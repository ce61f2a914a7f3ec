"""A penalty with `fp32: true` computes in float32 under every strategy, by CUDA's autocast policy."""

from collections import Counter
from typing import Any

import pytest

from tests.cuda_autocast import Dtypes, cuda_autocast
from tests.distributed.ranks import on_ranks
from tests.training import Training

STRATEGIES = ("ddp", "fsdp", "zero3")
"""Of each way in which weights and gradients travel, one."""
PENALTIES: dict[str, dict[str, Any]] = {
    "r1": {"r1": {"gamma": 1.0, "interval": 2}},
    "r1_lowered": {"r1": {"gamma": 1.0, "interval": 2, "fp32": False}},
}


def _lowered(strategies: tuple[str, ...]) -> dict[str, tuple[dict[str, int], list[str]]]:
    """Return the operators on bfloat16 that a step has more of where a penalty is due, and mixed convolutions."""
    found = {}
    with cuda_autocast():
        for strategy in strategies:
            for name, terms in PENALTIES.items():
                config = {"objective": {"adversarial": "wasserstein", "terms": terms}}
                training = Training(config, precision="bf16", strategy=strategy, micro_batch=8)
                training.run(2)  # constants are made at their first use
                steps = []
                for _ in range(2):
                    with Dtypes() as dtypes:
                        training.step()
                    steps.append(dtypes)
                due, without = steps
                more = Counter(due.lowered)
                more.subtract(without.lowered)
                found[f"{strategy} {name}"] = (
                    {operator: count for operator, count in more.items() if count},
                    due.mixed + without.mixed,
                )
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return on_ranks(2, _lowered, tmp_path_factory.mktemp("precision"), STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_float32_penalty_lowers_no_operator(strategy: str, found: Any) -> None:
    assert [rank[f"{strategy} r1"] for rank in found] == [({}, []), ({}, [])]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_lowered_penalty_is_seen_and_mixes_no_dtypes(strategy: str, found: Any) -> None:
    for rank in found:
        more, mixed = rank[f"{strategy} r1_lowered"]
        assert sum(more.values()) > 0
        assert mixed == []
