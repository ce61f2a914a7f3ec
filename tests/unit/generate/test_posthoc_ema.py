"""An average of another width, made of those that were saved, is the one that would have been tracked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from bigtrain.core.config import parse_config
from bigtrain.core.state import Progress
from bigtrain.engine.ema import EMA, EMAConfig
from bigtrain.generate.posthoc_ema import PosthocError, PowerAverage, inner_product, reconstruct
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.mlp import MLPGeneratorConfig
from tests.snapshots import save_generator

TRACKED = 0.07


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """A run whose weights walk at random, with snapshots of two widths; and the average of a third, tracked."""
    config = MLPGeneratorConfig(z_dim=4, hidden=(16, 16))
    live = config.build(ImageSpec(4, 1))
    ema = EMA(parse_config(EMAConfig, {"half_life_kimg": 1, "profiles": [0.05, 0.1, TRACKED]}, source="test"), live)
    progress = Progress(total=100_000, batch=100)
    for step in range(1, 1001):
        with torch.no_grad():
            for parameter in live.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        ema.update([*live.named_parameters(), *live.named_buffers()], progress)
        progress.advance()
        if step % 100 == 0:
            for width in (0.05, 0.1):
                folder = tmp_path / "snapshots" / f"kimg{progress.kimg:010.3f}" / f"sigma-{width:g}"
                facts = {"samples_seen": progress.samples_seen, "sigma_rel": width}
                save_generator(folder, ema.profiles[width], config, facts=facts)
    return tmp_path, ema.profiles[TRACKED]


def test_it_is_the_tracked_average(run: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    folder, tracked = run
    distance = reconstruct(folder, TRACKED, tmp_path / "out")
    assert distance < 0.02
    made = load_snapshot(tmp_path / "out")
    assert made.description["sigma_rel"] == TRACKED
    neighbour = load_snapshot(folder / "snapshots" / "kimg000100.000" / "sigma-0.05").generator

    def gap(network: torch.nn.Module) -> float:
        pairs = zip(network.parameters(), tracked.parameters(), strict=True)
        return sum(float((mine - theirs).double().square().sum()) for mine, theirs in pairs) ** 0.5

    assert gap(made.generator) < 0.03 * gap(neighbour)


def test_a_width_that_was_saved_comes_back(run: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    assert reconstruct(run[0], 0.1, tmp_path / "out", kimg=50) < 1e-4
    saved = load_snapshot(run[0] / "snapshots" / "kimg000050.000" / "sigma-0.1").generator
    for mine, theirs in zip(load_snapshot(tmp_path / "out").generator.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_products_of_profiles_are_the_integrals() -> None:
    for one, other in (((0.05, 30.0), (0.1, 100.0)), ((0.1, 30.0), (0.05, 100.0)), ((0.2, 50.0), (0.2, 50.0))):
        a, b = PowerAverage(*one), PowerAverage(*other)

        def product(t: float, a: PowerAverage = a, b: PowerAverage = b) -> float:
            powers = [(p.gamma + 1) * t**p.gamma / p.time ** (p.gamma + 1) for p in (a, b)]
            return powers[0] * powers[1]

        integral = quad(product, 0, min(a.time, b.time))[0]
        np.testing.assert_allclose(inner_product(a, b), integral, rtol=1e-6)
        np.testing.assert_allclose(inner_product(b, a), integral, rtol=1e-6)


def test_what_cannot_be_made_is_refused(run: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    for options, words in (
        ({"sigma_rel": 0.3}, "below 0.28"),
        ({"sigma_rel": 0.1, "kimg": 33}, "no snapshot with averages at kimg 33; the nearest is 30"),
    ):
        with pytest.raises(PosthocError, match=words):
            reconstruct(run[0], out=tmp_path / "x", **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PosthocError, match="no power-function averages; train with ema.profiles"):
        reconstruct(tmp_path / "empty", 0.1, tmp_path / "x")
