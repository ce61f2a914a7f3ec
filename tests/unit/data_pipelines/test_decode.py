"""Each short way of decoding gives what Pillow gives."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.codec import encode
from data_pipelines.decode import Decoder, decode_with_pillow

SHAPES = st.tuples(st.sampled_from([1, 2, 3, 4]), st.integers(1, 20), st.integers(1, 20))


def pixels(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A picture with edges and gradients, so that encoders choose among all their filters."""
    channels, height, width = shape
    noise = np.random.default_rng(seed).integers(0, 40, shape)
    ramp = np.add.outer(np.arange(height) * 5, np.arange(width) * 3) + 60 * np.arange(channels)[:, None, None]
    return ((noise + ramp) % 256).astype(np.uint8)


def decoded(data: bytes, shape: tuple[int, int, int], *, arrays: bool = False) -> np.ndarray:
    decoder = Decoder(shape, arrays=arrays)
    batch = decoder.batch(3)
    batch[...] = 7
    decoder.decode(memoryview(data), batch[1])
    assert (batch[0] == 7).all() and (batch[2] == 7).all()  # neighbours are left alone
    return batch[1]


def with_pillow(image: np.ndarray) -> bytes:
    """A PNG as others write it, with any filters."""
    picture = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    return as_file(Image.fromarray(picture), "PNG", optimize=bool(image[0, 0, 0] % 2))


@given(shape=SHAPES, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_pngs_of_others_and_our_own_are_the_same_images(shape, seed: int) -> None:
    image = pixels(shape, seed)
    np.testing.assert_array_equal(decoded(with_pillow(image), shape), image)
    expected = np.empty_like(image)
    decode_with_pillow(memoryview(encode(image, "png")), expected)
    np.testing.assert_array_equal(expected, image)


@given(shape=SHAPES, seed=st.integers(0, 9), codec=st.sampled_from(["png", "npy"]), arrays=st.booleans())
@settings(deadline=None, max_examples=60)
def test_lossless_codecs_give_the_image_back(shape, seed: int, codec: str, arrays: bool) -> None:
    image = pixels(shape, seed)
    np.testing.assert_array_equal(decoded(encode(image, codec), shape, arrays=arrays), image)


@pytest.mark.parametrize(("codec", "channels"), [("jpeg", 1), ("jpeg", 3), ("webp", 3), ("png", 2)])
@pytest.mark.parametrize("arrays", [False, True])
def test_it_agrees_with_pillow_to_the_bit(codec: str, channels: int, arrays: bool) -> None:
    shape = (channels, 40, 56)
    data = encode(pixels(shape), codec, quality=90)
    expected = np.empty(shape, np.uint8)
    decode_with_pillow(memoryview(data), expected)
    np.testing.assert_array_equal(decoded(data, shape, arrays=arrays), expected)


def as_file(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


GREY = Image.fromarray(pixels((1, 16, 16))[0])
COLOUR = Image.fromarray(pixels((3, 16, 16)).transpose(1, 2, 0).copy())


def test_a_png_in_several_pieces_is_read() -> None:
    data = encode(pixels((3, 16, 16)), "png")
    start = data.index(b"IDAT") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    body = data[start + 8 : start + 8 + size]
    pieces = b""
    for part in (body[:10], body[10:11], body[11:]):
        pieces += len(part).to_bytes(4, "big") + b"IDAT" + part + zlib.crc32(b"IDAT" + part).to_bytes(4, "big")
    data = data[:start] + pieces + data[start + 12 + size :]
    np.testing.assert_array_equal(decoded(data, (3, 16, 16)), pixels((3, 16, 16)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (as_file(GREY, "PNG"), "16x16 L, but 16x16 RGB"),
        (as_file(COLOUR.convert("P"), "PNG"), "16x16 P,"),
        (as_file(COLOUR.resize((15, 16)), "PNG"), "15x16 RGB,"),
        (as_file(GREY, "JPEG"), "16x16 L,"),
        (as_file(COLOUR.convert("CMYK"), "JPEG"), "16x16 CMYK,"),
        (as_file(COLOUR.resize((16, 17)), "JPEG"), "16x17"),
        (as_file(COLOUR, "PNG")[:200], "truncated|not enough|unreadable"),
        (as_file(COLOUR, "JPEG")[:300], "truncated|unreadable"),
        (as_file(COLOUR, "WEBP")[:80], "unreadable"),
        (encode(pixels((3, 16, 15)), "npy"), r"\(3, 16, 15\).* are not uint8 \(3, 16, 16\)"),
        (encode(pixels((3, 16, 16)), "npy")[:-1], "are not uint8"),
        (b"<html>", "unreadable image"),
        (b"", "unreadable image"),
    ],
)
def test_another_image_than_the_manifest_says_is_damage(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decoded(data, (3, 16, 16))


@given(data=st.binary(max_size=80), kind=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY", b""]))
@settings(deadline=None, max_examples=200)
def test_garbage_is_damage_and_nothing_else(data: bytes, kind: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(kind + data, (3, 16, 16))


def test_an_unusual_jpeg_is_left_to_pillow() -> None:
    data = as_file(COLOUR, "JPEG", keep_rgb=True)  # RGB inside: the short way knows YCbCr only
    expected = np.empty((3, 16, 16), np.uint8)
    decode_with_pillow(memoryview(data), expected)
    np.testing.assert_array_equal(decoded(data, (3, 16, 16)), expected)


def test_transparent_colours_are_not_dropped() -> None:
    data = as_file(GREY, "PNG", transparency=3)
    np.testing.assert_array_equal(decoded(data, (1, 16, 16))[0], np.asarray(GREY))
