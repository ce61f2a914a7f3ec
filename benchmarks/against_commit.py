"""Step time and data throughput of this tree against another commit's, in turn with it on the same core.

    git worktree add /tmp/old 583f4a7
    .venv/bin/python benchmarks/against_commit.py /tmp/old --rounds 7

Each tree has a process with one thread, which builds the quickstart and, of its own `benchmarks/train_step.py`,
StyleGAN2 at 64x64 with micro-batches of 4, and reads shards as its own `benchmarks/data_pipeline.py` does. The two are
asked in turn, phase by phase, and in each round the other one goes first. What is compared is CPU time, since other
processes take turns on the cores as well; wall time stands beside it. A ratio is the median over the rounds of each
round's ratio, with its quartiles. Making up a random batch is timed by itself and taken off: the trees make them up
differently, and training reads them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
DATA, BATCHES = "data", 40
STYLEGAN_BATCH = 4
WORKLOADS = ("quickstart", "stylegan2-64")


def serve(workload: str, data: str) -> None:
    """Be a tree's process."""
    sys.path[0] = str(Path("benchmarks").resolve())  # the tree's own, not this file's
    import torch
    import train_step
    from data_pipeline import ours

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if workload == DATA:
        reading = _reading(ours, data)
        takes = {DATA: lambda: [next(reading) for _ in range(BATCHES)]}
        often = {DATA: 1.0}
    else:
        from bigtrain.core.host_memory import keep_freed_memory

        keep_freed_memory()
        torch.manual_seed(0)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        run = train_step.Steps(_config(train_step, workload))
        often = {**run.often, "batch": 0.0}
        takes = {kind: (lambda kind=kind: run.take(kind)) for kind in run.often} | {"batch": run._batch}
    print(json.dumps(often), flush=True)
    for line in sys.stdin:
        cpu, clock = time.process_time(), time.perf_counter()
        takes[line.strip()]()
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - clock]), flush=True)


def _reading(ours: Any, data: str) -> Iterator[Any]:
    class Place:
        shards = data

    return ours(Place(), 0)


def _config(train_step: Any, workload: str) -> Any:
    if workload == "quickstart":
        import yaml

        recipe = Path("configs/synthesis/biggan-fashion32.yaml")  # until 2026-11-30 the quickstart
        path = recipe if recipe.is_file() else Path("configs/quickstart.yaml")
        config = yaml.safe_load(path.read_text())
        kept = {key: config[key] for key in ("generator", "discriminator", "objective", "micro_batch")}
        data = {key: config["data"][key] for key in ("resolution", "channels", "classes")}
        train_step.WORKLOADS[workload] = {**kept, "data": data}
    batch = STYLEGAN_BATCH if workload == "stylegan2-64" else None
    settings = train_step.settings_of(workload, batch, "bf16", compiled=False)
    try:
        from bigtrain.config import parse_training
    except ImportError:  # of the time when one kind of run was all there was
        from bigtrain.config import AnyTraining
        from bigtrain.core.config import parse_config

        return parse_config(AnyTraining, settings, source="benchmark")
    return parse_training(settings, source="benchmark")


@contextmanager
def tree(folder: Path, workload: str, data: str) -> Iterator[tuple[dict[str, float], Any]]:
    """Start a tree's process; give how often a step has each kind of phase, and a function that takes one."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE), "--serve", workload, data]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment) as process:
        assert process.stdin is not None and process.stdout is not None

        def take(kind: str) -> tuple[float, float]:
            process.stdin.write(f"{kind}\n")
            process.stdin.flush()
            cpu, clock = json.loads(process.stdout.readline())
            return cpu, clock

        yield json.loads(process.stdout.readline()), take
        process.stdin.close()


def compare(old: Path, workload: str, data: str, rounds: int) -> str:
    """Return a row of the table: what a step, or a batch, takes in both trees, and the ratio."""
    with ExitStack() as stack:
        here = stack.enter_context(tree(HERE.parents[1], workload, data))
        there = stack.enter_context(tree(old, workload, data))
        often, kinds = here[0], list(here[0])
        assert kinds == list(there[0]), f"{kinds} and {list(there[0])}: not the same phases"
        sums: dict[str, list[tuple[float, float]]] = {"new": [], "old": []}
        for number in range(-1, rounds):
            found = {name: {} for name in sums}
            for kind in kinds:
                order = [("new", here[1]), ("old", there[1])][:: 1 if number % 2 else -1]
                for name, take in order:
                    found[name][kind] = take(kind)
            if number >= 0:
                for name, times in found.items():
                    made = times.get("batch", (0.0, 0.0))
                    per = [
                        sum(often[kind] * (times[kind][i] - (kind != "average") * made[i]) for kind in kinds)
                        for i in (0, 1)
                    ]
                    sums[name].append((per[0], per[1]))
    ratios = [new[0] / old[0] for new, old in zip(sums["new"], sums["old"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    cpu, clock = (
        {name: 1000 * statistics.median(one[i] for one in times) for name, times in sums.items()} for i in (0, 1)
    )
    return (
        f"| {workload} | {cpu['old']:.1f} | {cpu['new']:.1f} | {middle:.3f} ({low:.3f} to {high:.3f}) | "
        f"{clock['old']:.1f} | {clock['new']:.1f} |"
    )


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", default="data/fashion-mnist-10k", help="shards of the format before fields")
    parser.add_argument("--only", default=",".join((*WORKLOADS, DATA)))
    given = parser.parse_args()
    print("| | old, CPU ms | new, CPU ms | new / old | old, ms | new, ms |\n|---|---|---|---|---|---|")
    for workload in given.only.split(","):
        print(compare(given.old.resolve(), workload, str(Path(given.data).resolve()), given.rounds), flush=True)


if __name__ == "__main__":
    main()
