from contextlib import nullcontext

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.run.usage import Counter, Speed, Usage
from tests.training import CPU, Training

pytestmark = pytest.mark.usefixtures("alone")


def step(training: Training, usage: Usage | None) -> None:
    """Take a step as the trainer does, counting or not."""
    batch = training.batch(training.progress.samples_seen)
    for phase in training.task.phases(training.progress):
        rivals: dict[str, object] = {}
        for name, strategy in training.strategies.items():
            strategy.set_trainable(name == phase.player)
            if name != phase.player:
                rivals.update(strategy.infer())
        strategy = training.strategies[phase.player]
        for micro, last in batch.micro_batches(training.micro_batch):
            with usage.counting(phase, last=last) if usage else nullcontext():
                loss, _ = strategy.loss(phase, micro, rivals, last_micro=last)
                strategy.backward(loss)
        strategy.step(
            training.task.optimizers[phase.player].rates_at(training.progress.samples_seen, 10_000, global_batch=16)
        )
    training.progress.advance()


def counted(objective: dict[str, object], steps: int) -> list[float]:
    """Return GFLOP an image of each step of a tiny training."""
    training = Training({"objective": objective})
    usage = Usage(training.task.players, Ranks(0, 1, 0, CPU))
    found = []
    for _ in range(steps):
        step(training, usage)
        found.append(usage.of_step(training.progress)["compute/gflop_per_img"])
    return found


@pytest.mark.parametrize("micro_batch", [4, 16])
def test_counting_changes_not_a_bit(micro_batch: int) -> None:
    weights = []
    for counting in (True, False):
        training = Training({"objective": {"terms": {"r1": {"gamma": 1.0, "interval": 2}}}}, micro_batch=micro_batch)
        usage = Usage(training.task.players, Ranks(0, 1, 0, CPU)) if counting else None
        for _ in range(3):
            step(training, usage)
        weights.append(training.weights())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_step_with_a_penalty_costs_more_than_one_without() -> None:
    plain = counted({"terms": {}}, 1)[0]
    first, second, third = counted({"terms": {"r1": {"gamma": 1.0, "interval": 2}}}, 3)
    assert first > 1.2 * plain
    assert second == plain
    assert third == first


def test_groups_of_a_convolution_compute_what_they_would_apart() -> None:
    counts = []
    for groups in (1, 4):
        network = torch.nn.Conv2d(8, 8, 3, groups=groups)
        with Counter() as counter:
            network(torch.randn(2, 8, 6, 6, requires_grad=True)).sum().backward()
        counts.append(counter.flops)
    assert counts[0] == 4 * counts[1]


def test_counts_are_those_of_torch() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5))
    image = torch.randn(2, 3, 8, 8)
    with FlopCounterMode(display=False) as torchs:
        network(image).sum().backward()
    with Counter() as ours:
        network(image).sum().backward()
    assert ours.flops == torchs.get_total_flops() > 0


def test_speed_leaves_out_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("bigtrain.run.usage.time.perf_counter", lambda: now)
    progress = Progress(1000, 50)
    speed = Speed(progress)
    progress.advance()
    now = 108.0
    speed.leave_out(3.0)
    assert speed.read() == {"time/img_per_s": 10.0, "time/sec_per_kimg": 100.0}
    progress.advance()
    now = 109.0
    assert speed.read()["time/img_per_s"] == 50.0


def test_attention_is_counted_on_every_device() -> None:
    query, key, value = (torch.randn(2, 3, length, 8, requires_grad=True) for length in (5, 7, 7))
    with Counter() as counter:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert counter.flops == 2 * (2 * 3 * 5 * 7) * (8 + 8)
    with Counter() as counter:
        out.sum().backward()
    assert counter.flops == 5 * 2 * (2 * 3 * 5 * 7) * 8  # the weights once more, and four products
