"""What augmentation costs: a training step of StyleGAN2 with it against one without, step by step in turn.

    python benchmarks/augment.py --json augment.json

The step is D's (fake without gradient, D on real and fake, backward) and G's (fake, D, backward), with Adam for both.
R1, due once in 16 steps, is timed on its own, its gradient taken through the augmentation. On a CPU the process's own
CPU time counts, so that neighbours disturb less; on a GPU the time between two synchronisations.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.augment import Augment, NoAugmentConfig
from bigtrain.augment.ada import SETS, AdaConfig
from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.objectives.regularizers import r1_penalty


class Bench:
    """Two networks, and the steps that are timed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.batch, self.p = arguments.batch, torch.tensor(arguments.p, device=self.device)
        image = ImageSpec(arguments.resolution, arguments.channels)
        widths = {"channel_base": arguments.channel_base}
        torch.manual_seed(0)
        self.G = StyleGAN2GeneratorConfig(**widths).build(image)
        self.D = StyleGAN2DiscriminatorConfig(**widths).build(image)
        for network in (self.G, self.D):
            network.to(self.device).to(memory_format=torch.channels_last)
        self.adam = {net: torch.optim.Adam(net.parameters(), lr=1e-4, fused=True) for net in (self.G, self.D)}
        real = torch.rand(self.batch, *image.shape, device=self.device) * 2 - 1
        self.real = real.contiguous(memory_format=torch.channels_last)
        self.label = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        self.steps = 0

    def step(self, augment: Augment) -> None:
        """D moves, then G."""
        draws = self._draws()
        with torch.no_grad(), self._autocast():
            fake = self.G(draws.of("d/z").normal(self.G.z_dim), self.label, draws=draws.of("d"))
        self.G.requires_grad_(False)
        with self._autocast():
            real_logits = self.D(augment(self.real, draws.of("d/real"), self.p), self.label)
            fake_logits = self.D(augment(fake, draws.of("d/fake"), self.p), self.label)
        self._move(self.D, (F.softplus(-real_logits) + F.softplus(fake_logits)).mean())
        self.G.requires_grad_(True)
        self.D.requires_grad_(False)
        with self._autocast():
            fake = self.G(draws.of("g/z").normal(self.G.z_dim), self.label, draws=draws.of("g"))
            logits = self.D(augment(fake, draws.of("g/fake"), self.p), self.label)
        self._move(self.G, F.softplus(-logits).mean())
        self.D.requires_grad_(True)

    def r1(self, augment: Augment) -> None:
        """D moves by R1 alone, the gradient taken through the augmentation."""
        real = self.real.detach().requires_grad_()
        with self._autocast():
            logits = self.D(augment(real, self._draws().of("d/real"), self.p), self.label)
        self._move(self.D, r1_penalty(logits, real).mean())

    def alone(self, augment: Augment) -> None:
        """The augmentation by itself: three passes, one of them with a backward pass, as in a step."""
        draws = self._draws()
        for stream in ("d/real", "d/fake"):
            augment(self.real, draws.of(stream), self.p)
        fake = self.real.detach().requires_grad_()
        augment(fake, draws.of("g/fake"), self.p).sum().backward()

    def seconds(self, work: Callable[[Augment], None], augment: Augment) -> float:
        """Time one piece of work."""
        if self.device.type == "cpu":
            began = time.process_time()
            work(augment)
            return time.process_time() - began
        torch.cuda.synchronize()
        began = time.perf_counter()
        work(augment)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    def _draws(self) -> Draws:
        self.steps += 1
        first = self.steps * self.batch
        return Draws(0, torch.arange(first, first + self.batch, device=self.device))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def _move(self, network: torch.nn.Module, loss: Tensor) -> None:
        loss.backward()
        self.adam[network].step()
        self.adam[network].zero_grad()


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--p", type=float, default=0.3)
    parser.add_argument("--transforms", choices=sorted(SETS), default="bgc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    pipe, nothing = AdaConfig(kind="ada", transforms=arguments.transforms).build(), NoAugmentConfig().build()
    pieces = {
        "step": (bench.step, nothing), "step_augmented": (bench.step, pipe), "r1": (bench.r1, nothing),
        "r1_augmented": (bench.r1, pipe), "augmentation_alone": (bench.alone, pipe),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in pieces}
    for round_number in range(arguments.rounds + 1):
        for name, (work, augment) in pieces.items():
            seconds = bench.seconds(work, augment)
            if round_number > 0:  # the first is to warm up
                times[name].append(seconds)
        print(f"round {round_number} of {arguments.rounds}: {times}", file=sys.stderr)
    ratios = [b / a for a, b in zip(times["step"], times["step_augmented"], strict=True)]
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "settings": vars(arguments),
        "seconds": {name: {"median": statistics.median(t), "min": min(t), "max": max(t)} for name, t in times.items()},
        "step_ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "alone_share": statistics.median(times["augmentation_alone"]) / statistics.median(times["step"]),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
