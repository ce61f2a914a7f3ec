"""From whatever a source holds to images that are all alike: one protocol, by name, recorded in the manifest."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from data_pipelines.codec import Pixels
from data_pipelines.pictures import PIXEL_LIMIT, ImageFileError, open_picture

Crop = Literal["center", "none", "pad", "exact"]
Filter = Literal["lanczos", "bicubic", "bilinear", "box", "nearest"]

CROPS: tuple[str, ...] = get_args(Crop)
FILTERS: tuple[str, ...] = get_args(Filter)
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels -> Pillow's name for such an image."""

_CROP_WORDS = {
    "center": "the largest centred part of this aspect",
    "none": "the whole image, its aspect not kept",
    "pad": "zeros around",
    "exact": "images of this size only",
}
TWELVE_BITS = 4096
_WITHIN = 1 << 16  # a JPEG's EXIF is its first or second segment
_ORIENTATION = 0x0112  # of EXIF: 1 is upright, 5 to 8 lie on their sides
_UNTOUCHED_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class Rejected(Exception):  # noqa: N818 - an answer, not an error
    """This image does not get into the set.

    Attributes:
        reason: one word: `unreadable`, `bomb`, `mode`, `size`, `orientation`, `format`, `missing` or `damaged`.
        detail: what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ImageProtocol:
    """How an image of any size and mode becomes one of the set.

    Attributes:
        height: of the result, in pixels.
        width: of the result.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA); without alpha, transparency lies on white.
        crop: `center` cuts out the largest centred part of the result's aspect; `none` takes the whole image,
            whatever its aspect; `pad` puts zeros around and never resizes; `exact` takes images of this size only.
        filter: of the resize; antialiased: its support grows with the reduction.
        upscale: whether smaller images are enlarged; else they are rejected.
        pixel_limit: images of more pixels than this are not decoded: bombs.
    """

    height: int
    width: int
    channels: int = 3
    crop: Crop = "center"
    filter: Filter = "lanczos"
    upscale: bool = False
    pixel_limit: int = PIXEL_LIMIT

    @property
    def size_words(self) -> str:
        """Height, width and channels."""
        return f"{self.height}x{self.width}x{self.channels}"

    @property
    def words(self) -> str:
        """Name and description, for the manifest."""
        size = self.size_words
        if self.crop in ("pad", "exact"):
            name, resize = f"{self.crop}/{size}", "not resized"
        else:
            small = "smaller ones enlarged" if self.upscale else "smaller ones rejected"
            name, resize = f"{self.crop}-{self.filter}/{size}", f"{self.filter} antialiased, {small}"
        alpha = "alpha kept" if self.channels in (2, 4) else "transparency on white"
        return f"{name} ({_CROP_WORDS[self.crop]}; {resize}; EXIF orientation applied; {alpha}; 16 bits to 8)"

    def apply(self, image: bytes | Pixels) -> Pixels:
        """Make the set's image of a file's content, or of pixels.

        Returns:
            uint8, shape [channels, height, width].

        Raises:
            Rejected: it cannot be read, is too large or too small, or of a mode that has no 8-bit meaning.
        """
        with _opened(image, self.pixel_limit) as picture:
            if getattr(picture, "format", None) is not None:  # pixels have no orientation
                ImageOps.exif_transpose(picture, in_place=True)
            self._check_size(picture.size)
            picture = self._resized(_converted(picture, self.channels))
            pixels = np.asarray(picture)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return self._padded(pixels) if self.crop == "pad" else pixels

    def check_untouched(self, data: bytes) -> str:
        """See that a file is an image of the set as it is, whatever the crop; return its file extension.

        Raises:
            Rejected: it is not, or a reader that knows nothing of EXIF would show it turned.
        """
        with _opened(data, self.pixel_limit) as picture:
            if picture.format not in _UNTOUCHED_FORMATS:
                raise Rejected("format", f"{picture.format}, but a file that is kept must be PNG, JPEG or WebP")
            if picture.size != (self.width, self.height):
                raise Rejected("size", f"{_size_words(picture.size)}, expected {self.height}x{self.width}")
            if picture.mode != MODES[self.channels] or "transparency" in picture.info:
                raise Rejected("mode", f"{picture.mode}, but a file that is kept must be {MODES[self.channels]}")
            if (turned := picture.getexif().get(_ORIENTATION, 1)) != 1:
                raise Rejected("orientation", f"EXIF orientation {turned}, but a file that is kept must be upright")
            picture.load()
            return _UNTOUCHED_FORMATS[picture.format]

    def _check_size(self, size: tuple[int, int]) -> None:
        """Reject what does not fit; `size` is Pillow's: width, height."""
        width, height = size
        expected = f"{self.height}x{self.width}"
        if self.crop == "exact" and (width, height) != (self.width, self.height):
            raise Rejected("size", f"{_size_words(size)}, expected {expected}")
        if self.crop == "pad" and (width > self.width or height > self.height):
            raise Rejected("size", f"{_size_words(size)}, larger than {expected}")
        small = width < self.width or height < self.height
        if self.crop in ("center", "none") and small and not self.upscale:
            raise Rejected("size", f"{_size_words(size)}, smaller than {expected}")

    def _resized(self, picture: Image.Image) -> Image.Image:
        if self.crop in ("pad", "exact"):
            return picture
        if self.crop == "center":
            width = min(picture.width, max(1, round(picture.height * self.width / self.height)))
            height = min(picture.height, max(1, round(picture.width * self.height / self.width)))
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            # Cut before the resize, whose filter would else reach over the edge (so does `box=`).
            picture = picture.crop((left, top, left + width, top + height))
        return picture.resize((self.width, self.height), Image.Resampling[self.filter.upper()])

    def _padded(self, pixels: Pixels) -> Pixels:
        spare = [(0, 0), (0, self.height - pixels.shape[1]), (0, self.width - pixels.shape[2])]
        return np.pad(pixels, [(total // 2, total - total // 2) for _, total in spare])


def measure(image: bytes | Pixels, pixel_limit: int = PIXEL_LIMIT) -> tuple[int, int]:
    """Return height and width of an image that stands upright.

    Raises:
        Rejected: it cannot be read.
    """
    with _opened(image, pixel_limit) as picture:
        turned = picture.getexif().get(_ORIENTATION, 1) >= 5
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def is_upright(data: bytes) -> bool:
    """Tell whether a file is a JPEG or PNG without EXIF, which may say that it lies on its side; rather too seldom."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"Exif" not in data[:_WITHIN]
    return data.startswith(b"\x89PNG") and b"eXIf" not in data and b"Raw profile type exif" not in data


def largest_of_16_bits(image: bytes | Pixels) -> int | None:
    """Return the largest value of a grey image of 16 bits; None for any other image.

    Cameras and scanners save 12 bits in 16: scaled as 16 bits, such an image is all dark.

    Raises:
        Rejected: it cannot be read.
    """
    with _opened(image, PIXEL_LIMIT) as picture:
        return int(np.asarray(picture).max()) if picture.mode.startswith("I;16") else None


def frames_of(image: bytes | Pixels) -> int:
    """Return the number of frames, or pages, of an image file; the first one is what is read of it.

    Raises:
        Rejected: it cannot be read.
    """
    with _opened(image, PIXEL_LIMIT) as picture:
        return int(getattr(picture, "n_frames", 1))


@contextmanager
def _opened(image: bytes | Pixels, pixel_limit: int) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong inside the block is a rejection."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of sizes; what matters we reject
            if isinstance(image, np.ndarray):
                with _from_pixels(image) as picture:
                    yield picture
                return
            with open_picture(image, pixel_limit=pixel_limit, passing=(Rejected,)) as picture:
                yield picture
    except ImageFileError as error:
        raise Rejected("bomb" if error.reason == "bomb" else "unreadable", str(error)) from None


def _from_pixels(image: Pixels) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _converted(picture: Image.Image, channels: int) -> Image.Image:
    """Bring a picture of any mode to `channels`, 8 bits each; transparency lies on white unless alpha is kept."""
    mode = MODES[channels]
    if picture.mode == mode and "transparency" not in picture.info:
        return picture
    if picture.mode == "F":
        raise Rejected("mode", "F, floating-point grey has no scale")
    if picture.mode.startswith("I"):
        picture = _from_16_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if channels in (1, 3):
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            picture = white.convert("RGB")
    elif picture.mode not in ("1", "L", "LA", "RGB"):
        picture = picture.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255, rounding."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise Rejected("mode", f"{picture.mode}, 32-bit grey has no scale")
    return Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))


def _size_words(size: tuple[int, int]) -> str:
    """Height x width, as in the options; Pillow's size is (width, height)."""
    return f"{size[1]}x{size[0]}"
