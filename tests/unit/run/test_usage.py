from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bigtrain.config import load_training, parse_training
from bigtrain.core.config import ConfigError
from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.planning.costs import PhaseCosts
from bigtrain.planning.counting import FakeRun
from bigtrain.planning.operations import Counter
from bigtrain.run.usage import Speed, Usage
from tests.conftest import ROOT
from tests.training import CPU

TINY = str(ROOT / "tests" / "tiny.yaml")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path / "cache"))


def counted(*overrides: str, steps: int) -> list[float]:
    """Return GFLOP per image of each step of a tiny run."""
    config = load_training(TINY, ["run_dir=nowhere", "data.path=nowhere", *overrides])
    usage, task = Usage(PhaseCosts(config), Ranks(0, 1, 0, CPU), 4), FakeRun(config).task
    progress, found = Progress(10_000, 16), []
    for _ in range(steps):
        for phase in task.phases(progress):
            usage.take(phase, progress)
        progress.advance()
        found.append(usage.of_step(progress)["compute/gflop_per_img"])
    assert min(usage.activations["d_main"], usage.activations["g_main"]) > 0
    return found


def test_a_step_with_a_penalty_costs_more_than_one_without() -> None:
    plain = counted("objective.terms={}", steps=1)[0]
    first, second, third = counted("objective.terms.r1.interval=2", steps=3)
    assert first > 1.2 * plain
    assert second == plain
    assert third == first


def test_a_run_that_starts_again_counts_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted("objective.terms.r1.interval=2", steps=2)
    counting: list[object] = []
    work = FakeRun.work
    monkeypatch.setattr(FakeRun, "work", lambda *arguments: counting.append(arguments) or work(*arguments))
    assert counted("objective.terms.r1.interval=2", "seed=3", "total_kimg=9", steps=2) == before
    assert not counting
    counted("generator.width=8", steps=1)
    assert counting
    for file in (tmp_path / "cache" / "costs").iterdir():
        file.write_text("{")  # a damaged file is as none
    assert counted("objective.terms.r1.interval=2", steps=2) == before


def test_networks_are_counted_anew_as_they_grow() -> None:
    progan = {"kind": "progan", "channel_base": 64, "channel_max": 8, "growth": {"first": 16, "stable_kimg": 0.016}}
    config = load_training(TINY, ["run_dir=nowhere", "data.path=nowhere"])
    values = {**config.model_dump(mode="json"), "generator": progan, "discriminator": progan, "objective": {}}
    config = parse_training(values, source="test")
    young, grown = Progress(10_000, 16), Progress(10_000, 16)
    cost, phase = PhaseCosts(config), FakeRun(config).task.phases(young)[-1]
    grown.samples_seen = 10_000
    assert 0 < 1.2 * cost(phase, young).flops < cost(phase, grown).flops


def test_counting_leaves_the_random_numbers_of_the_process_alone() -> None:
    before = torch.get_rng_state()
    counted(steps=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_that_cannot_be_counted_do_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("it goes by what is in a tensor")

    monkeypatch.setattr(FakeRun, "work", refuse)
    config = load_training(TINY, ["run_dir=nowhere", "data.path=nowhere"])
    usage, progress = Usage(PhaseCosts(config), Ranks(0, 1, 0, CPU), 4), Progress(10_000, 16)
    for phase in FakeRun(config).task.phases(progress):
        usage.take(phase, progress)
    assert usage.of_step(progress) == {"compute/gflop_per_img": 0.0}


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
    # Of 1,000 images 950 are left, and 50 took 8 seconds with what is left out of the speed.
    assert speed.read() == {"time/img_per_s": 10.0, "time/sec_per_kimg": 100.0, "time/left_s": 152.0}
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
