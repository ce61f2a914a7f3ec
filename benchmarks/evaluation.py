"""FID from a folder of PNGs and of a generator, and the Fréchet distance, beside torch-fidelity and scipy.

    python benchmarks/evaluation.py [--images 96] [--rounds 3] [--only folder|generator|frechet|memory] [--json]

All contenders take turns in one process, with the same images, weights (seeded random ones: the time does not depend on
them), float32 and threads. Times are of extracting features of one set of images, decoding or generating included, and
adding up their moments; a FID from two folders of n images takes 2 n of that and one Fréchet distance.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

from bigtrain.core.rng import Draws
from bigtrain.distributed.init import join_ranks
from bigtrain.evaluation.extraction import extract
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.images.files import FileImages
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.metrics import METRICS
from bigtrain.evaluation.metrics.fid import frechet_distance
from bigtrain.evaluation.statistics.moments import Moments
from bigtrain.models import ImageSpec
from bigtrain.models.dcgan import DCGANGeneratorConfig

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.inception import write_weights

LAYER = "2048"
SIZE = 64

Turn = Callable[[], Any]


class Contest:
    """What both sides need: images, a generator, weights."""

    def __init__(self, images: int, folder: Path) -> None:
        self.count, self.folder = images, folder
        self.weights = write_weights(folder)
        self.ranks = join_ranks()
        self.extractor = build_extractor("inception-v3-compat", "fp32", torch.device("cpu"), weights=self.weights)
        self.options = {
            "feature_extractor_weights_path": str(self.weights),
            "cuda": False,
            "verbose": False,
            "cache": False,
            "samples_find_deep": False,
        }
        self.theirs = create_feature_extractor("inception-v3-compat", [LAYER], **self.options)
        self.generator = DCGANGeneratorConfig(kind="dcgan").build(ImageSpec(SIZE, 3)).eval()

    def pngs(self) -> Path:
        place = self.folder / "pngs"
        place.mkdir()
        random = np.random.default_rng(0)
        for number in range(self.count):
            coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
            coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(place / f"{number:05d}.png")
        return place

    def folder_turns(self) -> dict[str, Turn]:
        place = self.pngs()
        return {
            "bigtrain": lambda: self._ours(FileImages(place)),
            "torch-fidelity": lambda: self._theirs(input1=str(place)),
        }

    def generator_turns(self) -> dict[str, Turn]:
        z_dim = self.generator.z_dim
        label = torch.zeros(1, dtype=torch.int64)

        def ours(draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
            labels = label.expand(len(draws))
            return self.generator(draws.of("z").normal(z_dim), labels), labels

        class ToBytes(torch.nn.Module):
            def __init__(self, generator: torch.nn.Module) -> None:
                super().__init__()
                self.generator = generator

            def forward(self, z: torch.Tensor) -> torch.Tensor:
                image = self.generator(z, label.expand(len(z)))
                return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

        model = torch_fidelity.GenerativeModelModuleWrapper(ToBytes(self.generator), z_dim, "normal", 0)
        return {
            "bigtrain": lambda: self._ours(GeneratedImages(ours, self.count, seed=0, device=torch.device("cpu"))),
            "torch-fidelity": lambda: self._theirs(input1=model, input1_model_num_samples=self.count),
        }

    def _ours(self, images: Any) -> Moments:
        (found,) = extract(images, [METRICS["fid"].need], self.extractor, self.ranks, batch=32).values()
        return found

    def _theirs(self, **source: Any) -> Any:
        features = extract_featuresdict_from_input_id(1, self.theirs, batch_size=64, **self.options, **source)
        return fid_features_to_statistics(features[LAYER])


def frechet_turns() -> dict[str, Turn]:
    """The distance itself, between moments of 2048 features of 3000 samples."""
    samples = [np.random.default_rng(seed).normal(seed, 1 + seed, (3000, 2048)) for seed in (0, 1)]
    means, covariances = [side.mean(0) for side in samples], [np.cov(side, rowvar=False) for side in samples]
    ours = [Moments(3000, torch.from_numpy(m), torch.from_numpy(c)) for m, c in zip(means, covariances, strict=True)]

    def scipys() -> float:
        root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
        shift = means[0] - means[1]
        return float(shift @ shift + np.trace(covariances[0] + covariances[1]) - 2 * np.trace(root).real)

    def torch_fidelitys() -> float:
        roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real
        shift = means[0] - means[1]
        return float(shift @ shift + np.trace(covariances[0] + covariances[1]) - 2 * roots.sum())

    return {
        "bigtrain": lambda: frechet_distance(*ours),
        "scipy sqrtm": scipys,
        "numpy eigvals (torch-fidelity)": torch_fidelitys,
    }


def take_turns(turns: dict[str, Turn], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds by the clock and of CPU of every turn; the first round warms up and does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            began, cpu = time.perf_counter(), cpu_seconds()
            turn()
            if number:
                seconds[name].append((time.perf_counter() - began, cpu_seconds() - cpu))
    return seconds


def cpu_seconds() -> float:
    """CPU time of this process and of the helpers that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def memory() -> dict[str, float]:
    """Return the highest resident MiB of a process that takes moments of 2048 features of n images."""

    class Projection:
        name = short_name = preprocessing = weights_sha256 = "projection"
        dtype = "fp32"
        layers = {"pool": 2048}  # noqa: RUF012
        weight = torch.randn(192, 2048)

        def __call__(self, image: torch.Tensor, layers: Any = ()) -> dict[str, torch.Tensor]:
            return {"pool": image.float().flatten(1) @ self.weight}

    def generate(draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        return draws.uniform(3, 8, 8) * 2 - 1, torch.zeros(len(draws), dtype=torch.int64)

    peaks = {}
    for count in (1000, 20_000):
        reading, writing = os.pipe()
        if os.fork() == 0:
            images = GeneratedImages(generate, count, seed=0, device=torch.device("cpu"))
            extract(images, [METRICS["fid"].need], Projection(), join_ranks(), batch=50)  # type: ignore[arg-type]
            os.write(writing, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            peaks[f"{count} images"] = float(answer.read())
        os.wait()
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("folder", "generator", "frechet", "memory"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = [options.only] if options.only else ["memory", "frechet", "folder", "generator"]
    results: dict[str, Any] = {}
    if "memory" in chosen:
        results["memory"] = memory()
    if "frechet" in chosen:
        results["frechet"] = take_turns(frechet_turns(), options.rounds)
    if {"folder", "generator"} & set(chosen):
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(options.images, Path(folder))
            if "folder" in chosen:
                results["folder"] = take_turns(contest.folder_turns(), options.rounds)
            if "generator" in chosen:
                results["generator"] = take_turns(contest.generator_turns(), options.rounds)
    print(json.dumps(results)) if options.json else show(results, options.images)


def show(results: dict[str, Any], images: int) -> None:
    for name, peak in results.pop("memory", {}).items():
        print(f"memory: {name:12} {peak:7.0f} MiB at the most")
    for what, turns in results.items():
        for name, seconds in turns.items():
            clock, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
            faster, cheaper = (
                statistics.median(a[column] / b[column] for a, b in zip(seconds, turns["bigtrain"], strict=True))
                for column in (0, 1)
            )
            each = f"{images / clock:7.2f} images/s  " if what != "frechet" else ""
            print(
                f"{what:10}{name:32}{clock:7.2f} s  {cpu:7.2f} s of CPU  {each}"
                f"bigtrain: {faster:.2f} times as fast, {cheaper:.2f} times less CPU"
            )


if __name__ == "__main__":
    main()
