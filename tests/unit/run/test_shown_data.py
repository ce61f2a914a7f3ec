"""`bigtrain data show`: what the networks of a run see, as a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.core.errors import UserError
from bigtrain.run.data import find_data
from bigtrain.run.shown_data import write_sheet
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.write import write_shards
from tests.conftest import ROOT

WORDS = ["data.resolution=16", "data.fields=null", "target=image", "micro_batch=auto"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    spec = FieldSpec("image", (3, 16, 16), "uint8", codec="png")
    write_shards(from_fields("images", {"image": pixels}, {"image": spec}), tmp_path / "images")
    return tmp_path / "images"


def test_every_field_of_images_is_a_column(images: Path, tmp_path: Path) -> None:
    derived = "data.derived={input: {kind: holes}, small: {kind: downscale, scale: 2}}"
    out = tmp_path / "seen.png"
    config = str(ROOT / "configs" / "translation" / "pix2pix-emoji64.yaml")
    told = CliRunner().invoke(app, ["data", "show", config, f"data.path={images}", derived, *WORDS, "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert told.output.split(": ")[1].split() == ["image,", "input,", "small"]
    with Image.open(out) as sheet:
        assert sheet.width >= 2 * 3 * 16


def quickstart(images: Path, *words: str) -> TrainingConfig:
    own = [f"data.path={images}", "data.resolution=16", "data.channels=3", "data.classes=0"]
    return load_training(ROOT / "configs" / "synthesis" / "biggan-fashion32.yaml", [*own, *words])


DCGAN = ["generator={kind: dcgan, width: 4}", "discriminator={kind: dcgan, width: 4}"]


def test_augmented_images_are_shown_as_d_sees_them(images: Path, tmp_path: Path) -> None:
    config = quickstart(images, "augment={kind: diffaugment}", *DCGAN)
    assert write_sheet(config, tmp_path / "seen.png") == ["image", "image, as D sees it"]


def test_a_mistake_is_one_line(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose another --out"):
        write_sheet(quickstart(images, *DCGAN), tmp_path / "nowhere" / "seen.png")
    with pytest.raises(ConfigError, match=r"generator\.multiples"):
        write_sheet(quickstart(images), tmp_path / "seen.png")


def test_a_derived_field_has_the_rate_of_the_stored_one(tmp_path: Path) -> None:
    clips = np.zeros((8, 16, 3, 32, 32), dtype=np.uint8)
    spec = FieldSpec("video", clips.shape[1:], "uint8", rate=12.0, codec="npy")
    write_shards(from_fields("clips", {"video": clips}, {"video": spec}), tmp_path / "clips")
    config = load_training(
        ROOT / "configs" / "translation" / "dvdgan-fp-motions32.yaml", [f"data.path={tmp_path / 'clips'}"]
    )
    rates = {name: spec.rate for name, spec in find_data(config).fields.items()}
    assert {"video": 12.0, "input": 12.0, "target": 12.0}.items() <= rates.items()
