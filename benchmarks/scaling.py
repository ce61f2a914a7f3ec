"""How training scales from one rank to two on one machine, one thread a rank: images per second, and where they go.

    python benchmarks/scaling.py --json scaling.json
    python benchmarks/scaling.py --config biggan32 --link 10gbit     # two network namespaces, needs root

Three arms take turns, a few steps each, round after round, so that a neighbour's noise falls on all of them: one rank
alone; two ranks that train together; and two ranks that train apart at the same time, which is what this machine has
to give when both cores work (shared caches, memory, clock). Everything of a step counts: data, both players, the
average. Efficiency is img/s together over twice img/s alone.

With `--link` the two ranks live in network namespaces of their own, joined by a veth pair that `tc tbf` shapes, and
DDP, which sends during the backward, takes turns with one all-reduce after it.
"""

import argparse
import ctypes
import itertools
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NETWORKS: dict[str, dict[str, Any]] = {
    "biggan32": {
        "data": {"resolution": 32, "channels": 3, "classes": 10},
        "generator": {"kind": "biggan", "z_dim": 128, "width": 64, "multiples": [4, 4, 4, 4]},
        "discriminator": {"kind": "biggan", "width": 64, "multiples": [2, 2, 2, 2], "halvings": 3},
        "objective": {"adversarial": "hinge"},
    },
    "stylegan2-64": {
        "data": {"resolution": 64, "channels": 3, "classes": 0},
        "generator": {"kind": "stylegan2", "channel_base": 4096, "channel_max": 128},
        "discriminator": {"kind": "stylegan2", "channel_base": 4096, "channel_max": 128},
        "objective": {"terms": {"r1": {"gamma": 1.0, "interval": 16}}},
    },
}
NEVER = {"interval_kimg": 0}
CLONE_NEWNET = 0x40000000
PORTS = itertools.count(20000 + os.getpid() % 10000)


@dataclass
class Arm:
    """Some ranks that train when they are told to.

    Attributes:
        name: of the arm.
        pipes: one a process.
        processes: theirs.
        images: of a step of the arm.
    """

    name: str
    pipes: list[Connection]
    processes: list[Any]
    images: int

    def steps(self, count: int) -> list[dict[str, float]]:
        """Let all ranks take some steps at the same time; return what each measured."""
        for pipe in self.pipes:
            pipe.send(count)
        return [pipe.recv() for pipe in self.pipes]

    def end(self) -> None:
        """Let the processes end."""
        for pipe in self.pipes:
            pipe.send(0)
        for process in self.processes:
            process.join()


def rank_process(pipe: Connection, place: dict[str, str], core: int, settings: dict[str, Any]) -> None:
    """Be one rank: build the run, then take steps as told."""
    os.environ.update(place, OMP_NUM_THREADS="1")
    if namespace := place.get("NAMESPACE"):
        with Path(f"/run/netns/{namespace}").open() as file:  # before any other thread is there to stay behind
            if ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET):
                raise OSError(f"cannot enter the network namespace {namespace}")
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})
    import time

    import torch

    from bigtrain.build import build
    from bigtrain.config import parse_training
    from bigtrain.distributed.collectives import barrier
    from bigtrain.distributed.init import join_ranks, leave_ranks
    from bigtrain.distributed.stragglers import communication_metrics, gather_times
    from bigtrain.distributed.traffic import traffic

    torch.set_num_threads(1)
    config = parse_training(settings, source="benchmark")
    ranks = join_ranks()
    config.folder.mkdir(parents=True, exist_ok=True)
    trainer = build(config, ranks, config.folder)
    trainer.feed.seek(0)
    pipe.send("ready")
    while count := pipe.recv():
        barrier()
        traffic.read()
        began = time.perf_counter()
        for _ in range(count):
            trainer.take_step()
        barrier()
        seconds = time.perf_counter() - began
        pipe.send(
            {"seconds": seconds / count} | communication_metrics(gather_times(traffic.read(), ranks.device), timed=True)
        )
    trainer.feed.close()
    leave_ranks()


def start_arm(
    name: str,
    settings: dict[str, Any],
    folder: Path,
    groups: list[int],
    strategy: dict[str, Any],
    hosts: list[str] | None = None,
) -> Arm:
    """Start an arm of one or more groups of ranks, which know nothing of each other."""
    context = multiprocessing.get_context("spawn")
    pipes, processes, core = [], [], 0
    for group, world_size in enumerate(groups):
        port = next(PORTS)
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            place = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
            place |= {"MASTER_ADDR": ADDRESS[0] if hosts else "127.0.0.1", "MASTER_PORT": str(port)}
            place |= {"GLOO_SOCKET_IFNAME": f"bt-veth{rank}", "NAMESPACE": hosts[rank]} if hosts else {}
            own = {
                **settings,
                "run_dir": str(folder / f"{name}-{group}"),
                "strategy": strategy,
                "global_batch": settings["micro_batch"] * world_size,
            }
            process = context.Process(target=rank_process, args=(theirs, place, core, own), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
            core += 1
    for pipe in pipes:
        pipe.recv()
    return Arm(name, pipes, processes, settings["micro_batch"] * sum(groups))


def settings_of(name: str, batch: int, precision: str, data: Path) -> dict[str, Any]:
    """Return a run's config, without folder, strategy and global batch."""
    network = NETWORKS[name]
    return {
        **network,
        "task": "synthesis",
        "total_kimg": 1e6,
        "micro_batch": batch,
        "precision": precision,
        "data": {**network["data"], "path": str(data)},
        "optim": {"G": {"lr": 1e-4}, "D": {"lr": 1e-4}},
        "ema": {"half_life_kimg": 10},
        **dict.fromkeys(("log", "preview", "snapshot"), NEVER),
        "checkpoint": {"interval_kimg": 1e6},
        "eval": {**NEVER, "samples": 2},
        "health": {"held_out": 0.0, "images": 2, "neighbours": 2},
        "tracking": {"mlflow": False},
    }


def make_data(name: str, folder: Path) -> Path:
    """Write shards of random images."""
    import numpy as np

    from data_pipelines.prepare.arrays import from_arrays
    from data_pipelines.write import ShardOptions, write_shards

    data = NETWORKS[name]["data"]
    images = np.random.default_rng(0).integers(0, 256, (512, 3, *[data["resolution"]] * 2), dtype=np.uint8)
    classes = [f"class {number}" for number in range(data["classes"])]
    labels = [number % len(classes) if classes else -1 for number in range(len(images))]
    source = from_arrays("noise", images, labels, classes=classes, licence="none", origin="random numbers")
    write_shards(source, folder / name, ShardOptions(shard_samples=128))
    return folder / name


ADDRESS = ("10.77.0.1", "10.77.0.2")


def join_namespaces(rate: str) -> list[str]:
    """Make two network namespaces with a shaped link between them; return their names."""
    names = [f"bigtrain-{os.getpid()}-{number}" for number in range(2)]
    for name in names:
        _ip("netns", "add", name)
    _ip("link", "add", "bt-veth0", "netns", names[0], "type", "veth", "peer", "name", "bt-veth1", "netns", names[1])
    for number, name in enumerate(names):
        inside = ["ip", "netns", "exec", name]
        _ip("-n", name, "address", "add", f"{ADDRESS[number]}/24", "dev", f"bt-veth{number}")
        for device in ("lo", f"bt-veth{number}"):
            _ip("-n", name, "link", "set", device, "up")
        shape = ["tc", "qdisc", "add", "dev", f"bt-veth{number}", "root", "tbf", "rate", rate]
        subprocess.run([*inside, *shape, "burst", "256kb", "latency", "50ms"], check=True)
    return names


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def measure(arms: list[Arm], rounds: int, steps: int) -> dict[str, Any]:
    """Let the arms take turns; return the median images per second of each, and what rank 0 saw of messages."""
    for arm in arms:
        arm.steps(2)  # the first steps allocate
    speeds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    seen: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in arms}
    for _ in range(rounds):
        for arm in arms:
            found = arm.steps(steps)
            speeds[arm.name].append(arm.images / max(one["seconds"] for one in found))
            seen[arm.name].append(found[0])
    result: dict[str, Any] = {}
    for name, values in speeds.items():
        comm = {key: statistics.median(one[key] for one in seen[name]) for key in seen[name][0] if "comm" in key}
        result[name] = {"img_per_s": statistics.median(values), "rounds": values, **comm}
    return result


def ratio(result: dict[str, Any], one: str, other: str) -> list[float]:
    """Return one arm's speed over another's, round by round."""
    return [a / b for a, b in zip(result[one]["rounds"], result[other]["rounds"], strict=True)]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=NETWORKS, action="append", help="default: all")
    parser.add_argument("--batch", type=int, default=32, help="images a rank")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--link", help="rate between two network namespaces, such as 1gbit")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bigtrain-scaling-"))
    report: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.platform(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg(),
    }
    hosts = join_namespaces(options.link) if options.link else None
    try:
        for name in options.config or NETWORKS:
            settings = settings_of(name, options.batch, options.precision, make_data(name, folder))
            if hosts:
                kinds = (
                    {"kind": "ddp", "bucket_mb": 2},
                    {"kind": "flat"},
                )  # of several buckets all but the last overlap
                arms = [start_arm(f"{k['kind']} over {options.link}", settings, folder, [2], k, hosts) for k in kinds]
            else:
                arms = [
                    start_arm("alone", settings, folder, [1], {"kind": "single"}),
                    start_arm("together", settings, folder, [2], {"kind": "ddp"}),
                    start_arm("apart", settings, folder, [1, 1], {"kind": "single"}),
                ]
            result = measure(arms, options.rounds, options.steps)
            if hosts is None:
                each = {"efficiency": [r / 2 for r in ratio(result, "together", "alone")]}
                each |= {"of_what_two_cores_give": ratio(result, "together", "apart")}
                result |= {key: {"median": statistics.median(v), "rounds": v} for key, v in each.items()}
            report[name] = result
            for arm in arms:
                arm.end()
    finally:
        for host in hosts or ():
            _ip("netns", "delete", host)
        shutil.rmtree(folder)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
