"""The first quarter of an hour on a card: does all that was written without one work, and how fast?

    python -m benchmarks.gpu_acceptance --golden shared/golden        # on one GPU, some ten minutes, no network needed
    python -m benchmarks.gpu_acceptance --device cpu --small          # the same code here, in seconds: as CI runs it
    python -m benchmarks.gpu_acceptance --only resume speed

Each check is a row of the table: `ok`, `FAILED` with the reason, or `left out`. The exit code is 1 if one failed. **No
GPU has run it yet**; what it is known for is that it runs on a CPU.
"""

import argparse
import copy
import json
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.checkpoint.contents import join, split
from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.philox import plain, random_bits
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.determinism import choose_algorithms
from bigtrain.distributed.gpus import problem_with_cuda
from bigtrain.distributed.init import Ranks, join_ranks, leave_ranks
from bigtrain.distributed.memory import local_bytes
from bigtrain.distributed.precision import allow_tf32
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.player import Phase
from bigtrain.engine.step import compute_gradients, take_step
from bigtrain.interop.check import check as check_golden
from bigtrain.planning.counting import kinds_of_phases
from bigtrain.planning.hardware import Cluster, load_hardware
from bigtrain.planning.planner import Planner
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.flat import FlatConfig
from bigtrain.strategies.fsdp import FSDPConfig
from bigtrain.strategies.single import SingleConfig
from bigtrain.tasks.compiled import Compiler

CONFIGS = Path(__file__).parents[1] / "configs"
STYLEGANS = ["stylegan2-ffhq1024", "stylegan3-t-ffhq1024"]
NARROW = [f"{part}.channel_{limit}" for part in ("generator", "discriminator") for limit in ("base=256", "max=8")]
SMALL = {
    "biggan-fashion32": ["generator.width=4", "discriminator.width=4", "global_batch=4", "micro_batch=2"],
    **{name: [*NARROW, "data.resolution=16", "global_batch=4", "micro_batch=4"] for name in STYLEGANS},
}
SMALL["stylegan3-t-ffhq1024"] += ["generator.layers=4", "generator.margin=4"]
# With its usual epsilon Adam makes a full step of either sign out of a gradient that is only rounding.
STEADY = ["precision=fp32", "optim={G: {lr: 5.0e-4, eps: 1.0e-4}, D: {lr: 5.0e-4, eps: 1.0e-4}}"]
STRATEGIES: dict[str, Any] = {
    "ddp": DDPConfig(),
    "flat": FlatConfig(),
    "fsdp": FSDPConfig(),
    **{f"zero-{stage}": DeepSpeedConfig(stage=stage) for stage in (1, 2, 3)},
}


class LeftOutError(Exception):
    """A check that has nothing to do here."""


@dataclass(frozen=True)
class Place:
    """Where the checks run.

    Attributes:
        device: of this rank.
        small: whether networks are small ones.
        golden: folder of reference numbers; None without them.
    """

    device: torch.device
    small: bool
    golden: Path | None

    def config(self, name: str, *overrides: str) -> TrainingConfig:
        """Return a recipe, small where that is asked for."""
        small = SMALL[name] if self.small else []
        return load_training(str(next(CONFIGS.rglob(f"{name}.yaml"))), [*small, *overrides])


class Steps:
    """A rank alone that trains a recipe on random images."""

    def __init__(self, config: TrainingConfig, device: torch.device, strategy: Any = None) -> None:
        torch.manual_seed(0)
        self.config, self.device = config, device
        self.fields = config.data.field_specs()
        self.task = config.build_task(self.fields, {}, seed=0, device=device)
        accumulation = config.global_batch // config.micro_batch_size
        build = (strategy or SingleConfig()).build
        self.strategies = {
            name: build(player, self.task.optimizers[name], config.precision, accumulation, Ranks(0, 1, 0, device))
            for name, player in self.task.players.items()
        }
        self.progress = Progress(round(1000 * config.total_kimg), config.global_batch * self.task.batches_per_step)

    def take(self, count: int = 1) -> "Steps":
        """Take some steps."""
        size, config = self.config.global_batch, self.config
        for _ in range(count):
            first = self.progress.samples_seen
            index = torch.arange(first, first + self.progress.batch, device=self.device).split(size)
            batches = [random_batch(self.fields, Draws(1, part, "data")) for part in index]
            step = {"micro_batch": config.micro_batch_size, "global_batch": size}
            take_step(self.task, self.strategies, batches, self.progress, **step)
        return self

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the host."""
        found = {}
        for name, strategy in self.strategies.items():
            found |= {f"{name}.{key}": value.detach().to("cpu", copy=True) for key, value in strategy.full_params()}
        return found


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the L2 distance of two sets of weights relative to the length of the first."""
    assert one.keys() == other.keys()
    apart = sum((one[name].double() - other[name].double()).square().sum() for name in one)
    return float((apart / sum(value.double().square().sum() for value in one.values())) ** 0.5)


def machine(place: Place) -> str:
    """PyTorch, the card and what is installed."""
    if place.device.type == "cpu":
        return f"PyTorch {torch.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    assert problem_with_cuda() is None, problem_with_cuda()
    card = torch.cuda.get_device_properties(place.device)
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, NCCL {nccl}, {card.name}, {card.total_memory:,} B"


def philox(place: Place) -> str:
    """Random bits are those of a CPU; on a GPU this is the Triton kernel."""
    index = torch.tensor([0, 1, 2**31, 2**32 + 5, 2**62 + 7])
    for seed, stream, count in ((0, 0, 5), (2**32 - 1, 2**31, 1030), (7, 2**32 - 1, 1)):
        found = random_bits(index.to(place.device), seed, stream, count).cpu()
        assert torch.equal(found, plain(index, seed, stream, count)), f"seed {seed}, stream {stream}, {count} numbers"
    one, other = (Draws(3, index.to(device), "z").normal(64).cpu() for device in (place.device, "cpu"))
    worst = float((one - other).abs().max())
    assert worst < 1e-5, f"normal numbers differ by {worst:.1e}"
    return f"the same bits; normal numbers within {worst:.1e}"


def golden(place: Place) -> str:
    """Our networks are the references' in float32."""
    if place.golden is None:
        raise LeftOutError("no --golden DIR")
    folders = sorted(path.parent for path in place.golden.glob("*/config.json"))[: 1 if place.small else None]
    wrong = []
    for folder in folders:
        for result in check_golden(folder, path="fast", precision="fp32", device=place.device):
            wrong += [] if result.fits else [f"{folder.name}: {result}"]
    assert not wrong, "; ".join(wrong[:3])
    return f"{len(folders)} folders"


def phases(place: Place) -> str:
    """A micro-batch of every kind of phase in bf16: R1 and path lengths differentiate twice."""
    done = []
    for name in SMALL:
        steps = Steps(place.config(name, "precision=bf16"), place.device)
        size = steps.config.micro_batch_size
        for kind, (phase, _) in kinds_of_phases(steps.task, steps.progress).items():
            _one_micro_batch(steps, phase, size)
            norms = [p.grad.norm() for p in steps.task.players[phase.player].parameters() if p.grad is not None]
            assert norms and bool(torch.stack(norms).isfinite().all()), f"{name} {kind}: a gradient is not finite"
            steps.task.players[phase.player].zero_grad(set_to_none=True)
            done.append("+".join(kind))
    return f"{len(done)} kinds of phases of {len(SMALL)} recipes"


def _one_micro_batch(steps: Steps, phase: Phase, size: int) -> None:
    draws = Draws(1, torch.arange(size, device=steps.device), "data")
    compute_gradients(steps.task, steps.strategies, phase, random_batch(steps.fields, draws), size)


def as_on_cpu(place: Place) -> str:
    """Four steps in float32 without TF32 lead where a CPU's do."""
    allow_tf32(False)
    config = load_training(str(CONFIGS / "synthesis" / "biggan-fashion32.yaml"), [*SMALL["biggan-fashion32"], *STEADY])
    apart = distance(*(Steps(config, device).take(4).weights() for device in (torch.device("cpu"), place.device)))
    assert apart < 1e-3, f"weights are {apart:.1e} apart"
    return f"weights {apart:.1e} apart"


def strategies(place: Place) -> str:
    """A rank alone computes the same by every strategy."""
    config = place.config("biggan-fashion32", *STEADY)
    expected, found = Steps(config, place.device).take(2).weights(), []
    for name, strategy in STRATEGIES.items():
        if name.startswith("zero") and place.small:
            continue  # DeepSpeed takes long to import
        apart = distance(expected, Steps(config, place.device, strategy).take(2).weights())
        assert apart < 1e-4, f"{name}: weights are {apart:.1e} apart"
        found.append(f"{name} {apart:.0e}")
    return ", ".join(found)


def resume(place: Place) -> str:
    """A run that goes on from its state ends with the same bits, as `deterministic: true` promises."""
    choose_algorithms(place.device, deterministic=True)
    config = place.config("biggan-fashion32", "precision=bf16")
    for name in ("single", "fsdp"):
        strategy = STRATEGIES.get(name)
        whole, first = Steps(config, place.device, strategy).take(4), Steps(config, place.device, strategy).take(2)
        second = Steps(config, place.device, strategy)
        for player, one in first.strategies.items():
            structure, tensors = split(one.state_dict())
            on_host = {key: value if name == "fsdp" else value.cpu() for key, value in tensors.items()}
            second.strategies[player].load_state_dict(join(structure, on_host))
        for key, stateful in first.task.stateful().items():
            second.task.stateful()[key].load_state_dict(copy.deepcopy(dict(stateful.state_dict())))
        second.progress.samples_seen = first.progress.samples_seen
        expected, found = whole.weights(), second.take(2).weights()
        different = [key for key in expected if not torch.equal(expected[key], found[key])]
        assert not different, f"{name}: {len(different)} of {len(expected)} tensors differ, first {different[0]}"
    choose_algorithms(place.device, deterministic=False)
    return "single, fsdp: the same bits"


def speed(place: Place) -> str:
    """Seconds of a step and peak memory, beside the plan for this card."""
    told = []
    for name in SMALL:
        steps = Steps(place.config(name), place.device).take(2)
        _wait(place)
        if place.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        count = 2 if place.small else 16
        began = time.perf_counter()
        steps.take(count)
        _wait(place)
        seconds = (time.perf_counter() - began) / count
        told.append(f"{name} {seconds:.3f} s{_beside_plan(place, steps, seconds)}")
    return "; ".join(told)


def _beside_plan(place: Place, steps: Steps, seconds: float) -> str:
    if place.device.type != "cuda":
        return ""
    card = torch.cuda.get_device_name(place.device).lower()
    known = load_hardware()
    matching = [gpu for name, gpu in known.gpus.items() if name.split("-")[0] in card]
    if not matching:
        return f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    config, gpu = steps.config, matching[0]
    cluster = Cluster(gpu, known.assumed, 1, 1, gpu.network_gbit_s * 1e9 / 8)
    sizes = {"micro_batch": config.micro_batch_size, "images": config.global_batch}
    estimate = Planner(config, 1).estimate("single", SingleConfig(), cluster, **sizes)
    averages = local_bytes(p for network in steps.task.averaged.values() for p in network.state_dict().values())
    peak = torch.cuda.max_memory_allocated() + averages  # the plan has the averages, these steps have not
    return (
        f" ({seconds / estimate.time.total:.2f} of the plan), {peak / 2**30:.1f} GiB "
        f"({peak / estimate.memory.total:.2f} of the plan)"
    )


def benchmark(place: Place) -> str:
    """What `cudnn.benchmark` and `deterministic` bring and cost."""
    if place.device.type != "cuda":
        raise LeftOutError("cuDNN is for GPUs")
    told = []
    for name, settings in {
        "benchmark": (True, False),
        "neither": (False, False),
        "deterministic": (False, True),
    }.items():
        choose_algorithms(place.device, deterministic=settings[1])
        torch.backends.cudnn.benchmark = settings[0]
        steps = Steps(place.config("stylegan2-ffhq1024"), place.device).take(2)
        torch.cuda.synchronize()
        began = time.perf_counter()
        steps.take(4)
        torch.cuda.synchronize()
        told.append(f"{name} {(time.perf_counter() - began) / 4:.3f} s")
    choose_algorithms(place.device, deterministic=False)
    return ", ".join(told)


def kernels(place: Place) -> str:
    """The operators that take longest in a step of StyleGAN2."""
    steps = Steps(place.config("stylegan2-ffhq1024"), place.device).take(1)
    activity = torch.profiler.ProfilerActivity
    cuda = place.device.type == "cuda"
    with torch.profiler.profile(activities=[activity.CUDA if cuda else activity.CPU]) as profile:
        steps.take(1)
        _wait(place)
    averages = profile.key_averages()

    def taken(row: Any) -> float:
        return float(row.self_device_time_total if cuda else row.self_cpu_time_total)

    longest = sorted(averages, key=taken, reverse=True)[: 3 if place.small else 20]
    launched = sum(row.count for row in averages)
    return f"{launched} in all; " + ", ".join(f"{row.key[:40]} {taken(row) / 1000:.1f} ms" for row in longest)


def resampling(place: Place) -> str:
    """The filter of up- and down-sampling as it is, in NCHW, and with channels as a batch (finding 16)."""
    size, channels = (16, 4) if place.small else (512, 64)
    dtype = torch.bfloat16 if place.device.type == "cuda" else torch.float32
    image = torch.randn(4, channels, size, size, device=place.device, dtype=dtype)
    weight = torch.randn(1, 1, 4, 4, device=place.device, dtype=dtype)
    last = image.contiguous(memory_format=torch.channels_last)
    forms: dict[str, Callable[[], Tensor]] = {
        "depthwise NHWC": lambda: _depthwise(last, weight),
        "depthwise NCHW": lambda: _depthwise(image, weight),
        "as a batch": lambda: torch.nn.functional.conv2d(image.flatten(0, 1)[:, None], weight, stride=2, padding=1),
    }
    told = []
    for name, form in forms.items():
        for _ in range(3):
            form()
        _wait(place)
        began = time.perf_counter()
        for _ in range(10):
            form()
        _wait(place)
        told.append(f"{name} {1e5 * (time.perf_counter() - began):.0f} µs")
    return ", ".join(told)


def _depthwise(image: Tensor, weight: Tensor) -> Tensor:
    channels = image.shape[1]
    return torch.nn.functional.conv2d(image, weight.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


def waits(place: Place) -> str:
    """Nothing in a step waits for the GPU."""
    if place.device.type != "cuda":
        raise LeftOutError("a CPU is not waited for")
    steps = Steps(place.config("stylegan2-ffhq1024"), place.device).take(1)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            steps.take(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    assert not found, f"{len(found)} waits, such as {', '.join(sorted(set(found))[:3])}"
    return "no waits in three steps"


def compile_(place: Place) -> str:
    """`compile: true` compiles each network once, within the watchdog's limit for a first step."""
    if place.small:
        raise LeftOutError("takes minutes")
    steps = Steps(place.config("biggan-fashion32"), place.device)
    compiler = Compiler(True)
    network, spec = steps.task.networks()["D"], steps.fields["image"]
    compiled = compiler({"D": network}, second_order=False)["D"]
    image = torch.randn(4, *spec.shape, device=place.device)
    label = torch.zeros(4, dtype=torch.int64, device=place.device)
    began, before = time.perf_counter(), _graphs()
    compiled(image, label).sum().backward()
    compiled(image, label)
    _wait(place)
    seconds = time.perf_counter() - began
    graphs = _graphs() - before
    assert graphs <= 4 and seconds < 300, f"{graphs} graphs, {seconds:.0f} s"
    return f"{graphs} graphs, {seconds:.0f} s"


def _graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def cuda_graphs(place: Place) -> str:
    """`compile: cuda_graphs` trains as `compile: true` does; how long a step takes with each."""
    if place.small:
        raise LeftOutError("takes minutes")
    weights, seconds = {}, {}
    for way in ("cuda_graphs", True):
        config = place.config("biggan-fashion32").model_copy(update={"compile": way})
        steps = Steps(config, place.device).take(3)
        began = time.perf_counter()
        weights[way] = steps.take(20).weights()
        _wait(place)
        seconds[way] = (time.perf_counter() - began) / 20
    apart = distance(weights["cuda_graphs"], weights[True])
    assert apart < 1e-3, f"the weights are {apart:.1e} apart after 23 steps"
    return f"{1000 * seconds['cuda_graphs']:.1f} ms a step, {1000 * seconds[True]:.1f} ms without graphs"


def _wait(place: Place) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize()


CHECKS: dict[str, Callable[[Place], str]] = {
    "machine": machine,
    "philox": philox,
    "golden": golden,
    "phases": phases,
    "as_on_cpu": as_on_cpu,
    "strategies": strategies,
    "resume": resume,
    "speed": speed,
    "benchmark": benchmark,
    "kernels": kernels,
    "resampling": resampling,
    "waits": waits,
    "compile": compile_,
    "cuda_graphs": cuda_graphs,
}


def run(place: Place, names: list[str]) -> list[dict[str, Any]]:
    """Run checks one after the other, each row as it is done."""
    rows = []
    for name in names:
        began = time.perf_counter()
        try:
            outcome, detail = "ok", CHECKS[name](place)
        except LeftOutError as reason:
            outcome, detail = "left out", str(reason)
        except Exception as error:  # reported as a failed check; the others still run
            outcome, detail = "FAILED", f"{type(error).__name__}: {error}"
            traceback.print_exc()
        seconds = time.perf_counter() - began
        rows.append({"check": name, "outcome": outcome, "seconds": round(seconds, 1), "detail": detail})
        print(f"{name:<12}{outcome:<10}{seconds:6.1f} s  {detail}", flush=True)
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def main(words: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--golden", type=Path, help="folder of reference numbers")
    parser.add_argument("--small", action="store_true", help="small networks, in seconds")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args(words)
    if options.device == "cuda" and (problem := problem_with_cuda()):
        print(f"no GPU: {problem}", file=sys.stderr)
        return 2
    if not dist.is_initialized():
        os.environ["DS_ACCELERATOR"] = options.device  # a rank of its own, on the device that was asked for
        join_ranks()
    try:
        place = Place(
            torch.device("cuda", 0) if options.device == "cuda" else torch.device("cpu"), options.small, options.golden
        )
        rows = run(place, options.only)
    finally:
        leave_ranks()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["outcome"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
