"""What is told of messages, waiting and memory is what happened."""

import time
from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rich.console import Console

from bigtrain.distributed.memory import LiveBytes
from bigtrain.distributed.stragglers import communication_metrics, gather_times, slowest, straggler_table
from bigtrain.distributed.traffic import traffic
from tests.distributed.ranks import on_ranks
from tests.training import SMALL, Training


def _steps(strategy: str) -> dict[str, Any]:
    """Two steps of which rank 1 sleeps through a part, and one that nobody counts."""
    training = Training({}, SMALL, strategy=strategy)
    training.step()
    traffic.read()
    for _ in range(2):
        with traffic.step():
            with traffic.data_wait():
                time.sleep(0.02)
            time.sleep(2.0 * dist.get_rank())  # much longer than the step itself, on a busy machine too
            training.step()
    training.step()
    times = gather_times(traffic.read(), torch.device("cpu"))
    memory_use = {name: asdict(one.memory_use()) for name, one in training.strategies.items()}
    sizes = {
        name: sum(4 * getattr(p, "ds_numel", p.numel()) for p in player.parameters())
        for name, player in training.task.players.items()
    }
    return {"times": [asdict(one) for one in times], "slowest": slowest(times), "held": memory_use, "sizes": sizes} | {
        "metrics": communication_metrics(times, timed=True),
        "table": _text(straggler_table(times)),
    }


def _text(table: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.fixture(scope="module", params=["ddp", "fsdp", "zero1", "zero3"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    first, second = on_ranks(2, _steps, tmp_path_factory.mktemp("load"), request.param)
    assert first["times"] == second["times"]
    return request.param, first


def test_the_slow_rank_is_named_and_the_other_one_waits_for_it(told: tuple[str, dict[str, Any]]) -> None:
    _, facts = told
    fast, slow = facts["times"]
    assert facts["slowest"][0] == 1 and facts["slowest"][1] > 1.1
    assert "slow: " in facts["table"].splitlines()[-1]
    assert fast["exposed"] > slow["exposed"] + 0.5
    for one in facts["times"]:
        assert 0.02 <= one["data_wait"] < 1.0
        assert one["own"] + one["data_wait"] + one["exposed"] == pytest.approx(one["step"])
    assert facts["metrics"]["comm/overlap"] == pytest.approx(
        1 - facts["metrics"]["comm/exposed_s"] / facts["metrics"]["comm/sending_s"]
    )


def test_messages_are_counted_once(told: tuple[str, dict[str, Any]]) -> None:
    strategy, facts = told
    gradients = sum(facts["sizes"].values()) / 2**20
    if strategy == "ddp":  # one bucket a player (their gradients), and one message after the step (averages)
        assert facts["times"][0]["messages"] == 3
        assert facts["times"][0]["mib"] == pytest.approx(gradients, rel=0.02)
    else:  # gradients, and weights for the rival's copy or for the next step
        assert 1.5 * gradients < facts["times"][0]["mib"] < 5 * gradients
        assert facts["times"][0]["messages"] > 3


def test_a_rank_holds_its_share(told: tuple[str, dict[str, Any]]) -> None:
    strategy, facts = told
    for name, size in facts["sizes"].items():
        memory_use, share = facts["held"][name], 1 if strategy == "ddp" else 0.5
        gradients = 1 if strategy == "zero1" else share
        assert memory_use["gradients"] == pytest.approx(size * gradients, rel=0.15)
        assert memory_use["optimizer"] == pytest.approx(2 * size * share, rel=0.15)


def test_live_bytes_follow_what_lives() -> None:
    weight = torch.randn(1000, requires_grad=True)
    with LiveBytes() as live:
        kept = weight.exp()  # exp keeps its result for the backward
        assert live.now == 4000
        (kept * 2).sum()
        assert live.peak == 8004 or live.peak == 8000
        del kept
    assert live.now == 0
