"""A snapshot's programs compute what the snapshot does, and know nothing of bigtrain."""

from pathlib import Path

import pytest
import torch

from bigtrain.generate.programs import GENERATOR_FILE, LATENTS_FILE, write_programs
from bigtrain.generate.snapshot import SnapshotError
from bigtrain.models import ImageSpec
from bigtrain.models.cgan import CGANGeneratorConfig
from bigtrain.models.progan import ProGANGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from tests.snapshots import snapshot_of

SMALL = {"z_dim": 8, "w_dim": 8, "mapping_layers": 1, "channel_base": 64, "channel_max": 8}
GENERATORS = {
    "cgan": CGANGeneratorConfig(kind="cgan", z_dim=8).build(ImageSpec(8, 3, 3)),
    "stylegan2": StyleGAN2GeneratorConfig(**SMALL).build(ImageSpec(8, 1)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_programs_are_the_snapshot(name: str, tmp_path: Path) -> None:
    generator = GENERATORS[name].eval().requires_grad_(False)
    generator.calibrate(torch.randn(64, 8), torch.zeros(64, dtype=torch.int64))
    snapshot = snapshot_of(generator)
    assert write_programs(snapshot, tmp_path) < 1e-5
    seeds = [3, 2**40, 7, 8, 9]
    z, label = torch.export.load(tmp_path / LATENTS_FILE).module()(torch.tensor(seeds))
    assert torch.equal(z, snapshot.latents(seeds))
    assert label.tolist() == snapshot.labels(seeds)
    truncation = torch.tensor([1.0, 0.5, 1.0, 0.5, 0.0])
    images = torch.export.load(tmp_path / GENERATOR_FILE).module()(z, label, truncation)
    for number, seed in enumerate(seeds):
        alone = snapshot.sample([seed], truncation=float(truncation[number]))
        torch.testing.assert_close(images[number : number + 1], alone, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    config = ProGANGeneratorConfig(kind="progan", z_dim=8, channel_base=64, channel_max=8)
    snapshot = snapshot_of(config.build(ImageSpec(8, 1)).eval())
    with pytest.raises(SnapshotError, match="cannot be written as a program"):
        write_programs(snapshot, tmp_path)
