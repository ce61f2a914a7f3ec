import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from data_pipelines.decode import decode_with_pillow
from data_pipelines.fields.image import ImageKind
from data_pipelines.pictures import OWN_FORMATS, ImageFileError, open_picture
from data_pipelines.protocol import ImageProtocol, Rejected

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(hush) run\n%%EOF\n"


@pytest.fixture
def no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise AssertionError("Ghostscript would be started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)


def test_no_image_starts_another_program(no_ghostscript: None, tmp_path: Path) -> None:
    """A PostScript program called `0.png`: Pillow would choose its reader by the content."""
    (tmp_path / "0.png").write_bytes(EPS)
    with pytest.raises(AssertionError, match="Ghostscript"), Image.open(tmp_path / "0.png") as picture:
        picture.load()
    for file in (EPS, tmp_path / "0.png"):
        with pytest.raises(ImageFileError, match="not an image"), open_picture(file):
            pass
    with pytest.raises(ValueError, match="unreadable image"):
        decode_with_pillow(memoryview(EPS), np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="unreadable image"):
        ImageKind().probe(EPS)
    with pytest.raises(Rejected, match="unreadable"):
        ImageProtocol(8, 8).apply(EPS)


def test_run_folders_have_pictures_of_our_formats_only() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF")
    with open_picture(stream.getvalue()) as picture:
        assert picture.size == (8, 8)
    with pytest.raises(ImageFileError, match="not an image"), open_picture(stream.getvalue(), formats=OWN_FORMATS):
        pass


def test_whatever_a_plugin_raises_is_one_error() -> None:
    """A damaged AVIF raises RuntimeError in Pillow's plugin, past those who expect OSError."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)).save(stream, "AVIF")
    start = stream.getvalue().index(b"mdat") + 4
    damaged = stream.getvalue()[:start] + bytes(len(stream.getvalue()) - start)
    with pytest.raises(RuntimeError), Image.open(io.BytesIO(damaged)) as picture:
        picture.load()
    with pytest.raises(ValueError, match="unreadable image"):
        decode_with_pillow(memoryview(damaged), np.zeros((3, 64, 64), np.uint8))
    for error in (RuntimeError("x"), struct.error("x"), KeyError("x"), EOFError()):
        with pytest.raises(ImageFileError), open_picture(stream.getvalue()):
            raise error


def test_threads_leave_pillows_limit_as_it_was() -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")

    def read(_: int) -> None:
        with open_picture(stream.getvalue()) as picture:
            picture.load()

    limit = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(400)))
    assert Image.MAX_IMAGE_PIXELS == limit is not None
