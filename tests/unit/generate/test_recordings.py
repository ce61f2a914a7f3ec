"""Recordings: sounds with pauses between them, films that last, volumes and points that turn, nothing of images."""

import io
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from bigtrain.generate.recordings import Recording, recorded
from data_pipelines.fields.spec import FieldSpec


def frames_of(recording: Recording | None) -> tuple[list[np.ndarray], float]:
    assert recording is not None
    assert recording.suffix == ".mp4"
    with av.open(io.BytesIO(recording.content)) as film:
        stream = film.streams.video[0]
        assert stream.average_rate is not None
        return [frame.to_ndarray(format="gray") for frame in film.decode(stream)], float(stream.average_rate)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_sounds_follow_each_other(dtype: str) -> None:
    sounds = torch.rand(3, 2, 4000) * 2 - 1
    recording = recorded(sounds, FieldSpec("audio", (2, 4000), dtype, rate=8000, codec="npy"))
    assert recording is not None
    assert recording.suffix == ".wav"
    found, rate = soundfile.read(io.BytesIO(recording.content), dtype="float32")
    assert (found.shape, rate) == ((3 * 6000, 2), 8000)
    for number, sound in enumerate(sounds):
        heard = found[6000 * number : 6000 * (number + 1)]
        np.testing.assert_allclose(heard[:4000].T, sound, atol=1e-4)
        assert (heard[4000:] == 0).all()


def test_long_sounds_are_fewer_and_without_a_rate_none() -> None:
    spec: dict[str, Any] = {"kind": "audio", "shape": (1, 48_000), "dtype": "int16", "codec": "npy"}
    recording = recorded(torch.zeros(16, 1, 48_000), FieldSpec(**spec, rate=8000))
    assert recording is not None
    assert len(soundfile.read(io.BytesIO(recording.content))[0]) == 3 * 50_000  # 20 seconds at most
    assert recorded(torch.zeros(1, 1, 48_000), FieldSpec(**spec)) is None


def test_clips_are_repeated() -> None:
    levels = torch.linspace(-1, 1, 6)[None, :, None, None, None]
    frames, rate = frames_of(
        recorded(levels.expand(2, 6, 3, 16, 16), FieldSpec("video", (6, 3, 16, 16), "uint8", rate=12))
    )
    assert (rate, len(frames)) == (12, 48)
    middle = [float(frame[8:-8, 8:120].mean()) for frame in frames]
    assert middle[:6] == sorted(middle[:6])
    np.testing.assert_allclose(middle[6:12], middle[:6], atol=4)


def test_a_volume_turns_and_hides_what_is_behind() -> None:
    volume = torch.full((1, 1, 8, 8, 8), -1.0)
    volume[:, :, :2, :4, 5:7] = 1  # at the front, above, to the right
    frames, rate = frames_of(recorded(volume, FieldSpec("array", (1, 8, 8, 8), "float32", codec="npy")))
    assert (len(frames), rate) == (48, 12)
    side = frames[0].shape[0]
    front, back = (frames[number][:, :side].astype(float) for number in (0, 24))
    upper, left, right = (
        slice(side // 8, side // 2),
        slice(side // 8, 3 * side // 8),
        slice(5 * side // 8, 7 * side // 8),
    )
    assert front[upper, right].mean() > 100 > 20 > front[upper, left].mean()
    assert back[upper, left].mean() > 40 > 20 > back[upper, right].mean()
    assert front[upper, right].mean() > back[upper, left].mean()  # it is farther away
    assert front[-side // 3 : -side // 10, side // 8 : -side // 8].mean() < 20
    volume[:, :, 5:, :4, 5:7] = 1
    hidden, _ = frames_of(recorded(volume, FieldSpec("array", (1, 8, 8, 8), "float32", codec="npy")))
    np.testing.assert_allclose(hidden[0][upper, right].mean(), front[upper, right].mean(), atol=6)


def test_large_volumes_and_clips_are_reduced() -> None:
    volumes = torch.full((12, 1, 96, 64, 64), -1.0)
    frames, _ = frames_of(recorded(volumes, FieldSpec("array", (1, 96, 64, 64), "float32", codec="npy")))
    assert frames[0].shape[0] * 2 == pytest.approx(frames[0].shape[1], abs=4)  # two rows of four
    clips = torch.zeros(4, 2, 1, 8, 600)
    frames, _ = frames_of(recorded(clips, FieldSpec("video", (2, 1, 8, 600), "uint8", rate=8)))
    assert frames[0].shape[1] == 1024


def test_points_turn_about_the_upright_axis() -> None:
    cloud = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.0, -0.5]]])
    frames, _ = frames_of(recorded(cloud, FieldSpec("array", (2, 3), "float32", codec="npy")))
    side = frames[0].shape[0]

    def darkest_column(number: int, rows: slice) -> float:
        return float((255 - frames[number][rows, 4 : side - 4].astype(float)).sum(0).argmax() / side)

    above, below = slice(4, side // 2), slice(side // 2, side - 4)
    assert darkest_column(0, above) == pytest.approx(0.75, abs=0.06)
    assert darkest_column(24, above) == pytest.approx(0.25, abs=0.06)
    assert darkest_column(0, below) == pytest.approx(darkest_column(24, below), abs=0.03)


@pytest.mark.parametrize(
    ("shape", "kind"), [((3, 8, 8), "image"), ((12, 2), "array"), ((5,), "array"), ((1, 4, 4), "array")]
)
def test_of_what_does_not_move_there_is_none(shape: tuple[int, ...], kind: str) -> None:
    dtype = "uint8" if kind == "image" else "float32"
    assert recorded(torch.zeros(2, *shape), FieldSpec(kind, shape, dtype)) is None
