"""Every size and mode of image becomes one of the set, or is rejected with a reason."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.protocol import ImageProtocol, Rejected, measure

EXACT = ImageProtocol(6, 10, 3, crop="exact")


def file_of(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def plain(mode: str, colour, size: tuple[int, int] = (10, 6)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette_with_transparency() -> bytes:
    picture = plain("P", 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return file_of(picture, transparency=1)


def grey_16_bits() -> bytes:
    return file_of(Image.fromarray(np.full((6, 10), 0x8080, np.uint16)))


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (file_of(plain("RGB", (10, 20, 30))), (10, 20, 30)),
        (file_of(plain("RGBA", (255, 0, 0, 0))), (255, 255, 255)),
        (file_of(plain("RGBA", (0, 0, 0, 128))), (127, 127, 127)),
        (file_of(plain("LA", (100, 0))), (255, 255, 255)),
        (file_of(plain("LA", (100, 255))), (100, 100, 100)),
        (file_of(plain("L", 77)), (77, 77, 77)),
        (file_of(plain("L", 77), transparency=77), (255, 255, 255)),
        (file_of(plain("1", 1)), (255, 255, 255)),
        (file_of(plain("P", 0)), (0, 0, 0)),
        (palette_with_transparency(), (255, 255, 255)),
        (grey_16_bits(), (128, 128, 128)),
        (file_of(plain("I", 65_535), "TIFF"), (255, 255, 255)),
        (file_of(plain("CMYK", (0, 0, 0, 0)), "TIFF"), (255, 255, 255)),
        (file_of(plain("YCbCr", (128, 128, 128)), "TIFF"), (128, 128, 128)),
        (file_of(plain("RGB", (10, 20, 30)), "BMP"), (10, 20, 30)),
    ],
)
def test_odd_modes_become_rgb(data: bytes, colour: tuple[int, int, int]) -> None:
    image = EXACT.apply(data)
    assert image.shape == (3, 6, 10)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(colour)[:, None, None], (3, 6, 10)))


@pytest.mark.parametrize(
    ("channels", "colour"), [(1, (85,)), (2, (85, 51)), (3, (221, 221, 221)), (4, (85, 85, 85, 51))]
)
def test_alpha_is_kept_where_there_is_a_channel_for_it(channels: int, colour: tuple[int, ...]) -> None:
    image = replace(EXACT, channels=channels).apply(file_of(plain("LA", (85, 51))))
    expected = (221,) if channels == 1 else colour
    assert image[:, 0, 0].tolist() == list(expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unreadable"),
        (b"\x89PNG\r\n\x1a\nnonsense", "unreadable"),
        (file_of(plain("RGB", (1, 2, 3)))[:-30], "unreadable"),
        (file_of(plain("RGB", 0, size=(9, 6))), "size"),
        (file_of(plain("F", 0.5), "TIFF"), "mode"),
        (file_of(plain("I", 70_000), "TIFF"), "mode"),
    ],
)
def test_what_does_not_fit_is_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        EXACT.apply(data)
    assert caught.value.reason == reason


def test_a_bomb_is_not_decoded() -> None:
    bomb = file_of(Image.new("1", (20_000, 20_000)))  # 400 Mpx in 49 KB
    with pytest.raises(Rejected, match=r"bomb: 20000x20000 is 400.0 Mpx, the limit is 89.5 Mpx"):
        ImageProtocol(8, 8).apply(bomb)
    with pytest.raises(Rejected, match="bomb"):
        measure(bomb)
    assert Image.MAX_IMAGE_PIXELS is not None
    small = file_of(Image.new("1", (100, 100)))
    with pytest.raises(Rejected, match="bomb"):
        ImageProtocol(8, 8, pixel_limit=9_999).apply(small)
    assert ImageProtocol(8, 8, pixel_limit=10_000).apply(small).shape == (3, 8, 8)


@given(data=st.binary(max_size=300), cut=st.integers(0, 80), noise=st.binary(max_size=8))
def test_no_bytes_are_more_than_a_rejection(data: bytes, cut: int, noise: bytes) -> None:
    for damaged in (data, file_of(plain("P", 3))[:cut] + noise + file_of(plain("P", 3))[cut + len(noise) :]):
        try:
            image = EXACT.apply(damaged)
        except Rejected as answer:
            assert answer.reason in ("unreadable", "size", "mode", "bomb")
        else:
            assert image.shape == (3, 6, 10)


def test_orientation_is_applied() -> None:
    pixels = np.zeros((10, 6, 3), np.uint8)
    pixels[0] = 255  # the top row
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    data = file_of(Image.fromarray(pixels), exif=exif)
    assert measure(data) == (6, 10)
    image = EXACT.apply(data)
    assert image[:, :, -1].min() == 255  # it is the right column now
    assert image[:, :, :-1].max() == 0


def test_the_centre_is_cut_out() -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 200
    image = ImageProtocol(2, 2).apply(file_of(Image.fromarray(pixels)))
    assert image.min() == image.max() == 200
    whole = ImageProtocol(2, 2, crop="none", filter="box").apply(file_of(Image.fromarray(pixels)))
    assert whole[0, 0].tolist() == [67, 67]


def test_the_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    image = ImageProtocol(8, 8).apply(file_of(Image.fromarray(stripes)))
    assert np.abs(image.astype(int) - 127).max() <= 12  # a resize without a prefilter gives black or white


def test_small_images_are_enlarged_only_if_asked() -> None:
    data = file_of(plain("RGB", (9, 9, 9), size=(4, 4)))
    with pytest.raises(Rejected, match="size: 4x4, smaller than 8x8"):
        ImageProtocol(8, 8).apply(data)
    assert ImageProtocol(8, 8, upscale=True).apply(data).shape == (3, 8, 8)


@given(height=st.integers(1, 40), width=st.integers(1, 40), target=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_any_size_fits_any_target(height: int, width: int, target: tuple[int, int]) -> None:
    data = np.full((3, height, width), 90, np.uint8)
    for crop in ("center", "none"):
        image = ImageProtocol(*target, crop=crop, upscale=True).apply(data)
        assert image.shape == (3, *target)
        assert (image == 90).all()


@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_padding_puts_zeros_around(height: int, width: int) -> None:
    image = ImageProtocol(9, 9, 1, crop="pad").apply(np.full((1, height, width), 7, np.uint8))
    assert image.shape == (1, 9, 9)
    assert (image == 7).sum() == height * width
    top, left = (9 - height) // 2, (9 - width) // 2
    assert (image[0, top : top + height, left : left + width] == 7).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (file_of(plain("RGB", 0), "BMP"), "format"),
        (file_of(plain("RGBA", 0)), "mode"),
        (file_of(plain("L", 0)), "mode"),
        (file_of(plain("RGB", 0, size=(6, 10))), "size"),
        (file_of(plain("RGB", 0), "JPEG")[:-40], "unreadable"),
        (b"text", "unreadable"),
    ],
)
def test_kept_files_must_be_as_the_set_says(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        EXACT.check_untouched(data)
    assert caught.value.reason == reason


def test_kept_files_must_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    with pytest.raises(Rejected, match="orientation 3"):
        EXACT.check_untouched(file_of(plain("RGB", 0), "JPEG", exif=exif))
    assert EXACT.check_untouched(file_of(plain("RGB", 0), "JPEG")) == "jpg"
    assert EXACT.check_untouched(file_of(plain("RGB", 0), "WEBP")) == "webp"


def test_the_words_name_everything() -> None:
    words = {
        ImageProtocol(8, 8, crop=crop, filter=name, upscale=up, channels=channels).words
        for crop in ("center", "none")
        for name in ("lanczos", "box")
        for up in (False, True)
        for channels in (3, 4)
    }
    assert len(words) == 16
    assert ImageProtocol(8, 16).words.startswith("center-lanczos/8x16x3 (")
