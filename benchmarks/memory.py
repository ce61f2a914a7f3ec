"""What each strategy keeps in a rank's memory, measured, beside what the formula says: StyleGAN2, 100M weights.

    python benchmarks/memory.py --ranks 2 4 --json memory.json

Two steps on random images, then the tensors of each rank are counted by part (weights, gradients, Adam's moments), and
the process's largest resident size is read. The formula, for weights of 4 bytes, N ranks and no other copy, in bytes
a weight: DDP 4 + 4 + 8; ZeRO-1 4 + 4 + 8/N; ZeRO-2 4 + 4/N + 8/N; ZeRO-3 and FSDP2 (4 + 4 + 8)/N.
"""

import argparse
import json
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from pydantic import TypeAdapter

from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.init import join_ranks, leave_ranks
from bigtrain.distributed.memory import MIB, highest_ever
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.step import compute_gradients
from bigtrain.strategies import StrategyConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from data_pipelines.fields.spec import FieldSpec

KINDS: dict[str, tuple[dict[str, Any], Callable[[int], tuple[float, float, float]]]] = {
    "ddp": ({"kind": "ddp"}, lambda n: (4, 4, 8)),
    "zero-1": ({"kind": "deepspeed", "stage": 1}, lambda n: (4, 4, 8 / n)),
    "zero-2": ({"kind": "deepspeed", "stage": 2}, lambda n: (4, 4 / n, 8 / n)),
    "zero-3": ({"kind": "deepspeed", "stage": 3}, lambda n: (4 / n, 4 / n, 8 / n)),
    "fsdp": ({"kind": "fsdp"}, lambda n: (4 / n, 4 / n, 8 / n)),
}
"""A strategy's config, and the bytes a weight that it should keep as weights, gradients and moments on n ranks."""


def one_rank(rank: int, world_size: int, port: int, settings: dict[str, Any], width: int, folder: str) -> None:
    """Take two steps and write down what they took."""
    place = {
        "RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in place.items()}, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    ranks = join_ranks()
    before = highest_ever(ranks.device)
    network = {"kind": "stylegan2", "channel_base": 32 * width, "channel_max": width}
    config = {
        "generator": network,
        "discriminator": network,
        "optim": {"G": {"lr": 1e-4}, "D": {"lr": 1e-4}},
        "global_batch": 4,
    }
    fields = {"image": FieldSpec("image", (3, 32, 32), "uint8")}
    task = parse_config(SynthesisConfig, config, source="memory").build_task(fields, {}, seed=0, device=ranks.device)
    weights = sum(value.numel() for player in task.players.values() for value in player.parameters())
    strategy_config: Any = TypeAdapter(StrategyConfig).validate_python(settings)
    strategies = {
        name: strategy_config.build(player, task.optimizers[name], "fp32", 1, ranks)
        for name, player in task.players.items()
    }
    progress = Progress(1000, 4 * world_size)
    for step in range(2):
        batch = random_batch(fields, Draws(0, torch.arange(4) + 4 * (rank + world_size * step)))
        for phase in task.phases(progress):
            compute_gradients(task, strategies, phase, batch, 4)
            now = (progress.samples_seen, progress.total)
            settings = task.optimizers[phase.player].settings_at(*now, global_batch=4 * world_size)
            strategies[phase.player].step(settings)
    memory_use = [asdict(strategy.memory_use()) for strategy in strategies.values()]
    parts = {part: sum(one[part] for one in memory_use) for part in ("parameters", "gradients", "optimizer")}
    found = {**parts, "weights": weights, "resident": highest_ever(ranks.device) - before}
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(found))
    leave_ranks()


def measure(kind: str, world_size: int, width: int) -> dict[str, float]:
    """Return MiB of the rank that has most, by part, beside the formula's."""
    settings, formula = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.start_processes(one_rank, (world_size, port, settings, width, folder), world_size, start_method="spawn")
        found = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    most = {key: max(one[key] for one in found) for key in found[0]}
    expected = dict(zip(("parameters", "gradients", "optimizer"), formula(world_size), strict=True))
    row = {f"{part}_mib": most[part] / MIB for part in (*expected, "resident")}
    row |= {f"{part}_formula_mib": each * most["weights"] / MIB for part, each in expected.items()}
    return {"weights": most["weights"], **row}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--width", type=int, default=800, help="channels; 800 makes 100M weights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.platform(),
    }
    for world_size in options.ranks:
        for kind in options.strategies:
            row = measure(kind, world_size, options.width)
            report[f"{kind} on {world_size}"] = row
            print(f"{kind} on {world_size}:", *(f"{name} {value:.0f}" for name, value in row.items()), flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
