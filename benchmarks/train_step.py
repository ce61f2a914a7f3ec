"""How fast a training step is, for the networks and iterations that GAN papers train; beside the plain path if asked.

    python benchmarks/train_step.py --workload biggan-32 --json
    python benchmarks/train_step.py --workload stylegan2-64 --reference --rounds 5

A step's phases are timed one by one, each kind of them (with R1, without) as often, and added up by how often a step
has them: with lazy regularisation sixteen steps would have to pass otherwise. A phase is all that moves its player:
random numbers, both networks, the augmentation, backward, Adam. The average of the weights is a phase of its own.
With `--inference`, what is timed is a batch of images from the averaged generator instead, without gradients.
Images are random and in memory; nothing is read, logged or sent.

With `--reference`, the same work by the plain path runs in a process of its own, phase by phase in turn with the fast
one, and `times_reference` is the ratio of images a CPU-second. The plain path is float32, in PyTorch's default layout,
every operator by its reference twin in the order in which the papers' own code computes it, and memory is freed as the
C library does by itself. That code itself is not run: part of it may not be, by its licence. The plain path of
`esrgan-x4` is plain PyTorch instead, in the shape of BasicSR (`plain_esrgan.py`). Of `--precision`, several
may be given: each is a path of its own, in turn with the others. `--torch-compile` changes the fast paths alone. One
line of JSON for each path.

What a path computes is counted (`gflop_per_iter`: matrix products and convolutions, two operations a multiply-add), and
beside it stands what this machine reaches at best in the same run (`ceiling_gflop_per_s`: the faster of a large matrix
product and of a large 3x3 convolution, in the path's precision), and `of_ceiling`, the share of it that is reached.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

BGC = {"kind": "ada", "transforms": "bgc", "probability": {"kind": "fixed", "p": 0.3}}
STYLEGAN_DATA = {"resolution": 64, "channels": 3, "classes": 0}
CLIPS = {"fields": {"video": {"kind": "video", "shape": [16, 3, 32, 32]}}}
WORKLOADS: dict[str, dict[str, Any]] = {
    "stylegan2-64": {
        "data": STYLEGAN_DATA,
        "generator": {"kind": "stylegan2", "channel_base": 16384, "mapping_layers": 2},
        "discriminator": {"kind": "stylegan2", "channel_base": 16384},
        "objective": {
            "style_mixing": 0.9,
            "terms": {"r1": {"gamma": 1.0, "interval": 16}, "path_length": {"interval": 4, "shrink": 2}},
        },
        "augment": BGC,
        "micro_batch": 16,
    },
    "stylegan2-32": {
        "data": {"resolution": 32, "channels": 3, "classes": 0},
        "generator": {"kind": "stylegan2", "mapping_layers": 2},
        "discriminator": {"kind": "stylegan2", "architecture": "orig"},
        "objective": {"terms": {"r1": {"gamma": 0.01, "interval": 16}}},
        "augment": BGC,
        "micro_batch": 32,
    },
    "stylegan3-t-64": {
        "data": STYLEGAN_DATA,
        "generator": {"kind": "stylegan3", "channel_base": 16384},
        "discriminator": {"kind": "stylegan2", "channel_base": 16384},
        "objective": {"terms": {"r1": {"gamma": 1.0, "interval": 16}}},
        "augment": BGC,
        "micro_batch": 4,
    },
    "biggan-32": {
        "data": {"resolution": 32, "channels": 3, "classes": 10},
        "generator": {"kind": "biggan", "z_dim": 128, "width": 64, "multiples": [4, 4, 4, 4]},
        "discriminator": {"kind": "biggan", "width": 64, "multiples": [4, 4, 4, 4], "halvings": 2},
        "objective": {"adversarial": "hinge", "n_critic": 4},
        "micro_batch": 32,
    },
    "biggan-128": {
        "data": {"resolution": 128, "channels": 3, "classes": 1000},
        "generator": {
            "kind": "biggan",
            "width": 32,
            "z_dim": 120,
            "shared_dim": 128,
            "hierarchical": True,
            "attention": [64],
        },
        "discriminator": {"kind": "biggan", "width": 32, "attention": [64]},
        "objective": {"adversarial": "hinge"},
        "micro_batch": 16,
    },
    "r3gan-32": {
        "data": {"resolution": 32, "channels": 3, "classes": 0},
        "generator": {"kind": "r3gan", "preset": "cifar10", "scale": 0.5},
        "discriminator": {"kind": "r3gan", "preset": "cifar10", "scale": 0.5},
        "objective": {
            "adversarial": "relativistic_pairing",
            "terms": {"r1": {"gamma": 0.05, "fp32": False}, "r2": {"gamma": 0.05, "fp32": False}},  # as its recipe
        },
        "micro_batch": 32,
    },
    "esrgan-x4": {
        "task": "translation",
        "data": {"resolution": 64, "derived": {"input": {"kind": "downscale", "scale": 4}}},
        "target": "image",
        "generator": {"kind": "rrdb", "blocks": 4},
        "discriminator": {"kind": "unet"},
        "conditional": False,
        "objective": {
            "adversarial": "relativistic_average",
            "adversarial_weight": 0.005,
            "terms": {"l1": {"weight": 0.01}, "perceptual": {"weight": 1.0}},
        },
        "micro_batch": 8,
    },
    "wavegan-16k": {
        "data": {"fields": {"audio": {"kind": "audio", "shape": [1, 16384]}}},
        "field": "audio",
        "generator": {"kind": "wavegan", "width": 32},
        "discriminator": {"kind": "wavegan", "width": 32},
        "objective": {"adversarial": "wasserstein", "n_critic": 5, "terms": {"wgan_gp": {"weight": 10}}},
        "micro_batch": 16,
    },
    "mocogan-32": {
        "data": CLIPS,
        "field": "video",
        "generator": {"kind": "mocogan", "base": {"kind": "dcgan", "z_dim": 40, "width": 32}},
        "discriminator": {
            "kind": "mocogan",
            "base": {"kind": "dcgan", "width": 32, "norm": "none"},
            "width": 32,
            "norm": "none",
        },
        "objective": {"terms": {"r1": {"gamma": 2, "interval": 8}}},
        "micro_batch": 8,
    },
    "dvdgan-32": {
        "data": CLIPS,
        "field": "video",
        "generator": {"kind": "dvdgan", "width": 16, "multiples": [8, 4, 4, 2]},
        "discriminator": {
            "kind": "dvdgan",
            "width": 16,
            "multiples": [1, 2, 4, 8],
            "temporal_multiples": [1, 2, 4],
            "frames": 4,
        },
        "objective": {"adversarial": "hinge"},
        "micro_batch": 8,
    },
    "gan3d-32": {
        "data": {"fields": {"array": {"kind": "array", "shape": [1, 32, 32, 32]}}},
        "field": "array",
        "generator": {"kind": "gan3d", "width": 16},
        "discriminator": {"kind": "gan3d", "width": 16},
        "objective": {"terms": {"r1": {"gamma": 1, "interval": 8}}},
        "micro_batch": 16,
    },
}
NEVER = {"interval_kimg": 0}
SAMPLE, CEILING, COUNT = "sample", "the ceiling", "what is computed"
"""Asked of a path beside its phases."""


def settings_of(workload: str, batch: int | None, precision: str, compiled: bool) -> dict[str, Any]:
    """Return a run's config."""
    own = WORKLOADS[workload]
    micro = batch or own["micro_batch"]
    return {
        "task": "synthesis",
        **own,
        "run_dir": "runs/train_step",
        "total_kimg": 1e4,
        "micro_batch": micro,
        "global_batch": micro,
        "precision": precision,
        **({"compile": True} if compiled else {}),
        "data": {**own["data"], "path": "in memory"},
        "optim": {"G": {"lr": 2e-3}, "D": {"lr": 2e-3}},
        "strategy": {"kind": "single"},
        "ema": {"half_life_kimg": 10},
        **dict.fromkeys(("log", "preview", "snapshot"), NEVER),
        "checkpoint": {"interval_kimg": 1e4},
        "eval": {**NEVER, "samples": 2},
    }


def path_process(pipe: Connection, settings: dict[str, Any], threads: int, plain: bool, inference: bool) -> None:
    """Be one path: build the players, then run a kind of phase when told."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import contextlib

    import torch

    from bigtrain.config import parse_training
    from bigtrain.core.host_memory import keep_freed_memory
    from bigtrain.ops.twins import reference_paths

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as in training; on the plain path too, though it need not be so there
    if not plain:
        keep_freed_memory()  # as in training
    torch.manual_seed(0)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    config = parse_training(settings, source="benchmark")
    run: Any = Steps(config, plain=plain, inference=inference)
    if plain and config.task == "translation":
        from plain_esrgan import PlainESRGAN

        run = PlainESRGAN(config, run.often)
    pipe.send({"often": run.often, "parameters": run.parameters})
    with reference_paths(as_published=True) if plain else contextlib.nullcontext():
        while (kind := pipe.recv()) is not None:
            if kind == CEILING:
                pipe.send(ceiling(settings["precision"]))
            elif kind == COUNT:
                pipe.send({kind: run.count(kind) for kind in run.often})
            else:
                cpu, clock = time.process_time(), time.perf_counter()
                run.take(kind)
                pipe.send((time.process_time() - cpu, time.perf_counter() - clock))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def ceiling(precision: str) -> float:
    """Return the GFLOP a CPU-second of the largest kernels in a precision, the better of two kinds."""
    import torch

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    square = torch.randn(2048, 2048, dtype=dtype)
    layout = torch.channels_last
    image, weight = (
        torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
        for shape in ((8, 256, 48, 48), (256, 256, 3, 3))
    )
    work = {
        2 * 2048**3: lambda: square @ square,
        2 * 8 * 48 * 48 * 9 * 256 * 256: lambda: torch.nn.functional.conv2d(image, weight, padding=1),
    }
    best = 0.0
    for flop, act in work.items():
        act()
        began = time.process_time()
        act()
        best = max(best, flop / (time.process_time() - began) / 1e9)
    return best


class Steps:
    """The phases of a run's steps, on random images.

    Args:
        config: of the run.
        plain: in PyTorch's default layout.
        inference: sample instead.

    Attributes:
        often: how often a step has each kind of phase, the average's among them.
        parameters: how many each player has.
    """

    def __init__(self, config: Any, *, plain: bool = False, inference: bool = False) -> None:
        import torch

        from bigtrain.core.rng import Draws
        from bigtrain.core.state import Progress
        from bigtrain.distributed.init import Ranks
        from bigtrain.engine.ema import EMA
        from bigtrain.planning.counting import kinds_of_phases

        self._config = config
        self._plain = plain
        device = torch.device("cpu")
        self._fields = config.data.field_specs()
        self._task = config.build_task(self._fields, {}, seed=0, device=device)
        ranks = Ranks(0, 1, 0, device)
        if plain:  # networks are laid out where they are built
            for player in self._task.players.values():
                player.to(memory_format=torch.contiguous_format)
        for frozen in self._task.frozen():
            frozen.load(device)
        self._strategies = {
            name: config.strategy.build(player, self._task.optimizers[name], config.precision, 1, ranks)
            for name, player in self._task.players.items()
        }
        self._averages = {name: EMA(config.ema, network) for name, network in self._task.averaged.items()}
        self._averaged = {name: average.network for name, average in self._averages.items()}
        self._progress = Progress(round(config.total_kimg * 1000), config.global_batch * self._task.batches_per_step)
        found = {"+".join(kind): entry for kind, entry in kinds_of_phases(self._task, self._progress).items()}
        self._phases = {name: phase for name, (phase, _) in found.items()}
        self.often = {**{name: share for name, (_, share) in found.items()}, "average": 1.0}
        if inference:
            self.often = {SAMPLE: 1.0}
            if plain:
                for network in self._averaged.values():
                    network.to(memory_format=torch.contiguous_format)
            self._task.sampler.calibrate(self._averaged, Draws(0, torch.arange(1024), "calibrate"))
        networks = self._task.networks()
        self.parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}

    def take(self, kind: str) -> None:
        """Run a phase of this kind, move the average, or sample."""
        import torch

        from bigtrain.distributed.precision import autocast
        from bigtrain.engine.step import compute_gradients, update_averages

        if kind == SAMPLE:
            with torch.no_grad(), autocast("cpu", self._config.precision):
                batch = self._batch()
                given = {name: batch[name] for name in self._task.sampler.inputs if name in batch.fields}
                self._task.sampler(self._averaged, given, batch.draws)
            self._progress.advance()
            return
        if kind == "average":
            update_averages(self._task, self._strategies, self._averages, self._progress)
            self._progress.advance()
            self._task.after_step(self._progress)
            return
        phase, size = self._phases[kind], self._config.global_batch
        compute_gradients(self._task, self._strategies, phase, self._batch(), size)
        settings = self._task.optimizers[phase.player].settings_at(0, 1, global_batch=size)
        self._strategies[phase.player].step(settings)

    def count(self, kind: str) -> float:
        """Return the GFLOP of a phase of this kind, which is taken."""
        from bigtrain.planning.operations import Counter

        with Counter() as counter:
            self.take(kind)
        return counter.flops / 1e9

    def _batch(self) -> Any:
        import torch

        from bigtrain.core.batch import Batch, dense
        from bigtrain.core.rng import Draws
        from bigtrain.engine.made_up import random_batch

        draws = Draws(0, torch.arange(self._config.global_batch) + self._progress.samples_seen)
        made = random_batch(self._fields, draws)
        lay_out = torch.Tensor.contiguous if self._plain else dense
        fields = {name: lay_out(field) for name, field in made.fields.items()}
        return Batch(fields, draws)


def measure(paths: dict[str, Connection], rounds: int) -> dict[str, dict[str, Any]]:
    """Let the paths take turns, phase by phase; return what each needs."""
    facts = {name: pipe.recv() for name, pipe in paths.items()}
    seconds: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: {kind: [] for kind in fact["often"]} for name, fact in facts.items()
    }
    ceilings: dict[str, list[float]] = {name: [] for name in paths}
    for number in range(rounds + 1):
        for kind in next(iter(facts.values()))["often"]:
            for name, pipe in paths.items():
                pipe.send(kind)
                found = pipe.recv()
                if number:  # the first round allocates, and may compile
                    seconds[name][kind].append(found)
        for name, pipe in paths.items():
            pipe.send(CEILING)
            ceilings[name].append(pipe.recv())
        print(f"round {number} of {rounds}", file=sys.stderr)
    memory = {}
    for name, pipe in paths.items():
        pipe.send(COUNT)
        facts[name]["gflop"] = pipe.recv()
        pipe.send(None)
        memory[name] = round(pipe.recv())
    return {
        name: {
            **facts[name],
            "ceiling": statistics.median(ceilings[name]),
            "peak_rss_mb": memory[name],
            "cpu": {kind: statistics.median(cpu for cpu, _ in times) for kind, times in seconds[name].items()},
            "clock": {kind: statistics.median(clock for _, clock in times) for kind, times in seconds[name].items()},
            "spread": {
                kind: round(max(cpu for cpu, _ in times) / min(cpu for cpu, _ in times), 3)
                for kind, times in seconds[name].items()
            },
        }
        for name, _ in facts.items()
    }


def summary(found: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Add up a path's phases to a step."""
    often = found["often"]
    cpu = sum(often[kind] * seconds for kind, seconds in found["cpu"].items())
    clock = sum(often[kind] * seconds for kind, seconds in found["clock"].items())
    images = settings["global_batch"]  # of one G step, whatever D takes
    gflop = sum(often[kind] * amount for kind, amount in found["gflop"].items())
    return {
        "img_per_s": round(images / clock, 3),
        "img_per_cpu_s": round(images / cpu, 3),
        "sec_per_iter": round(clock, 4),
        "phases": {
            kind: {"a_step": often[kind], "cpu_s": round(found["cpu"][kind], 4), "spread": found["spread"][kind]}
            for kind in often
        },
        "gflop_per_iter": round(gflop, 1),
        "gflop_per_cpu_s": round(gflop / cpu, 1),
        "ceiling_gflop_per_s": round(found["ceiling"], 1),
        "of_ceiling": round(gflop / cpu / found["ceiling"], 3),
        "peak_rss_mb": found["peak_rss_mb"],
        **{f"params_{name}": count for name, count in found["parameters"].items()},
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--batch", type=int, help="images; default: the workload's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=("fp32", "bf16", "pure_bf16"))
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--reference", action="store_true", help="also time the plain path, in turn")
    parser.add_argument("--inference", action="store_true", help="time sampling instead of training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="compact lines")
    options = parser.parse_args()
    arms = {f"fast {precision}": (precision, options.torch_compile, False) for precision in options.precision}
    arms |= {"plain": ("fp32", False, True)} if options.reference else {}
    settings = {
        name: settings_of(options.workload, options.batch, precision, compiled)
        for name, (precision, compiled, _) in arms.items()
    }
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, (_, _, plain) in arms.items():
        pipes[name], theirs = context.Pipe()
        arguments = (theirs, settings[name], options.threads, plain, options.inference)
        processes.append(context.Process(target=path_process, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()  # so that its end is noticed here
    found = measure(pipes, options.rounds)
    for process in processes:
        process.join()
    lines = {name: summary(found[name], settings[name]) for name in arms}
    if options.reference:
        for line in lines.values():
            line["times_reference"] = round(line["img_per_cpu_s"] / lines["plain"]["img_per_cpu_s"], 2)
            line["of_its_memory"] = round(line["peak_rss_mb"] / lines["plain"]["peak_rss_mb"], 2)
    for name, (precision, compiled, _) in arms.items():
        head = {"workload": options.workload, "path": name, "batch": settings[name]["global_batch"]}
        head |= {"threads": options.threads, "precision": precision, "compile": compiled}
        print(json.dumps(head | lines[name], indent=None if options.json else 1))


if __name__ == "__main__":
    main()
