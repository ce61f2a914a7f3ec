"""Pictures of samples of every kind, and samples as files of their kind."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bigtrain.generate.displays import displayed
from bigtrain.generate.outputs import FORMATS, Samples
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.read import ShardDataset

SOUND = FieldSpec("audio", (1, 4096), "int16", rate=8000)
SPECS = [
    FieldSpec("image", (3, 8, 12), "uint8"),
    FieldSpec("image", (1, 8, 12), "uint16"),
    SOUND,
    FieldSpec("audio", (2, 100), "float32", rate=8000),
    FieldSpec("video", (12, 3, 8, 10), "uint8"),
    FieldSpec("array", (1, 6, 7, 8), "float32"),
    FieldSpec("array", (50, 3), "float32"),
    FieldSpec("array", (7,), "float32"),
]


def words(spec: FieldSpec) -> str:
    return f"{spec.kind}-{spec.dtype}-{spec.size_words}"


@pytest.mark.parametrize("spec", SPECS, ids=words)
def test_every_kind_has_a_picture(spec: FieldSpec) -> None:
    samples = torch.rand(3, *spec.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures = displayed(samples, spec)
    assert (pictures.dtype, pictures.ndim, len(pictures)) == (torch.uint8, 4, 3)
    assert 1 <= pictures.shape[1] <= 4
    assert pictures.float().std() > 1


@pytest.mark.parametrize("spec", SPECS, ids=words)
def test_what_is_stored_is_what_was_made(spec: FieldSpec) -> None:
    made = torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    stored = kind_of(spec).stored(spec, made)
    assert stored.numpy().dtype == spec.dtype
    back = kind_of(spec).normalise(spec, stored)
    step = {"uint8": 1 / 255, "uint16": 1 / 65535, "int16": 1 / 32768}.get(spec.dtype, 0)
    expected = made if spec.kind == "array" else made.clamp(-1, 1)
    torch.testing.assert_close(back, expected, rtol=0, atol=1.01 * step)


def test_a_tone_is_a_line_in_the_spectrogram() -> None:
    tone = torch.sin(2 * torch.pi * 1000 / 8000 * torch.arange(4096.0))[None, None]
    picture = displayed(tone, SOUND)[0, 0].float()
    assert picture.mean(1).argmax() == pytest.approx(47, abs=1)  # a quarter of half the rate, from below


def test_point_clouds_become_files_that_viewers_open(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "partial", FieldSpec("array", (50, 3), "float32"), [5], None, (), "here", 2)
    output, points = FORMATS["folder"], np.random.default_rng(0).standard_normal((1, 50, 3)).astype(np.float32)
    output.begin(samples)
    sink = output.sink(samples)
    sink.put(range(1), points)
    sink.finish()
    output.finish(samples, tmp_path / "x")
    content = (tmp_path / "x" / "seed0000005.ply").read_bytes()
    assert content.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 50\nproperty float x\n")
    assert content.endswith(points.tobytes())


def test_points_in_space_are_seen_from_above_and_from_the_front() -> None:
    (picture,) = displayed(torch.tensor([[[-1.0, 1.0, -1.0]]]), FieldSpec("array", (1, 3), "float32"))
    assert picture.shape == (1, 64, 128)
    assert (picture[0] == 0).nonzero().tolist() == [[0, 0], [63, 64]]  # at the left, far away and low


@pytest.mark.parametrize("form", list(FORMATS))
def test_sounds_become_files_of_sounds(form: str, tmp_path: Path) -> None:
    samples = Samples(tmp_path / "partial", SOUND, [5, 6], [0, 1], ("one", "two"), "here", 2)
    samples.partial.mkdir()
    output, out = FORMATS[form], tmp_path / {"grid": "x.png", "npz": "x.npz"}.get(form, "x")
    sounds = np.random.default_rng(0).integers(-9000, 9000, (2, *SOUND.shape), dtype=np.int16)
    output.begin(samples)
    sink = output.sink(samples)
    sink.put(range(2), sounds)
    sink.finish()
    output.finish(samples, out)
    if form == "folder":
        found, rate = soundfile.read(out / "001-two" / "seed0000006.wav", dtype="int16")
        assert rate == 8000
        np.testing.assert_array_equal(found, sounds[1, 0])
    elif form == "npz":
        with np.load(out) as arrays:
            np.testing.assert_array_equal(arrays["arr_0"], sounds)
    elif form == "shards":
        dataset = ShardDataset(out)
        found = dataset.read(list(dataset.locations()), ["audio"])["audio"]
        assert {row.tobytes() for row in found} == {row.tobytes() for row in sounds}
    else:
        assert out.stat().st_size > 500
