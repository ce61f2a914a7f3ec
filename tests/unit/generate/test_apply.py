"""`bigtrain apply` as people call it: files, folders, shards, any size, several ranks, and its one-line refusals."""

import json
import sys
import tarfile
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import bigtrain as bt
from bigtrain.cli import main
from bigtrain.core.quantise import to_uint8
from bigtrain.generate.continuation import continued
from bigtrain.generate.films import write_film
from bigtrain.generate.snapshot import load_snapshot, save_snapshot
from bigtrain.models.adain import AdaINConfig
from bigtrain.models.base import ArraySpec, ImageSpec
from bigtrain.models.dvdgan_fp import DVDGANFPConfig
from bigtrain.models.gated_inpainter import GatedInpainterConfig
from bigtrain.models.label_map import LabelMapTranslatorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
from bigtrain.models.spade import SPADEConfig
from bigtrain.models.translator import BaseTranslatorConfig
from bigtrain.tasks.stylisation import StylisationSampler
from bigtrain.tasks.translation import TranslationSampler
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.video import frames_of, rate_of
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.protocol import ImageProtocol
from data_pipelines.write import ShardOptions, write_shards

IMAGE = FieldSpec("image", (3, 16, 16), "uint8", codec="png")
GREY = FieldSpec("image", (1, 16, 16), "uint8", codec="png")
RNG = np.random.default_rng(0)


def save_translator(folder: Path, config: BaseTranslatorConfig, field: FieldSpec) -> None:
    """Write a snapshot of a new network from images of a field to colour images."""
    spec = NetworkSpec("generator", "translator", config, (ImageSpec(16, field.shape[0]), ImageSpec(16, 3)))
    torch.manual_seed(0)
    network = spec.build().eval()
    sampler = TranslationSampler(inputs={"input": field}, outputs={"target": IMAGE})
    save_snapshot(folder, {"G": network}, {"G": spec}, sampler, averaged=("G",), class_names=(), facts={})


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of a U-Net that halves three times, and things to translate."""
    root = tmp_path_factory.mktemp("places")
    save_translator(root / "snapshot", Pix2PixUNetConfig(width=4, downs=3, norm="instance", dropout=0.5), IMAGE)
    for name, size, mode in (
        ("folder/a.png", (16, 16), "RGB"),
        ("folder/deep/b.jpg", (21, 33), "L"),
        ("folder/c.webp", (5, 40), "RGBA"),
        ("other/a.png", (16, 16), "RGB"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        Image.fromarray(RNG.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)).save(path)
    (root / "folder" / "torn.png").write_bytes((root / "folder" / "a.png").read_bytes()[:60])
    (root / "folder" / ".hidden.png").write_bytes(b"")
    (root / "folder" / "notes.txt").write_text("none of ours")
    for name, spec_ in (("pairs", IMAGE), ("grey", GREY)):
        arrays = {key: RNG.integers(0, 256, (5, *spec_.shape), dtype=np.uint8) for key in ("input", "target")}
        write_shards(
            from_fields(name, arrays, dict.fromkeys(arrays, spec_)), root / name, ShardOptions(shard_samples=2)
        )
    rows = {"row": RNG.standard_normal((4, 2)).astype(np.float32)}
    write_shards(from_fields("rows", rows, {"row": FieldSpec("array", (2,), "float32", codec="npy")}), root / "rows")
    return root


Call = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def bigtrain(places: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Call the command in the folder of places; return its exit code, and what it printed."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.chdir(places)
        monkeypatch.setattr(sys, "argv", ["bigtrain", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capfd.readouterr())  # type: ignore[return-value]

    return call


def made(folder: Path) -> dict[str, np.ndarray]:
    return {str(file.relative_to(folder)): np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.png"))}


def test_files_folders_and_shards_of_any_size(bigtrain: Call, places: Path) -> None:
    code, out, _ = bigtrain("apply snapshot folder pairs --out made")
    assert code == 0
    assert "made: 8 images translated, 1 could not be read (see made/rejected.jsonl)" in out
    (line,) = (places / "made" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == "torn"
    sizes = {name: picture.shape for name, picture in made(places / "made").items()}
    assert sizes == {
        "a.png": (16, 16, 3),
        "deep/b.png": (33, 21, 3),
        "c.png": (40, 5, 3),
        **{f"{number:08d}.png": (16, 16, 3) for number in range(5)},
    }
    (places / "made" / "a.png").unlink()
    left = places / "made" / "deep" / ".b.png.17-0.partial"
    left.write_bytes(b"what a killed run had of it")
    assert (
        "made: 1 images translated, 7 existed already, 1 could not be read"
        in bigtrain("apply snapshot folder pairs --out made")[1]
    )
    assert not left.exists()
    bigtrain("apply snapshot folder/a.png --out one")
    assert (made(places / "one")["a.png"] == made(places / "made")["a.png"]).all()
    bigtrain("apply snapshot folder/a.png --out noisy --noise")
    assert (made(places / "noisy")["a.png"] != made(places / "made")["a.png"]).any()


def test_transparency_is_kept_if_asked(bigtrain: Call, places: Path) -> None:
    (places / "alpha").mkdir()
    colours = RNG.integers(0, 256, (16, 12, 3), dtype=np.uint8)
    alpha = np.full((16, 12), 255, np.uint8)
    alpha[:5] = 0
    Image.fromarray(colours).save(places / "alpha" / "opaque.png")
    Image.fromarray(np.dstack([colours, alpha])).save(places / "alpha" / "some.png")
    bigtrain("apply snapshot alpha --out on-white")
    code, _, err = bigtrain("apply snapshot alpha --out kept --keep-alpha")
    assert code == 0, err
    on_white, kept = made(places / "on-white"), made(places / "kept")
    assert on_white["some.png"].shape == (16, 12, 3)
    assert (kept["opaque.png"] == on_white["opaque.png"]).all()
    assert (kept["some.png"][..., 3] == alpha).all()
    assert (kept["some.png"][..., :3] == on_white["opaque.png"]).all(), "of the colours as they are stored"


@pytest.mark.parametrize("kind", ["zip", "tar", "npz"])
def test_archives_and_arrays_are_read_as_by_fid(bigtrain: Call, places: Path, kind: str) -> None:
    folder = places / "folder"
    names = ["a.png", "deep/b.jpg", "torn.png", ".hidden.png"]
    if kind == "zip":
        with zipfile.ZipFile(places / "in.zip", "w") as archive:
            for name in names:
                archive.write(folder / name, name)
    elif kind == "tar":
        with tarfile.open(places / "in.tar", "w") as archive_:
            for name in names:
                archive_.add(folder / name, f"./{name}")
    else:
        np.savez(places / "in.npz", arr_0=np.asarray(Image.open(folder / "a.png"))[None])
    code, out, err = bigtrain(f"apply snapshot in.{kind} --out of-{kind}")
    assert code == 0, err
    bigtrain("apply snapshot folder --out of-folder")
    found, right = made(places / f"of-{kind}"), made(places / "of-folder")
    if kind == "npz":
        assert list(found) == ["0.png"]
        assert (found["0.png"] == right["a.png"]).all()
        return
    assert "2 images translated, 1 could not be read" in out
    assert "ignored: 1 hidden or of the system (.hidden.png)" in out
    above = "in.tar/" if kind == "tar" else ""  # of several tars each has a folder
    assert found.keys() == {f"{above}a.png", f"{above}deep/b.png"}
    assert all((found[name] == right[name.removeprefix(above)]).all() for name in found)


def test_two_ranks_make_what_one_does(bigtrain: Call, places: Path) -> None:
    for ranks in (1, 2):
        code, out, err = bigtrain(f"apply snapshot folder pairs --out ranks{ranks} --nproc {ranks}")
        assert code == 0, err
        assert "8 images translated" in out
    one, two = made(places / "ranks1"), made(places / "ranks2")
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)


def test_a_film_is_translated_frame_by_frame(bigtrain: Call, places: Path) -> None:
    levels = np.linspace(0, 255, 24).astype(np.uint8)
    frames = [np.broadcast_to(levels[:, None, None] // (number + 1), (24, 20, 3)) for number in range(5)]
    write_film(places / "walk.mp4", iter(frames), fps=Fraction(30000, 1001))
    code, out, err = bigtrain("apply snapshot walk.mp4 folder/a.png --out film")
    assert code == 0, err
    assert "film: 2 images and films translated" in out
    assert rate_of(places / "film" / "walk.mp4") == Fraction(30000, 1001)
    found = list(frames_of(places / "film" / "walk.mp4", 3))
    assert [frame.shape for frame in found] == [(3, 24, 20)] * 5
    (places / "still").mkdir()
    for number, frame in enumerate(frames_of(places / "walk.mp4", 3)):
        Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).save(places / "still" / f"{number}.png")
    bigtrain("apply snapshot still --out stills")
    for number, picture in enumerate(made(places / "stills").values()):  # H.264 is not lossless
        assert np.abs(found[number].transpose(1, 2, 0).astype(float) - picture).mean() < 8
    assert (
        "film: 0 images and films translated, 2 existed already"
        in bigtrain("apply snapshot walk.mp4 folder/a.png --out film")[1]
    )


def test_images_get_the_style_of_one(bigtrain: Call, places: Path) -> None:
    spec = NetworkSpec(
        "generator", "styliser", AdaINConfig(width=4, convolutions=1), (ImageSpec(16, 3), ImageSpec(16, 3))
    )
    network = spec.build_on(torch.device("cpu")).eval()
    sampler = StylisationSampler({"content.image": IMAGE, "style.image": IMAGE}, {"style.image": IMAGE})
    folder = places / "styliser"
    save_snapshot(folder, {"G": network}, {"G": spec}, sampler, averaged=("G",), class_names=(), facts={})
    for style in ("folder/c.webp", "other/a.png"):
        code, out, err = bigtrain(f"apply styliser folder/a.png folder/deep/b.jpg --style {style} --out by-{style[:5]}")
        assert code == 0, err
    by_c, by_a = made(places / "by-folde"), made(places / "by-other")
    assert {name: picture.shape for name, picture in by_c.items()} == {"a.png": (16, 16, 3), "b.png": (33, 21, 3)}
    assert all((by_c[name] != by_a[name]).any() for name in by_c)
    content, style = (
        torch.from_numpy(np.asarray(Image.open(places / name)).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        for name in ("folder/a.png", "other/a.png")
    )
    with torch.no_grad():
        expected = ((network(content, style)[0].clamp(-1, 1) + 1) * 127.5).round()
    assert np.abs(by_a["a.png"].transpose(2, 0, 1) - expected.numpy()).max() <= 1
    assert torch.equal(bt.load(folder).apply(content, style=style[0]), network(content, style).detach())
    for line, message in {
        "apply styliser folder --out x": "styliser: this network takes a style: name an image, as in --style",
        "apply styliser folder --style folder --out x": "--style folder: name one image, not a folder of several",
        "apply styliser folder --style folder/notes.txt --out x": "folder/notes.txt",
        "apply styliser folder --style folder/torn.png --out x": "--style folder/torn.png: ",
    }.items():
        code, out, err = bigtrain(line)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith(f"bigtrain: {message}")
        assert not (places / "x").exists()


@pytest.fixture(scope="module")
def predictor(places: Path) -> Path:
    """A snapshot of a network that is given 3 frames of 16x16, and predicts 2."""
    clips = [FieldSpec("video", (count, 3, 16, 16), "uint8", rate=25, codec="npy") for count in (3, 2)]
    config = DVDGANFPConfig(width=2, multiples=(2, 2, 1), encoder_width=2, z_dim=4)
    spec = NetworkSpec("generator", "translator", config, (ArraySpec(clips[0].shape), ArraySpec(clips[1].shape)))
    network = spec.build_on(torch.device("cpu")).eval()
    sampler = TranslationSampler(inputs={"input": clips[0]}, outputs={"target": clips[1]})
    facts: dict[str, Any] = {}
    save_snapshot(
        places / "predictor", {"G": network}, {"G": spec}, sampler, averaged=("G",), class_names=(), facts=facts
    )
    for name, count in (("films/deep/long", 7), ("films/short", 2), ("film", 3)):
        path = places / f"{name}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        video = RNG.integers(0, 256, (count, 3, 20, 32), dtype=np.uint8)
        path.write_bytes(
            find_kind("video").encode(FieldSpec("video", video.shape, "uint8", rate=12, codec="ffv1"), video)
        )
    return places / "predictor"


@pytest.mark.usefixtures("predictor")
def test_a_film_is_continued(bigtrain: Call, places: Path) -> None:
    code, out, err = bigtrain("apply predictor films film.mkv --out next")
    assert code == 0, err
    assert "next: 2 images and films translated, 1 could not be read" in out
    assert "deep/long: 12 frames per second, but the network was trained on 25" in " ".join(out.split())
    assert "2 of the films have another rate" in " ".join(out.split())
    (line,) = (places / "next" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "image": "short",
        "reason": "short",
        "detail": "2 frames, but the network continues 3",
    }
    found = list(frames_of(places / "next" / "deep" / "long.mp4", 3))
    assert [frame.shape for frame in found] == [(3, 16, 16)] * 5
    assert rate_of(places / "next" / "deep" / "long.mp4") == 12
    given = list(frames_of(places / "films" / "deep" / "long.mkv", 3))[-3:]
    protocol = ImageProtocol(16, 16, upscale=True)
    network = load_snapshot(places / "predictor")
    clip = np.stack([protocol.apply(frame) for frame in given])
    with torch.inference_mode():
        frames = network.networks["G"](torch.from_numpy(clip)[None].float() / 127.5 - 1)
    exact = [*continued(places / "films" / "deep" / "long.mkv", network, "input", "target", 0)]
    assert (np.stack(exact[:3]) == clip).all()
    assert (np.stack(exact[3:]) == to_uint8(frames[0]).numpy()).all()
    noisy = [*continued(places / "films" / "deep" / "long.mkv", network, "input", "target", 1, noise=True)]
    assert any((one != other).any() for one, other in zip(noisy[3:], exact[3:], strict=True))


@pytest.mark.usefixtures("predictor")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("folder/a.png", "folder/a.png: this network continues films; name files that end in .mp4, .mov, .mkv"),
        ("folder", "folder: contains no films (.mp4, .mov, .mkv, .webm, .avi)"),
        ("nowhere.mp4", "nowhere.mp4: no such file or folder"),
        ("film.mkv --tile 16", "--tile: predictor continues films, whose frames have one size; leave it out"),
        ("film.mkv --keep-alpha", "--keep-alpha: predictor continues films"),
        ("film.mkv --style folder/a.png", "--style folder/a.png: the network of predictor takes no style"),
        ("film.mkv film.mkv", "film.mkv and film.mkv would be written to one film.mp4"),
    ],
)
def test_what_cannot_be_continued_is_named(bigtrain: Call, places: Path, words: str, message: str) -> None:
    code, out, err = bigtrain(f"apply predictor {words} --out unmade")
    assert (code, out) == (2, "")
    assert err.startswith(f"bigtrain: {message}")
    assert err.count("\n") == 1
    assert not (places / "unmade").exists()


def test_films_without_frames_are_refused(bigtrain: Call, places: Path) -> None:
    (places / "text.mp4").write_text("no film")
    with av.open(str(places / "sound.mp4"), "w") as file:
        track = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(track.encode(frame))
        file.mux(track.encode())
    for name, reason in (("text", "unreadable video"), ("sound", "it contains no video")):
        code, out, err = bigtrain(f"apply snapshot {name}.mp4 --out x")
        assert (code, out) == (2, "")
        assert err.startswith(f"bigtrain: {name}.mp4: {reason}")
        assert err.count("\n") == 1
        assert not (places / "x").exists()


MISTAKES = {
    "apply snapshot nowhere --out x": "nowhere: no such file or folder",
    "apply snapshot folder other --out x": "folder/a.png and other/a.png would be written to one a.png; translate",
    "apply snapshot pairs grey --out x": "grey: the images of 'input' have 1 channels of uint8, the network reads 3 of",
    "apply snapshot rows --out x": "rows: has no field of images, its fields are row",
    "apply snapshot folder --out folder/x": "--out folder/x: lies inside of folder, so that a second run would",
    "apply snapshot folder --out other": "other: exists and is not empty; choose another --out",
    "apply snapshot folder --out x --style folder/a.png": "--style folder/a.png: the network of snapshot takes no",
    "apply snapshot folder --out x --output drawing": "--output drawing: snapshot makes target",
    "apply nowhere folder --out x": "nowhere",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(bigtrain: Call, places: Path, line: str) -> None:
    code, out, err = bigtrain(line)
    assert (code, out) == (2, "")
    assert err.startswith(f"bigtrain: {MISTAKES[line]}")
    assert err.count("\n") == 1
    assert not (places / "x").exists(), "nothing is left behind"


def test_maps_with_labels_that_the_network_does_not_have_are_listed(places: Path, bigtrain: Call) -> None:
    config = LabelMapTranslatorConfig(labels=4, base=SPADEConfig(width=2, doublings=2, hidden=4, norm="instance"))
    save_translator(places / "painter", config, GREY)
    (places / "maps").mkdir()
    for name, label in (("right", 3), ("wrong", 4), ("unlabelled", 255)):
        Image.new("L", (18, 10), label).save(places / "maps" / f"{name}.png")
    code, out, _ = bigtrain("apply painter maps --out painted")
    assert code == 0, out
    assert "2 images translated, 1 could not be read" in out
    assert list(made(places / "painted")) == ["right.png", "unlabelled.png"]
    (line,) = (places / "painted" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == "wrong"
    assert "has the label 4, but generator.labels is 4" in json.loads(line)["detail"]


def test_holes_are_the_transparent_places_and_an_image_without_any_is_listed(places: Path, bigtrain: Call) -> None:
    config = GatedInpainterConfig(width=2, dilations=(2,))
    save_translator(places / "inpainter", config, FieldSpec("image", (4, 16, 16), "uint8", codec="png"))
    (places / "holed").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (18, 21, 4), dtype=np.uint8)
    image[..., 3] = 255
    Image.fromarray(image).save(places / "holed" / "whole.png")
    for name, colour in (("black", 0), ("white", 255)):
        image[4:9, 4:9] = (colour, colour, colour, 0)
        Image.fromarray(image).save(places / "holed" / f"{name}.png")
    code, out, _ = bigtrain("apply inpainter holed --out filled")
    assert code == 0, out
    assert "2 images translated, 1 could not be read" in out
    filled = made(places / "filled")
    assert np.array_equal(filled["black.png"], filled["white.png"]), "the colour of transparent pixels does not matter"
    (line,) = (places / "filled" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == "whole"
    assert json.loads(line)["detail"] == "no pixel is transparent: there is no hole to fill"
