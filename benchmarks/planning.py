"""Compare plans with real ranks on this machine: messages, bytes, memory, and the time of a step.

    python -m benchmarks.planning --write             # about ten minutes on two idle cores
    python -m benchmarks.planning --only memory --ranks 2

Messages, bytes and memory: every strategy on 1, 2 and 4 gloo ranks takes three steps of a BigGAN with R1; what the
run's own counters say of the third stands beside the plan, which was made from the config alone. Memory is the most
bytes that a rank's tensors held at a time (`LiveBytes`), all that was made since the start included.

Time: the machine is measured first, as a card of its own: a step of one rank for itself while as many others work,
which gives the FLOP/s that its operators reach, and gloo's latency and the bandwidth of each kind of operation by
messages of two sizes. From these
the plan foretells the step of ranks that train together, which is then measured: between two steps apart, and as a
ratio to their mean, so that neighbours on the machine slow down both.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bigtrain.planning.hardware import GPU, Assumed, Cluster
from bigtrain.planning.planner import Planner
from tests.distributed.planned import Steps, foretold, load, observed
from tests.distributed.ranks import end_ranks, on_ranks

PAGE = Path(__file__).with_name("planning.md")
MARKS = ("<!-- measured: written by benchmarks/planning.py -->", "<!-- /measured -->")
NETWORK = ["precision=fp32", "generator.width=64", "discriminator.width=64", "objective.terms.r1.interval=1"]
STRATEGIES = {
    "single": "{kind: single}",
    "flat": "{kind: flat}",
    "ddp": "{kind: ddp}",
    "zero-0": "{kind: deepspeed, stage: 0}",
    "zero-1": "{kind: deepspeed, stage: 1}",
    "zero-2": "{kind: deepspeed, stage: 2}",
    "zero-3": "{kind: deepspeed, stage: 3}",
    "fsdp": "{kind: fsdp}",
    "hsdp": "{kind: fsdp, shard_ranks: 2}",
}


_ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
"""Times that each part goes round a ring."""


def overrides(strategy: str, ranks: int, accumulation: int, micro_batch: int = 8) -> list[str]:
    batch = [f"global_batch={micro_batch * ranks * accumulation}", f"micro_batch={micro_batch}"]
    return [f"strategy={STRATEGIES[strategy]}", *NETWORK, *batch]


def cases(ranks: int, chosen: list[str]) -> list[tuple[str, int]]:
    able = {"single"} if ranks == 1 else set(STRATEGIES) - {"single"} - ({"hsdp"} if ranks < 4 else set())
    return [(name, accumulation) for name in STRATEGIES if name in able & set(chosen) for accumulation in (1, 2)]


def compare(ranks: int, chosen: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return, of each case, what was observed and what was foretold."""
    told = [overrides(name, ranks, accumulation) for name, accumulation in chosen]
    seen = _on_ranks(ranks, _observe, told)[0]
    rows = []
    for (name, accumulation), one, case in zip(chosen, seen, told, strict=True):
        plan = foretold(case, ranks)
        row: dict[str, Any] = {"strategy": name, "ranks": ranks, "accumulation": accumulation}
        for key in ("messages", "bytes", "peak"):
            row |= {key: one[key], f"{key}_plan": plan[key]}
        rows.append(row)
        print(row, flush=True)
    return rows


def _observe(told: list[list[str]]) -> list[dict[str, float]]:
    return [observed(case) for case in told]


def _on_ranks(ranks: int, function: Any, *arguments: Any) -> list[Any]:
    end_ranks()  # nothing that an earlier case left in memory is counted
    with tempfile.TemporaryDirectory() as folder:
        return on_ranks(ranks, function, Path(folder), *arguments)


def time_steps(ranks: int, names: list[str], rounds: int, accumulation: int) -> dict[str, Any]:
    """Measure machine and steps by turns; return seconds of each, measured and foretold."""
    seen = _on_ranks(ranks, _take_turns, ranks, names, rounds, accumulation)
    alpha = statistics.median(one["alpha"] for one in seen)
    beta = {kind: statistics.median(one["beta"][kind] for one in seen) for kind in _ROUNDS}
    # Together the slowest sets the pace. A round's step is compared with the steps apart before and after it.
    apart = [max(times) for times in zip(*(one["alone"] for one in seen), strict=True)]
    alone = statistics.median(apart)
    found: dict[str, Any] = {
        "ranks": ranks,
        "alone": alone,
        "latency_us": 1e6 * alpha,
        "gb_s": {kind: value / 1e9 for kind, value in beta.items()},
        "steps": {},
    }
    for number, name in enumerate(names):
        around = [(apart[turn] + apart[turn + 1]) / 2 for turn in range(number, len(apart) - 1, len(names))]
        ratios = [step / mean for step, mean in zip(seen[0][name], around, strict=False)]
        plan = _foretell(name, ranks, accumulation, alone, alpha, beta)
        found["steps"][name] = {"measured": alone * statistics.median(ratios), "plan": plan, "ratios": ratios}
        print(f"{name} on {ranks}: {found['steps'][name]}, alone {alone:.3f}", flush=True)
    return found


def _take_turns(ranks: int, names: list[str], rounds: int, accumulation: int) -> dict[str, Any]:
    """On a rank: measure messages, steps apart and steps together, round after round."""
    found: dict[str, Any] = {"alone": [], **{name: [] for name in names}}
    found["alpha"], found["beta"] = _link()
    together = {name: Steps(overrides(name, ranks, accumulation)) for name in names}
    apart = Steps(overrides(names[0], ranks, accumulation), alone=True)
    for steps in (*together.values(), apart):
        steps.take()  # the first steps allocate
    for number in range(rounds * len(names) + 1):
        for name, steps in (("alone", apart), (names[number % len(names)], together[names[number % len(names)]])):
            dist.barrier()
            began = time.perf_counter()
            steps.take()
            if name != "alone":
                dist.barrier()
            found[name].append(time.perf_counter() - began)
    return found


def _link() -> tuple[float, dict[str, float]]:
    """Return latency and bandwidth of a message between neighbours, as each kind of operation reaches it."""
    ranks = dist.get_world_size()
    short, long = ({kind: _seconds(kind, numbers) for kind in _ROUNDS} for numbers in (16, 4_000_000))
    sent = {kind: rounds * (ranks - 1) * 16e6 / ranks for kind, rounds in _ROUNDS.items()}
    beta = {kind: sent[kind] / max(long[kind] - short[kind], 1e-9) for kind in _ROUNDS}
    return short["all_reduce"] / (2 * (ranks - 1)), beta


def _seconds(kind: str, numbers: int) -> float:
    """Time an operation on a tensor of so many float32 numbers."""
    whole, share, taken = torch.ones(numbers), torch.ones(numbers // dist.get_world_size()), []
    for _ in range(12):
        dist.barrier()
        began = time.perf_counter()
        if kind == "all_reduce":
            dist.all_reduce(whole)
        elif kind == "all_gather":
            dist.all_gather_single(whole, share)
        else:
            dist.reduce_scatter_single(share, whole)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:])


def _foretell(name: str, ranks: int, accumulation: int, alone: float, alpha: float, beta: dict[str, float]) -> float:
    """Return the plan's step on this machine, whose speed is such that a rank for itself takes `alone` seconds."""
    config = load(overrides(name, ranks, accumulation))
    planner = Planner(config, ranks)
    images = config.global_batch // ranks
    assumed = Assumed(
        arithmetic_share=1,
        bandwidth_share=1,
        kernel_us=0,
        host_us=0,
        link_latency_us=1e6 * alpha,
        network_latency_us=1e6 * alpha,
        host_copy_gb_s=1,
        disk_gb_s=1,
        overlaps=name == "ddp",
        reach={kind: value / beta["all_reduce"] for kind, value in beta.items()},
    )
    flops = planner.at(config.micro_batch_size, images).flops / alone
    card = GPU(
        name="this machine",
        memory_gb=10,
        bandwidth_gb_s=1e6,  # what an operator takes for its memory is in the FLOP/s that were measured
        tflops={"fp32": flops / 1e12},
        link_gb_s=beta["all_reduce"] / 1e9,
        network_gbit_s=1,
        source="measured",
    )
    cluster = Cluster(card, assumed, 1, ranks, 1e9)
    estimate = planner.estimate(name, config.strategy, cluster, micro_batch=config.micro_batch_size, images=images)
    return estimate.time.total


def tables(report: dict[str, Any]) -> str:
    """Return the page's tables."""
    load = f", load average {report['load'][0]:.0f}" if "load" in report else ""
    lines = [f"Measured on {report['date']}: {report['host']}, {report['cpus']} cores{load}.", ""]
    if rows := report.get("memory"):
        lines += [
            "| strategy | ranks | micro-batches | messages | plan | bytes | plan | MiB at most | plan | |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            peak, plan = row["peak"] / 2**20, row["peak_plan"] / 2**20
            cells = [row["strategy"], row["ranks"], row["accumulation"], row["messages"], f"{row['messages_plan']:g}"]
            cells += [f"{row['bytes']:,}", f"{row['bytes_plan']:,.0f}", f"{peak:.1f}", f"{plan:.1f}"]
            lines.append("| " + " | ".join(map(str, [*cells, f"{plan / peak - 1:+.1%}"])) + " |")
    for one in report.get("time", []):
        lines += [
            "",
            f"{one['ranks']} ranks, each for itself {one['alone']:.3f} s a step; gloo: {one['latency_us']:.0f} µs, "
            + ", ".join(f"{kind} {value:.2f} GB/s" for kind, value in one["gb_s"].items())
            + ".",
            "",
            "| strategy | s a step, median (quartiles) | plan | |",
            "|---|---|---|---|",
        ]
        for name, step in one["steps"].items():
            quarters = [one["alone"] * ratio for ratio in statistics.quantiles(step["ratios"], n=4)]
            spread = f"{quarters[0]:.3f} to {quarters[2]:.3f}"
            off = step["plan"] / step["measured"] - 1
            lines.append(f"| {name} | {step['measured']:.3f} ({spread}) | {step['plan']:.3f} | {off:+.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("memory", "time"))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), help="of the memory")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file of an earlier part to go on with, and to write")
    parser.add_argument("--write", action="store_true", help="put the tables into planning.md")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    report: dict[str, Any] = {}
    if options.json and options.json.is_file():
        report = json.loads(options.json.read_text())
    report |= {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "host": platform.platform(),
        "cpus": os.cpu_count(),
    }
    if options.only != "time":
        report["memory"] = [row for ranks in options.ranks for row in compare(ranks, cases(ranks, options.strategies))]
    if options.only != "memory":
        names = ["ddp", "fsdp", "zero-1"]
        report["load"] = os.getloadavg()
        report["time"] = [time_steps(ranks, names, options.rounds, 1) for ranks in options.ranks if ranks > 1]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(tables(report))
    if options.write:
        before, _, rest = PAGE.read_text().partition(MARKS[0])
        PAGE.write_text(f"{before}{MARKS[0]}\n{tables(report)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    main()
