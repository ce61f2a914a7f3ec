"""Messages on GPUs that are not there: which group they take, and what is told of them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.distributed import collectives
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.statistics import statistics_group, synchronise_statistics
from bigtrain.distributed.stragglers import RankTimes, communication_metrics
from bigtrain.distributed.traffic import traffic
from bigtrain.ops.batch_norm import batch_norm
from bigtrain.strategies.zero_traffic import CountedBackend


@pytest.mark.parametrize(("device", "ranks", "own"), [("cuda", 8, True), ("cuda", 1, False), ("cpu", 8, False)])
def test_batch_statistics_have_a_communicator_of_their_own_on_gpus(
    monkeypatch: pytest.MonkeyPatch, device: str, ranks: int, own: bool
) -> None:
    monkeypatch.setattr(dist, "new_group", lambda backend: f"a group of {backend}")
    expected = "a group of nccl" if own else None
    assert statistics_group(Ranks(0, ranks, 0, torch.device(device))) == expected


@pytest.mark.usefixtures("alone")
def test_batch_statistics_go_by_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(collectives.dist, "all_reduce", lambda tensor, op=None, group=None: asked.append(group))
    layer = torch.nn.Identity()
    layer.over_ranks = None  # type: ignore[assignment]
    synchronise_statistics(layer, 2, "its group")  # type: ignore[arg-type]
    x = torch.randn(4, 2, 3, 3, requires_grad=True)
    y = batch_norm(x, torch.zeros(2), torch.ones(2), training=True, over_ranks=layer.over_ranks, ranks=2)
    y.sum().backward()
    assert asked == ["its group"] * 2


def test_what_the_host_cannot_time_is_not_told() -> None:
    """The launch of a message takes microseconds: `comm/overlap` came out near 1, whatever the GPU waited for."""
    times = [RankTimes(1.0, 0.8, 0.1, 0.1, 0.3, 4, 2.5), RankTimes(2.0, 1.8, 0.1, 0.1, 0.3, 4, 2.5)]
    assert communication_metrics(times, timed=False) == {"comm/mib": 2.5, "comm/messages": 4.0}
    assert communication_metrics(times, timed=True)["comm/slowest_rank"] == 1.0


def test_a_handle_that_tells_nobody_when_it_is_over_is_counted_at_once() -> None:
    """PyTorch's handle of coalesced operations, which DeepSpeed passes on, has no future."""
    handle = SimpleNamespace(wait=lambda: None)
    backend = CountedBackend(SimpleNamespace(all_gather_coalesced=lambda out, given, async_op: handle))
    traffic.read()
    with traffic.step():
        assert backend.all_gather_coalesced([torch.ones(4)], [torch.ones(2)], async_op=True) is handle
    assert (traffic.read().messages, traffic.read().bytes) == (1, 0)
