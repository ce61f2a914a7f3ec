"""What a person sees of a dataset."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigtrain.report.dataset_info import describe, write_contact_sheet
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_arrays, from_fields
from data_pipelines.read import ShardDataset
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source


def coloured(count: int, classes: int, channels: int = 3) -> np.ndarray:
    images = np.zeros((count, channels, 8, 8), np.uint8)
    images[:, 0] = 100 + np.arange(count)[:, None, None] % classes * 50
    return images


def test_the_contact_sheet_has_a_row_a_class(tmp_path: Path) -> None:
    labels = [number % 3 for number in range(50)]
    source = from_arrays("rows", coloured(50, 3), labels, classes=["one", "two", "long name"])
    write_shards(source, tmp_path / "set", ShardOptions(shard_samples=8))
    write_contact_sheet(ShardDataset(tmp_path / "set"), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.asarray(picture).astype(int)
    red = (sheet[:, :, 1] == 0) & (sheet[:, :, 0] >= 100)
    rows = [sheet[line, :, 0][red[line]] for line in range(len(sheet)) if red[line].sum() > 100]
    assert all(len(set(row.tolist())) == 1 for row in rows)
    assert sorted({int(row[0]) for row in rows}) == [100, 150, 200]
    assert {len(row) for row in rows} == {12 * 72}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_channels_and_no_classes_are_shown(tmp_path: Path, channels: int) -> None:
    write_shards(from_arrays("x", coloured(5, 1, channels)), tmp_path / "set")
    write_contact_sheet(ShardDataset(tmp_path / "set"), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_many_classes_are_cut_short_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe(write_shards(tiny_source(120, classes=60), tmp_path / "set"))
    out = capsys.readouterr().out
    for words in (
        "120",
        "image, uint8 of 1x8x8 (channels x height x width), png",
        "exact/8x8x1",
        "random numbers",
        "class 49",
        "... and 10 more classes",
        "rejected",
    ):
        assert words in out
    assert "class 50" not in out


def test_a_folder_that_is_not_writable_is_one_line(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose another --out"):
        write_contact_sheet(ShardDataset(tiny_shards), tmp_path / "no" / "such" / "sheet.png")


def test_pairs_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = FieldSpec("image", (3, 8, 8), "uint8", codec="png")
    pairs = {"input": coloured(9, 1), "target": coloured(9, 1)[:, [1, 2, 0]].copy()}
    manifest = write_shards(from_fields("pairs", pairs, dict.fromkeys(pairs, spec)), tmp_path / "set")
    describe(manifest)
    assert "field target" in capsys.readouterr().out
    write_contact_sheet(ShardDataset(tmp_path / "set"), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        row = np.asarray(picture)[10]
    red, blue = (int(((row == 255).sum(1) < 3)[:, None][row[:, channel] == 100].sum()) for channel in (0, 2))
    assert (red, blue) == (6 * 72, 6 * 72)


def test_a_set_without_pictures_has_no_contact_sheet(tmp_path: Path) -> None:
    spec = FieldSpec("array", (3,), "float32", codec="npy")
    write_shards(from_fields("rows", {"row": np.zeros((4, 3), np.float32)}, {"row": spec}), tmp_path / "set")
    with pytest.raises(DataError, match="set: has no images of 8 bits"):
        write_contact_sheet(ShardDataset(tmp_path / "set"), tmp_path / "sheet.png")
