"""What a plan counts is what a step computes; what it cannot plan, it says in one line."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.planning.collectives import seconds
from bigtrain.planning.counting import FakeRun
from bigtrain.planning.determinism import Determinism
from bigtrain.planning.hardware import Cluster, find_gpu, load_hardware, parse_rate
from bigtrain.planning.hazards import _saving
from bigtrain.planning.micro_batch import MicroBatchTrial
from bigtrain.planning.operations import Counter
from bigtrain.planning.step import Setup, operator_seconds
from bigtrain.strategies.plans.work import Work
from tests.conftest import ROOT

TINY = str(ROOT / "tests" / "tiny.yaml")


def config(*overrides: str) -> TrainingConfig:
    return load_training(TINY, ["run_dir=nowhere", "data.path=nowhere", *overrides])


def cluster(nodes: int = 1, cards: int = 8, gpu: str = "h100") -> Cluster:
    known = load_hardware()
    card = find_gpu(known, gpu)
    return Cluster(card, known.assumed, nodes, cards, card.network_gbit_s * 1e9 / 8)


@pytest.fixture
def plan(bigtrain: Any) -> Any:
    return partial(bigtrain, "plan", TINY, "data.path=nowhere")


def test_fake_tensors_count_what_real_ones_compute(alone: None) -> None:
    # One rank's batch statistics are PyTorch's own, those of several ours: other operators, the same products.
    run, trial = FakeRun(config()), MicroBatchTrial(config(), torch.device("cpu"))
    with Counter() as counter:
        trial.peak(4)
    works = {kind: run.work(phase, 4) for kind, (phase, _) in run.kinds().items()}
    first = [works[("d_main", "r1")], works[("g_main",)]]
    assert sum(work.flops.sum() for work in first) == counter.flops > 0
    assert max(work.with_gradients for work in first) == pytest.approx(trial.peak(4), rel=0.1)


def test_lazy_terms_are_counted_as_often_as_they_are_due() -> None:
    run = FakeRun(config("objective.n_critic=2"))
    assert {kind: often for kind, (_, often) in run.kinds().items()} == {
        ("d_main", "r1"): 0.5,
        ("d_main",): 1.5,
        ("g_main",): 1.0,
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["precision=pure_bf16"],
        ["activation_checkpointing=true"],
        ["augment={kind: ada, probability: {kind: fixed, p: 0.5}}", "data.channels=3"],
    ],
)
def test_what_changes_the_work_is_counted(overrides: list[str]) -> None:
    plain, other = FakeRun(config()), FakeRun(config(*overrides))
    works = [run.work(run.kinds()[("d_main", "r1")][0], 4) for run in (plain, other)]
    assert works[0].bytes.sum() != works[1].bytes.sum()


def test_a_ring_takes_what_the_model_says() -> None:
    one = cluster(cards=2)
    beta, alpha = one.gpu.link_gb_s * 1e9 * one.assumed.bandwidth_share, one.assumed.link_latency_us * 1e-6
    assert seconds("all_gather", 1e9, one) == pytest.approx(alpha + 0.5e9 / beta)
    assert seconds("all_reduce", 1e9, one) == pytest.approx(2 * (alpha + 0.5e9 / beta))
    half = replace(one, assumed=one.assumed.model_copy(update={"reach": {"all_gather": 0.5}}))
    assert seconds("all_gather", 1e9, half) == pytest.approx(alpha + 1e9 / beta)
    assert seconds("all_reduce", 1e9, half) == seconds("all_reduce", 1e9, one)
    assert seconds("all_reduce", 1e9, cluster(cards=1)) == 0
    assert seconds("all_reduce", 1e9, one) < seconds("all_reduce", 1e9, cluster(2, 1))
    far = [seconds("all_reduce", 1e6, cluster(nodes)) for nodes in (2, 4, 64)]
    assert far == sorted(far)


def test_rates() -> None:
    assert parse_rate("400Gb") == parse_rate("50GB/s") == parse_rate("2 x 200 Gbit/s") == 50e9
    with pytest.raises(ConfigError, match="write a rate such as 400Gb"):
        parse_rate("fast")


def test_a_plan_needs_no_data(plan: Any, tmp_path: Path) -> None:
    code, out, _ = plan("--gpus-per-node=2", "--gpu=a100", "--json", "--price=2", f"--plot={tmp_path / 'plot.png'}")
    made = json.loads(out)
    assert code == 0 and made["best"] in ("ddp", "zero-1", "zero-2") and made["chosen"] == "ddp"
    assert made["usd"] == pytest.approx(2 * made["gpu_hours"]) and made["gpu_hours"] == 2 * made["hours"] > 0
    fsdp, ddp = (next(one for one in made["estimates"] if one["name"] == name) for name in ("fsdp", "ddp"))
    assert fsdp["memory"]["optimizer"] < 0.6 * ddp["memory"]["optimizer"]
    assert made["checkpoint"]["load_bytes"] == made["checkpoint"]["bytes"], "each rank of DDP keeps everything"
    assert ddp["largest_micro_batch"] == 8 and ddp["time"]["waiting"] <= ddp["time"]["sending"] * (1 + 1e-9)
    assert [point["gpus"] for point in made["curve"]] == [2**power for power in range(11)]
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_the_table_names_what_it_assumes(plan: Any) -> None:
    code, out, _ = plan("--gpus-per-node=2", "micro_batch=auto")
    assert code == 0 and "micro-batches of 8" in out and "assumption: nothing was measured on NVIDIA H100" in out
    words = " ".join(out.split())
    assert "the host launches operators more slowly" in words and "d_main + r1 (" in words, "a tiny network is"


def test_the_cost_of_determinism_is_stated(plan: Any) -> None:
    warped = ("data.channels=3", "augment={kind: ada, probability: {kind: fixed, p: 0.5}}")
    code, out, _ = plan("--gpus-per-node=2", *warped, "deterministic=true", "--json")
    found = json.loads(out)["determinism"]
    assert code == 0 and found["refused"] == [], "the warp has an algorithm of its own"
    assert found["operators"] > 0 and found["seconds"] > 0 and found["share"] > 0
    assert found["convolutions"] > 10 and 0 < found["convolution_share"] < 1


def test_an_operator_whose_bits_do_not_repeat_is_named() -> None:
    cost = Determinism(0, 0.0, 0.0, 640, 0.5, 12, 0.1, refused=())
    assert cost.in_words() == (
        "no other operators; 640 convolutions (50% of the time) and 12 sums by index (10%) take algorithms whose time "
        "can only be measured on a GPU: if these are 10% slower, a step is 6.0% longer"
    )
    assert not cost.hazards()
    cost = Determinism(0, 0.0, 0.0, 1, 0.5, 0, 0.0, refused=("aten.reflection_pad2d_backward",))
    (hazard,) = cost.hazards()
    assert "no deterministic algorithm for aten.reflection_pad2d_backward" in hazard.what
    assert hazard.remedy.startswith("deterministic=false")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu=h10"], "--gpu 'h10' is not known (did you mean 'h100'?); known: v100, a100-40gb, a100,"),
        (
            ["--gpus-per-node=8"],
            "global_batch 16 has 2 micro-batches of 8; they do not divide over 8 ranks: use 1 or 2 "
            "ranks, or micro_batch=2",
        ),
        (["--gpus-per-node=3"], "global_batch 16 does not divide over 3 ranks"),
        (["--link=400"], "--link '400': write a rate such as 400Gb"),
        (["--hardware=nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line(plan: Any, arguments: list[str], words: str) -> None:
    code, out, err = plan(*arguments)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_what_hurts_on_128_nodes_is_said_with_the_key_that_mends_it(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIGTRAIN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    size = ("global_batch=4096", "micro_batch=4", "--nodes", "128", "--gpu", "h100")
    code, out, _ = plan(*size, "strategy.kind=fsdp", "data.path=s3://sets/large", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["checkpoint"]["load_bytes"] < made["checkpoint"]["bytes"], "a node reads its shares and averages"
    found = {one["what"].partition(":")[0]: one for one in made["hazards"]}
    assert found["reading"]["remedy"].startswith("data.lanes=128")
    assert "each shard is fetched by 128 nodes" in found["reading"]["what"]
    assert found["cache"]["remedy"].startswith("data.cache.folder=FOLDER")
    assert found["strategy"]["remedy"].startswith("strategy.shard_ranks=8")
    assert "--container" in found["start"]["remedy"]
    code, out, _ = plan(*size, "data.lanes=128")
    assert "problem: start:" in out
    assert "reading:" not in out


def test_a_slow_checkpoint_is_compared_with_the_time_that_slurm_leaves() -> None:
    (one,) = list(_saving({"save_s": 100.0}))
    assert one.remedy.startswith("save_seconds: 300")
    assert not list(_saving({"save_s": 40.0}))


def test_a_card_with_shares_of_its_own_is_planned_with_them() -> None:
    known = cluster(gpu="a100")
    other = replace(known, gpu=known.gpu.model_copy(update={"arithmetic_share": 0.8, "bandwidth_share": 0.9}))
    work = Work(
        player="D",
        second_order=False,
        names=("aten.mm", "aten.add"),
        flops=np.array([1e13, 0.0]),
        bytes=np.array([1.0, 1e10]),
        reduced=np.array([False, False]),
        forward=2,
        arrivals=(),
        activations=0.0,
        with_gradients=0.0,
        late=0.0,
        statistics=(),
    )
    setup = Setup({}, {}, 1, 1, "fp32", False, {})
    assert operator_seconds(work, setup, known) == pytest.approx([1e13 / (0.5 * 19.5e12), 1e10 / (0.75 * 2039e9)])
    assert operator_seconds(work, setup, other) == pytest.approx([1e13 / (0.8 * 19.5e12), 1e10 / (0.9 * 2039e9)])


def test_a_cards_own_shares_are_those_of_the_published_fit() -> None:
    page = (ROOT / "benchmarks" / "planning.md").read_text()
    for gpu in load_hardware().gpus.values():
        if gpu.arithmetic_share is not None:
            row = f"| {gpu.name.split()[1]} | {gpu.arithmetic_share:.2f} | {gpu.bandwidth_share:.2f} |"
            assert row in page, f"run benchmarks/published_speeds.py --write and note what it finds of {gpu.name}"
