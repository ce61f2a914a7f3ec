"""Open image files of anybody: only of formats that are named here, and no damage but `ImageFileError`.

Pillow chooses a decoder by a file's content, whatever its name is, and some of its decoders start other programs (EPS
starts Ghostscript) or are hardly ever used and therefore hardly ever tested. Every image that bigtrain did not make
itself is opened here.
"""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data_pipelines.content import why_no_image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
"""What a dataset's images may be, in Pillow's names; the order is that in which they are tried."""
OWN_FORMATS = ("PNG", "JPEG", "WEBP")
"""What bigtrain itself writes: into shards, run folders and snapshots."""

PIXEL_LIMIT = 89_478_485  # Pillow's own: a quarter of a GiB of RGB
_HEAD = 512
_opening = threading.Lock()
_ADDRESS = re.compile(r"<[^>]* at 0x[0-9a-f]+>")


class ImageFileError(ValueError):
    """A file is no image of the formats that are read, or is damaged.

    Attributes:
        reason: `format`, `bomb` or `damaged`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail or reason)
        self.reason = reason


@contextmanager
def open_picture(
    file: bytes | memoryview | Path,
    *,
    formats: tuple[str, ...] = FORMATS,
    pixel_limit: int = PIXEL_LIMIT,
    passing: tuple[type[Exception], ...] = (),
) -> Iterator[Image.Image]:
    """Open an image file for the length of a block.

    What Pillow raises inside the block, on damaged data, becomes ImageFileError as well.

    Args:
        file: its content, or its path.
        formats: which are read, in Pillow's names.
        pixel_limit: images of more pixels than this are not decoded.
        passing: errors that the block raises by itself, and that are left as they are.

    Raises:
        ImageFileError: it cannot be read.
    """
    try:
        with _opened(file, formats) as picture:
            if picture.width * picture.height > pixel_limit:
                size = f"{picture.height}x{picture.width} is {picture.width * picture.height / 1e6:.1f} Mpx"
                raise ImageFileError("bomb", f"{size}, the limit is {pixel_limit / 1e6:.1f} Mpx")
            yield picture
    except ImageFileError:
        raise
    except passing:
        raise
    except UnidentifiedImageError:
        raise ImageFileError("format", why_no_image(_head_of(file))) from None
    except Exception as error:  # Pillow's plugins raise anything on damaged data: RuntimeError, struct.error, …
        words = _ADDRESS.sub("", str(error)).strip()
        raise ImageFileError("damaged", f"{type(error).__name__}: {words}") from None


def _head_of(file: bytes | memoryview | Path) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    return bytes(file[:_HEAD])


def _opened(file: bytes | memoryview | Path, formats: tuple[str, ...]) -> Image.Image:
    """Read an image's header, without Pillow's own limit of pixels, which is the same for the whole process."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file if isinstance(file, Path) else io.BytesIO(file), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
