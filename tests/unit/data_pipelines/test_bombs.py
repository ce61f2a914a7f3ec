"""Files of strangers that are small and would become large, or that would read other files."""

import gzip
import io
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data_pipelines.errors import DataError
from data_pipelines.fields import audio, video
from data_pipelines.fields.npy import read_npy
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import cifar, idx


def film(frames: int, side: int) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, mode="w", format="matroska") as file:
        track = file.add_stream("ffv1", rate=25)
        track.width, track.height, track.pix_fmt = side, side, "gray"
        for _ in range(frames):
            file.mux(track.encode(av.VideoFrame.from_ndarray(np.zeros((side, side), np.uint8), format="gray")))
        file.mux(track.encode())
    return stream.getvalue()


def test_a_video_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list for FFmpeg's `concat` that names a private film of the user who prepares the stranger's set."""
    monkeypatch.chdir(tmp_path)
    Path("private.mkv").write_bytes(film(2, 16))
    playlist = b"ffconcat version 1.0\nfile private.mkv\n"
    with av.open(io.BytesIO(playlist), mode="r") as file:
        assert len(list(file.decode(video=0))) == 2, "FFmpeg alone would show it"
    with pytest.raises(ValueError, match="unreadable video"):
        video.VideoKind().probe(playlist)


def test_a_video_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "LARGEST_VALUE", 3 * 10 * 16 * 16)
    with pytest.raises(ValueError, match="a video of more than"):
        video.VideoKind().probe(film(11, 16))
    assert video.VideoKind().probe(film(10, 16)).shape == (10, 3, 16, 16)


def test_a_sound_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(100_000, np.int16), 8000, format="FLAC")
    monkeypatch.setattr(audio, "LARGEST_VALUE", 100_000)
    with pytest.raises(ValueError, match="a sound of more than"):
        audio.AudioKind().probe(stream.getvalue())


def test_an_array_is_as_long_as_it_says() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(ValueError, match="bytes, but the header says float64"):
        read_npy(stream.getvalue() + b"hush")


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST", 10_000)
    header = b"\0\0\x08\x01" + (20_000).to_bytes(4, "big")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(20_000)))
    with pytest.raises(DataError, match="more than 10000 bytes, which idx files do not have"):
        idx.read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    monkeypatch.setattr(cifar, "LARGEST", 10_000)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("test_batch.bin")
        member.size = 20_000
        tar.addfile(member, io.BytesIO(bytes(20_000)))
    with pytest.raises(DataError, match="more than 10000 bytes, which CIFAR's files do not have"):
        cifar._read_files(tmp_path / "cifar.tar.gz")


def test_a_deep_manifest_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="damaged manifest .nested too deeply"):
        Manifest.load(tmp_path)
