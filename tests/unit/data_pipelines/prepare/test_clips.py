"""Videos and folders of frames become clips of one length, size and rate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import open_source
from data_pipelines.prepare.clip_form import ClipForm
from data_pipelines.prepare.clips import _alike
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.read import ShardDataset
from data_pipelines.verify import verify

RNG = np.random.default_rng(26)


def film(path: Path, frames: int, rate: int = 10, height: int = 8, width: int = 8) -> np.ndarray:
    """Save a lossless video of noise whose frames have their number in the first pixel; return [T, 3, H, W]."""
    pixels = RNG.integers(0, 256, (frames, 3, height, width), dtype=np.uint8)
    pixels[:, :, 0, 0] = np.arange(frames)[:, None]
    spec = FieldSpec("video", pixels.shape, "uint8", rate=rate, codec="ffv1")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(find_kind("video").encode(spec, pixels))
    return pixels


def made(source: str, folder: Path, form: ClipForm | None = None, **options: Any) -> tuple[Manifest, np.ndarray]:
    """Prepare clips in the source's order, verify them, and read them all."""
    prepare(open_source(source, clips=form), folder, PrepareOptions(seed=None, **options))
    assert verify(folder, deep=True) == []
    dataset = ShardDataset(folder)
    return dataset.manifest, dict(dataset.read(list(dataset.locations())))["video"]


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return {line["source"]: (line["reason"], line["detail"]) for line in lines}


def test_videos_become_as_short_as_the_shortest(tmp_path: Path) -> None:
    films = [film(tmp_path / "in" / f"{number}.mkv", frames) for number, frames in enumerate((5, 4))]
    film(tmp_path / "in" / "2.mkv", 6, height=16, width=16)
    film(tmp_path / "in" / "3.mkv", 6, rate=20)
    (tmp_path / "in" / "4.mp4").write_bytes(b"nothing that plays")
    manifest, clips = made(str(tmp_path / "in"), tmp_path / "set")
    assert manifest.fields["video"] == FieldSpec("video", (4, 3, 8, 8), "uint8", rate=10, codec="npy")
    assert clips.tobytes() == films[0][:4].tobytes() + films[1].tobytes()
    found = rejected(tmp_path / "set")
    assert found["2.mkv"] == ("size", "16x16, expected 8x8")
    assert found["3.mkv"] == ("rate", "20 frames per second, expected 10 as most videos have; --rate selects frames")
    assert found["4.mp4"][0] == "unreadable"
    assert manifest.rejected == 3


def test_rates_that_differ_by_a_hundredth_are_the_same() -> None:
    assert _alike(29.97, 30.0) and _alike(None, None)
    assert not _alike(25.0, 30.0) and not _alike(None, 30.0)


def test_frames_are_chosen_cut_and_resized(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a" / "0.mkv", 25, rate=20)
    film(tmp_path / "in" / "b" / "1.mkv", 25, rate=10)
    film(tmp_path / "in" / "b" / "2.mkv", 9, rate=10)
    source = str(tmp_path / "in")

    def numbers(folder: str, form: ClipForm) -> list[list[int]]:
        manifest, clips = made(source, tmp_path / folder, form)
        assert manifest.classes == ("a", "b")
        return clips[:, :, 0, 0, 0].tolist()

    assert numbers("first", ClipForm(frames=4, rate=10)) == [[0, 2, 4, 6], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert numbers("center", ClipForm(frames=5, rate=5, cut="center")) == [
        [4, 8, 12, 16, 20],
        [8, 10, 12, 14, 16],
        [0, 2, 4, 6, 8],
    ]
    assert numbers("windows", ClipForm(frames=2, rate=10, stride=3, cut="windows")) == [
        [0, 6],
        [12, 18],
        [0, 3],
        [6, 9],
        [12, 15],
        [18, 21],
        [0, 3],
    ]
    assert ShardDataset(tmp_path / "windows").manifest.fields["video"].rate == pytest.approx(10 / 3)
    assert numbers("long", ClipForm(frames=12, rate=10)) == [[2 * place for place in range(12)], list(range(12))]
    assert rejected(tmp_path / "long") == {"b/2.mkv": ("short", "9 frames at 10 per second, expected 12 or more")}


def test_frames_are_resized_like_images(tmp_path: Path) -> None:
    pixels = film(tmp_path / "in" / "0.mkv", 3, height=8, width=12)
    form = ClipForm(resolution=(4, 4), channels=1, filter="box")
    manifest, clips = made(str(tmp_path / "in"), tmp_path / "set", form, resolution=(4, 4), channels=1, filter="box")
    assert manifest.fields["video"].shape == (3, 1, 4, 4)
    picture = Image.fromarray(pixels[1].transpose(1, 2, 0)[:, 2:10]).convert("L")
    assert clips[0, 1, 0].tolist() == np.asarray(picture.resize((4, 4), Image.Resampling.BOX)).tolist()
    assert manifest.protocol.startswith("clips: first 3 frames at 10 a second, each center-box/4x4x1")


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    for clip in range(2):
        for number in range(4 + clip):
            save(tmp_path / "in" / "ab"[clip] / f"clip{clip}" / f"{number:02d}.png", number)
    for number in range(4):
        save(tmp_path / "in" / "b" / "uneven" / f"{number}.png", number, 8 + number)
    save(tmp_path / "in" / "b" / "short" / "0.png", 0)
    manifest, clips = made(f"frames:{tmp_path / 'in'}", tmp_path / "set", ClipForm(frames=2, stride=3))
    assert manifest.fields["video"] == FieldSpec("video", (2, 3, 8, 8), "uint8", codec="npy")
    assert manifest.classes == ("a", "b")
    assert clips[:, :, 0, 0, 0].tolist() == [[0, 3], [0, 3]]
    assert rejected(tmp_path / "set") == {
        "b/uneven": ("size", "11x8, expected 8x8"),
        "b/short": ("short", "1 frames, one of 3, expected 2 or more"),
    }


def save(path: Path, value: int, height: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, height), (value, 0, 0)).save(path)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (ClipForm(frames=0), "--frames 0: expected the number of frames"),
        (ClipForm(rate=0), "--rate 0: expected frames per second"),
        (ClipForm(stride=0), "--stride 0: expected 1 for every frame"),
        (ClipForm(cut="last"), "--cut last: choose one of first, center, windows"),  # type: ignore[arg-type]
        (ClipForm(cut="windows"), "--cut windows needs the clips' length"),
        (ClipForm(channels=4), r"--channels 4: videos have 1 \(grey\) or 3 \(RGB\)"),
        (ClipForm(crop="none"), "a crop 'none' needs a --resolution"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line(tmp_path: Path, form: ClipForm, words: str) -> None:
    film(tmp_path / "in" / "0.mkv", 3)
    with pytest.raises(DataError, match=f"^{words}"):
        open_source(str(tmp_path / "in"), clips=form)


def test_classes_are_left_out_if_none_are_wanted(tmp_path: Path) -> None:
    """Of every kind, those whose classes are folders and cannot be chosen as well."""
    film(tmp_path / "films" / "a" / "0.mkv", 3)
    film(tmp_path / "films" / "b" / "0.mkv", 3)
    save(tmp_path / "frames" / "a" / "clip" / "0.png", 1)
    save(tmp_path / "frames" / "b" / "clip" / "0.png", 1)
    for name in "ab":
        (tmp_path / "arrays" / name).mkdir(parents=True)
        np.save(tmp_path / "arrays" / name / "0.npy", np.zeros(3, np.float32))
    for kind, folder in (("videos", "films"), ("frames", "frames"), ("arrays", "arrays")):
        text = f"{kind}:{tmp_path / folder}"
        assert open_source(text).classes == ("a", "b")
        unlabelled = open_source(text, label="none")
        assert unlabelled.classes == ()
        assert [item.label for item in unlabelled.items] == [-1, -1]
        with pytest.raises(
            DataError, match=f"--label kind: '{kind}' has no choice of labels; --label none leaves them"
        ):
            open_source(text, label="kind")
    film(tmp_path / "films" / "loose.mkv", 3)
    with pytest.raises(DataError, match="beside the class folders"):
        open_source(f"videos:{tmp_path / 'films'}")
    assert len(open_source(f"videos:{tmp_path / 'films'}", label="none").items) == 3


def test_what_other_samples_have_is_refused(tmp_path: Path) -> None:
    film(tmp_path / "films" / "0.mkv", 3)
    save(tmp_path / "frames" / "clip" / "0.png", 1)
    np.save(tmp_path / "rows.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="--seconds is for sounds; --frames is the length of clips"):
        open_source(str(tmp_path / "films"), sounds=SoundForm(seconds=1.0))
    with pytest.raises(DataError, match="--rate 5: folders of frames have no rate; --stride leaves out frames"):
        open_source(f"frames:{tmp_path / 'frames'}", clips=ClipForm(rate=5))
    with pytest.raises(DataError, match="--frames and --stride are for videos and folders of frames"):
        open_source(str(tmp_path / "rows.npy"), clips=ClipForm(frames=5))
