import json
from pathlib import Path

import pytest
import torch

from bigtrain.generate.snapshot import SnapshotError, load_snapshot, parse_seeds, read_weights, save_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from bigtrain.tasks.samplers import SynthesisSampler
from tests.snapshots import save_generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = BigGANGeneratorConfig(z_dim=4, width=4, multiples=(2, 1, 1))
    generator = config.build(ImageSpec(16, 1, 3))
    generator.calibrate(torch.randn(32, 4), torch.arange(32) % 3)
    save_generator(tmp_path / "snap", generator, config, class_names=["cat", "dog", "cow"], facts={"samples_seen": 7})
    return tmp_path / "snap"


def test_it_samples_the_same_in_any_batch(folder: Path) -> None:
    snapshot = load_snapshot(folder)
    assert snapshot.description == {"samples_seen": 7}
    images = snapshot.sample(range(100), truncation=0.7)
    assert images.shape == (100, 1, 16, 16)
    torch.testing.assert_close(snapshot.sample([99, 5], truncation=0.7), images[[99, 5]], rtol=1e-4, atol=1e-5)
    assert (snapshot.sample([3], [0]) - snapshot.sample([3], [1])).abs().max() > 1e-5


def test_classes_go_by_name_or_number(folder: Path) -> None:
    snapshot = load_snapshot(folder)
    assert [snapshot.class_index(name) for name in ("dog", "2")] == [1, 2]
    with pytest.raises(SnapshotError, match="did you mean 'cow'"):
        snapshot.class_index("cowl")
    with pytest.raises(SnapshotError, match="3 classes, 0 to 2"):
        snapshot.sample([1], [3])


def test_a_cutoff_truncates_the_first_layers_of_a_style_generator(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no styles"):
        load_snapshot(folder).sample([1], truncation=0.5, cutoff=2)
    config = StyleGAN2GeneratorConfig(z_dim=4, w_dim=4, mapping_layers=1, channel_base=64)
    save_generator(tmp_path / "s", config.build(ImageSpec(16, 1)), config)
    snapshot = load_snapshot(tmp_path / "s")
    images = [snapshot.sample([1], truncation=0.5, cutoff=cutoff) for cutoff in (None, 6, 2)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_there_is_no_code_in_it(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"snapshot.json", "generator.safetensors"}


def test_a_file_is_called_by_the_role_that_only_one_network_has(tmp_path: Path) -> None:
    config = BigGANGeneratorConfig(z_dim=4, width=4, multiples=(2, 1, 1))
    networks = {name: config.build(ImageSpec(16, 1)) for name in ("G", "other")}
    spec = NetworkSpec("generator", "generator", config, (ImageSpec(16, 1),))
    for names, files in ((("G",), {"generator"}), (("G", "other"), {"G", "other"})):
        save_snapshot(
            tmp_path / str(len(names)),
            {name: networks[name] for name in names},
            dict.fromkeys(names, spec),
            SynthesisSampler.for_images(ImageSpec(16, 1)),
            averaged=names,
            class_names=[],
            facts={},
        )
        assert {path.stem for path in (tmp_path / str(len(names))).glob("*.safetensors")} == files
        for name in names:
            weights = read_weights(tmp_path / str(len(names)), name)
            assert all(torch.equal(value, weights[key]) for key, value in networks[name].state_dict().items())


@pytest.mark.parametrize("file", ["../G.safetensors", "/etc/G.safetensors", "G.bin", "a/b.safetensors", 3])
def test_weights_are_read_from_its_own_folder_only(folder: Path, file: object) -> None:
    document = json.loads((folder / "snapshot.json").read_text())
    document["networks"]["G"]["weights"] = file
    (folder / "snapshot.json").write_text(json.dumps(document))
    for read in (load_snapshot, lambda folder: read_weights(folder, "G")):
        with pytest.raises(SnapshotError, match="is not a valid name of a file of weights|damaged"):
            read(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "snapshot.json").unlink(), "snapshot.json is missing"),
        (lambda folder: (folder / "generator.safetensors").unlink(), "generator.safetensors is missing"),
        (lambda folder: (folder / "generator.safetensors").write_bytes(b"x" * 20), "damaged"),
        (lambda folder: (folder / "snapshot.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "snapshot.json").write_text(json.dumps({"format": "x"})), "not a snapshot of format"),
    ],
)
def test_damage_is_one_clear_line(folder: Path, damage, words: str) -> None:
    damage(folder)
    with pytest.raises(SnapshotError, match=words) as caught:
        load_snapshot(folder)
    assert "\n" not in str(caught.value)


def test_seeds_are_ranges_and_numbers() -> None:
    assert parse_seeds("0-3,7, 9-9") == [0, 1, 2, 3, 7, 9]
    for wrong in ("", "a", "1-", "-3", "3-1"):
        with pytest.raises(SnapshotError, match="seeds"):
            parse_seeds(wrong)
