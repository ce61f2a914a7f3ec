"""Samples in every form, on any batch and number of ranks; walks and tables."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.core.quantise import to_uint8
from bigtrain.distributed.init import Ranks
from bigtrain.generate.outputs import FORMATS, Samples, class_folder
from bigtrain.generate.ranks import SampleRequest, compute
from bigtrain.generate.snapshot import Snapshot, load_snapshot
from bigtrain.generate.walks import mix_table, slerp, walk
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.read import ShardDataset
from tests.snapshots import save_generator

CPU = torch.device("cpu")
CONFIGS = {
    "biggan": (BigGANGeneratorConfig(z_dim=16, width=16, multiples=(2, 1, 1)), ImageSpec(16, 3, 3)),
    "stylegan2": (StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=256), ImageSpec(16, 1)),
}
NAMES = ["cat", "dog", "gnu, wild"]


@pytest.fixture
def snapshots(tmp_path: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    for name, (config, image) in CONFIGS.items():
        generator = config.build(image)
        generator.calibrate(torch.randn(64, generator.z_dim), torch.arange(64) % max(image.classes, 1))
        save_generator(tmp_path / name, generator, config, class_names=NAMES[: image.classes])
    return {name: tmp_path / name for name in CONFIGS}


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("name", CONFIGS)
def test_an_image_is_the_same_to_the_bit_in_any_batch(snapshots: dict[str, Path], name: str) -> None:
    snapshot = load_snapshot(snapshots[name])
    images = snapshot.sample(range(20))
    for batch in (1, 3, 16):
        assert torch.equal(snapshot.sample(range(20), batch=batch), images)
    assert torch.equal(snapshot.sample([11]), images[11:12])


def test_the_same_images_in_every_form(snapshots: dict[str, Path], tmp_path: Path) -> None:
    snapshot = load_snapshot(snapshots["biggan"])
    expected, labels = to_uint8(snapshot.sample(range(20))).numpy(), snapshot.labels(range(20))
    for form, out in {"npz": "x.npz", "folder": "files", "shards": "shards", "grid": "grid.png"}.items():
        assert run("sample", snapshots["biggan"], "--seeds", "0-19", "--out", tmp_path / out, "--format", form)[0] == 0
    with np.load(tmp_path / "x.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], expected.transpose(0, 2, 3, 1))
        assert arrays["seeds"].tolist() == list(range(20))
        assert arrays["labels"].tolist() == labels
        assert arrays["class_names"].tolist() == NAMES
    for number, label in enumerate(labels):
        with Image.open(tmp_path / "files" / class_folder(label, NAMES) / f"seed{number:07d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected[number].transpose(1, 2, 0))
    dataset = ShardDataset(tmp_path / "shards")
    fields = dataset.read([(0, row) for row in range(20)])
    images, found = fields["image"], fields["class"]
    np.testing.assert_array_equal(images, expected)
    assert found.tolist() == labels
    assert dataset.manifest.classes == tuple(NAMES)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width >= 600
    assert not list(tmp_path.glob(".*partial"))


def test_two_ranks_write_the_file_that_one_does(snapshots: dict[str, Path], tmp_path: Path) -> None:
    assert run("sample", snapshots["biggan"], "--seeds", "0-49", "--out", tmp_path / "1.npz")[0] == 0
    # In a process of its own: launch takes over the signals of whoever calls it.
    command = [str(Path(sys.executable).parent / "bigtrain"), "sample", str(snapshots["biggan"]), "--seeds", "0-49"]
    subprocess.run([*command, f"--out={tmp_path / '2.npz'}", "--nproc=2", "--batch=7"], check=True, capture_output=True)
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "2.npz") as two:
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("form", ["folder", "npz"])
def test_each_rank_writes_its_share_as_it_comes(
    snapshots: dict[str, Path], tmp_path: Path, alone: None, form: str
) -> None:
    seeds, snapshot, output = list(range(50)), load_snapshot(snapshots["biggan"]), FORMATS[form]
    labels = snapshot.labels(seeds)
    samples = Samples(
        tmp_path / "partial", FieldSpec("image", (3, 16, 16), "uint8"), seeds, labels, snapshot.class_names, "here", 8
    )
    samples.partial.mkdir()
    output.begin(samples)
    for rank in range(3):
        compute(snapshot, SampleRequest(seeds, labels, batch=4), output.sink(samples), Ranks(rank, 3, rank, CPU))
    expected = to_uint8(snapshot.sample(seeds, labels)).numpy()
    if form == "npz":
        np.testing.assert_array_equal(samples.arrays, expected)
    else:
        found = [np.asarray(Image.open(samples.path(number))).transpose(2, 0, 1) for number in range(50)]
        np.testing.assert_array_equal(found, expected)


def test_bf16_is_nearly_the_same(snapshots: dict[str, Path], tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.npz"
        assert run("sample", snapshots["stylegan2"], "--out", out, "--precision", precision)[0] == 0
    with np.load(tmp_path / "fp32.npz") as exact, np.load(tmp_path / "bf16.npz") as near:
        gap = np.abs(exact["arr_0"].astype(int) - near["arr_0"].astype(int))
    assert gap.max() > 0
    assert gap.mean() < 2


def test_several_classes_are_rows(snapshots: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    for asked, labels in {"all": [0, 1, 2], "dog,cat": [1, 0], "gnu, wild": [2], "1": [1]}.items():
        assert run("sample", snapshots["biggan"], "--seeds", "4,9", "--class", asked, "--out", out)[0] == 0
        with np.load(out) as arrays:
            assert arrays["labels"].tolist() == [label for label in labels for _ in range(2)]
            assert arrays["seeds"].tolist() == [4, 9] * len(labels)


def test_slerp_keeps_the_length_and_the_ends() -> None:
    start, end = torch.randn(5, 64), torch.randn(5, 64)
    start, end = start / start.norm(dim=1, keepdim=True), end / end.norm(dim=1, keepdim=True)
    for share in (0.0, 0.3, 1.0):
        way = slerp(start, end, torch.full((5,), share))
        torch.testing.assert_close(way.norm(dim=1), torch.ones(5))
        angle = (way * start).sum(1).clamp(-1, 1).acos()
        torch.testing.assert_close(angle, share * (start * end).sum(1).acos(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(slerp(start, start, torch.full((5,), 0.5)), start)


def test_a_walk_passes_its_seeds_and_closes(snapshots: dict[str, Path]) -> None:
    snapshot = load_snapshot(snapshots["biggan"])
    images = list(walk(snapshot, [3, 8, 5], [0, 1, 2], frames=4))
    assert len(images) == 12
    for place, (seed, label) in {0: (3, 0), 4: (8, 1), 8: (5, 2)}.items():
        own = to_uint8(snapshot.sample([seed], [label]))[0]
        assert (images[place].int() - own.int()).abs().max() <= 1


def test_a_table_mixes_the_layers_that_it_says(snapshots: dict[str, Path]) -> None:
    snapshot: Snapshot = load_snapshot(snapshots["stylegan2"])
    table = mix_table(snapshot, [1, 2], [3, 4, 5], 0, layers=range(snapshot.generator.num_ws))  # type: ignore[attr-defined]
    own = to_uint8(snapshot.sample([3, 4, 5]))
    table = table.unflatten(0, (3, 4)).int()
    for row in (0, 1, 2):  # all layers from the column: every row shows the columns' images
        assert (table[row, 1:] - own.int()).abs().max() <= 1
    assert (table[1:, 0] - to_uint8(snapshot.sample([1, 2])).int()).abs().max() <= 1
    half = mix_table(snapshot, [1, 2], [3, 4, 5], 0).unflatten(0, (3, 4)).int()
    assert not torch.equal(half[1, 1:], table[1, 1:])


def test_films_and_tables_are_files_that_open(snapshots: dict[str, Path], tmp_path: Path) -> None:
    walk_of = ["interpolate", snapshots["biggan"], "--seeds", "0-3", "--walks", "2", "--frames", "5", "--width", "101"]
    for suffix in ("gif", "mp4"):
        code, told = run(*walk_of, "--fps", "10", "--out", tmp_path / f"walk.{suffix}")
        assert code == 0, told
        assert "10 frames, 1.0 s" in told
    with Image.open(tmp_path / "walk.gif") as film:
        assert (film.n_frames, film.info["loop"], film.info["duration"]) == (10, 0, 100)  # type: ignore[attr-defined]
    with av.open(str(tmp_path / "walk.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 10
    first = to_uint8(load_snapshot(snapshots["biggan"]).sample([0]))[0].permute(1, 2, 0).numpy()
    scale = frames[0].shape[0] // 18
    middle = frames[0][scale + scale // 2 :: scale, scale + scale // 2 :: scale][:16, :16]
    assert np.abs(middle.astype(int) - first).mean() < 20  # a film keeps a quarter of the colours
    for kind in ("styles", "truncation"):
        code, told = run("interpolate", snapshots["stylegan2"], "--kind", kind, "--out", tmp_path / f"{kind}.png")
        assert code == 0, told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "--out", "x.png", "--class", "cow"], "unknown class 'cow'"),
        (["sample", "--out", "x.txt", "--format", "grid"], "a grid is a picture"),
        (["sample", "--out", "x", "--format", "tar"], "--format 'tar': use grid, folder, npz, shards"),
        (["sample", "--out", "full"], "exists and is not empty"),
        (["sample", "--out", "x", "--precision", "fp8"], "'precision': input should be 'fp32' or 'bf16', got 'fp8'"),
        (["sample", "--out", "x", "--cutoff", "2"], "no styles"),
        (["interpolate", "--out", "x.png"], "ends in .gif or .mp4"),
        (["interpolate", "--out", "x.gif", "--kind", "dance"], "use walk, turn, styles, truncation"),
        (["interpolate", "--out", "x.gif", "--layers", "0-2"], "--kind walk has no option --layers"),
        (["interpolate", "--out", "x.gif", "--seeds", "1"], "two seeds or more"),
        (["interpolate", "--out", "x.png", "--kind", "styles"], "no styles to mix"),
    ],
)
def test_a_mistake_is_one_line(
    snapshots: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    from bigtrain import cli

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bigtrain", arguments[0], str(snapshots["biggan"]), *arguments[1:]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in told
    assert told.count("\n") == 1
    assert not list(tmp_path.glob("x*"))
