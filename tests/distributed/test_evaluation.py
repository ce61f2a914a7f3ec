"""No score depends on the number of ranks: images, features and every metric, with real processes."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.core.rng import Draws
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.generator_metrics import GENERATOR_METRICS, score_generator
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.measuring import measure
from bigtrain.evaluation.metrics import METRICS
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from tests.distributed.ranks import on_ranks

CPU = torch.device("cpu")
SAMPLES = 1003
SMALL = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}


class Projection:
    """A small extractor with all layers."""

    name = short_name = preprocessing = weights_sha256 = "projection"
    dtype = "fp32"
    layers = {"pool": 24, "logits": 10, "spatial": 12, "own_logits": 3}  # noqa: RUF012

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.weights = {layer: torch.randn(48, width, generator=random) / 500 for layer, width in self.layers.items()}

    def __call__(self, image: torch.Tensor, layers: Any = ("pool",)) -> dict[str, torch.Tensor]:
        return {layer: image.float().flatten(1) @ self.weights[layer] for layer in layers}


def _images(seed: int, contrast: float) -> GeneratedImages:
    def generate(draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        return (draws.of("image").uniform(3, 4, 4) * 2 - 1) * contrast, draws.of("label").integers(3, 1).squeeze(1)

    return GeneratedImages(generate, SAMPLES, seed=seed, device=CPU)


class AbsoluteDifference(torch.nn.Module):
    """Stands in for LPIPS."""

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one - other).abs().mean((1, 2, 3))


def _scores() -> dict[str, float]:
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    ranks = Ranks(rank, world_size, rank, CPU)
    metrics = {name: metric for name, metric in METRICS.items() if metric.need.layer in Projection.layers}
    found = measure(metrics, _images(1, 0.9), _images(2, 0.7), Projection(), ranks, batch=32, noise=False)  # type: ignore[arg-type]
    values = {name: measured.value for name, measured in found.items()}
    torch.manual_seed(0)
    generator = StyleGAN2GeneratorConfig(**SMALL).build(ImageSpec(16, 3, 2)).eval()
    paths = score_generator(
        list(GENERATOR_METRICS),
        generator,
        lambda draws: draws.of("label").integers(2, 1).squeeze(1),
        AbsoluteDifference(),  # type: ignore[arg-type]
        ranks,
        samples=23,
        seed=0,
        batch=4,
    )
    return values | paths


_once = functools.cache(_scores)


@pytest.fixture
def expected(alone: None) -> dict[str, float]:
    return _once()


@pytest.mark.parametrize("world_size", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 4))])
def test_every_score_is_the_same_on_any_number_of_ranks(
    world_size: int, tmp_path: Path, expected: dict[str, float]
) -> None:
    assert {
        "fid",
        "sfid",
        "kid",
        "precision",
        "coverage",
        "inception_score",
        "mmd",
        "class_accuracy",
        "ppl_wend",
    } <= expected.keys()
    assert all(value == value and abs(value) > 1e-9 for value in expected.values())
    for found in on_ranks(world_size, _scores, tmp_path):
        assert found == pytest.approx(expected, rel=1e-8)
