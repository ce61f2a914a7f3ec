import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bigtrain.distributed.init import Ranks
from bigtrain.usage import Usage, _Counter
from tests.training import CPU, Training

pytestmark = pytest.mark.usefixtures("alone")


def counted(objective: dict[str, object], steps: int) -> list[float]:
    """Return GFLOP an image of each step of a tiny training."""
    training = Training({"objective": objective})
    usage = Usage(training.task.players, Ranks(0, 1, 0, CPU))
    found = []
    for _ in range(steps):
        batch = training.batch(0)
        for phase in training.task.phases(training.progress):
            rivals: dict[str, object] = {}
            for name, strategy in training.strategies.items():
                strategy.set_trainable(name == phase.player)
                if name != phase.player:
                    rivals.update(strategy.infer())
            strategy = training.strategies[phase.player]
            for micro, last in batch.micro_batches(training.micro_batch):
                with usage.counting(phase, last=last):
                    loss, _ = strategy.loss(phase, micro, rivals, last_micro=last)
                    strategy.backward(loss)
        training.progress.advance()
        found.append(usage.of_step(training.progress)["compute/gflop_per_img"])
    return found


def test_a_step_with_a_penalty_costs_more_than_one_without() -> None:
    plain = counted({"terms": {}}, 1)[0]
    first, second, third = counted({"terms": {"r1": {"gamma": 1.0, "interval": 2}}}, 3)
    assert first > 1.2 * plain
    assert second == plain
    assert third == first


def test_counts_are_those_of_torch() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5))
    image = torch.randn(2, 3, 8, 8)
    with FlopCounterMode(display=False) as torchs:
        network(image).sum().backward()
    with _Counter() as ours:
        network(image).sum().backward()
    assert ours.flops == torchs.get_total_flops() > 0
