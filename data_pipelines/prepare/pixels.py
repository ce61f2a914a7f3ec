"""Images as numbers in one `.npy` or `.npz` file: what samplers write, and what notebooks save."""

import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.prepare.array_parts import names_of_part
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes, distinct_names
from data_pipelines.prepare.names import first_of
from data_pipelines.prepare.place import OpenFile, Place
from data_pipelines.protocol import ImageProtocol, Rejected
from data_pipelines.source import Item, LeftAside, Source

_IMAGES = ("arr_0", "images", "samples", "imgs", "x", "data", "x_train")
_LABELS = ("arr_1", "labels", "label", "y", "y_train")
_NAMES = ("class_names", "classes")
_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class PixelReader:
    """Images of one array in a file, found by number.

    Attributes:
        path: of the file.
        offset: of the array's first byte.
        shape: of an image as it lies there.
        axes: that make it [C, H, W].
        keep: what must live as long as this reader does in the process that made it.
    """

    path: str
    offset: int
    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    keep: OpenFile | None = None

    def read(self, where: int) -> Pixels:
        """Return image number `where`."""
        size = int(np.prod(self.shape))
        with Path(self.path).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), size, self.offset + where * size)
        if len(data) != size:
            raise Rejected("damaged", f"the array ends after {len(data)} of {size} bytes")
        return np.frombuffer(data, np.uint8).reshape(self.shape).transpose(self.axes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind; its owner holds it."""
        return {**vars(self), "keep": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read what the owner holds."""
        self.__dict__.update(state)


@dataclass
class _Array:
    """An array that lies in a file, and has not been read."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keep: OpenFile | None = None

    @property
    def axes(self) -> tuple[int, int, int] | None:
        """The axes that make [C, H, W] of one of its images; None: it holds no images of 8 bits."""
        if self.dtype != np.uint8 or len(self.shape) not in (3, 4) or 0 in self.shape:
            return None
        if len(self.shape) == 3:
            return (0, 1, 2)
        if self.shape[3] in _CHANNELS:
            return (2, 0, 1)
        return (0, 1, 2) if self.shape[1] in _CHANNELS else None

    @property
    def words(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def holds_images(path: Path) -> bool:
    """Tell whether an `.npy` file holds images, not other numbers: uint8, [N, H, W, C] or [N, C, H, W].

    Raises:
        DataError: it seems to hold one image.
    """
    try:
        array = _npy(path)
    except DataError:
        return False
    if array.dtype == np.uint8 and len(array.shape) == 3 and array.shape[2] in _CHANNELS[2:]:
        height, width, channels = array.shape
        raise DataError(
            f"{path}: contains one image of {height}x{width}x{channels}, or {height} arrays; save images as [N, H, "
            f"W, C], or choose one of pixels:{path} and arrays:{path}"
        )
    return len(array.shape) == 4 and array.axes is not None


def from_pixels(place: Place) -> Source:
    """Return the images of an `.npy` or `.npz` file: uint8, [N, H, W, C], [N, C, H, W] or, grey, [N, H, W].

    In an `.npz`, the images are `arr_0` (or `images`, `samples`, …, or the only such array) and the class indices
    `arr_1` (or `labels`, `y`, …), with `class_names`. Names such as `train_images`, `train_labels` and `x_test` are
    those of parts.

    Raises:
        DataError: no such file, no images of 8 bits in it, no such part, or labels that do not belong to the images.
    """
    path = place.path
    arrays = {"": _npy(path)} if path.suffix.lower() == ".npy" else _npz(place)
    given = names_of_part(place, arrays, (*_IMAGES, *_LABELS))
    arrays = {called: arrays[one] for called, one in given.items()}
    name = next((one for one in _IMAGES if one in arrays and arrays[one].axes), None)
    if name is None:
        found = [one for one, array in arrays.items() if array.axes]
        if len(found) != 1:
            have = ", ".join(f"{one} {array.words}".strip() for one, array in arrays.items())
            raise DataError(
                f"{path}: no images in it: expected uint8, [N, H, W, C], [N, C, H, W] or [N, H, W], found {have}"
                f"{way_on(array.dtype for array in arrays.values() if len(array.shape) == 4)}"
            )
        (name,) = found
    images = arrays[name]
    assert images.axes is not None
    count, *shape = images.shape if len(images.shape) == 4 else (images.shape[0], 1, *images.shape[1:])
    size = (shape[0], shape[1], shape[2])
    channels, height, width = (size[axis] for axis in images.axes)
    labels, classes, used = _labels(place, arrays, given, count)
    aside = LeftAside()
    for one in sorted(set(given.values()) - {given[called] for called in (name, *used)}):
        aside.add("arrays of the file", f"{one} {arrays[one].words}" if one in arrays else one)
    stat = path.stat()
    return Source(
        name=path.stem,
        items=[Item(str(number), number, label) for number, label in enumerate(labels or [-1] * count)],
        reader=PixelReader(images.path, images.offset, size, images.axes, images.keep),
        classes=classes,
        licence="not stated",
        origin=str(path),
        usual=ImageProtocol(height, width, channels, crop="exact"),
        stamp=stamp_of({path.name: f"{stat.st_size} {stat.st_mtime_ns}"}),
        left_aside=aside,
    )


def way_on(dtypes: Iterable[np.dtype[Any]]) -> str:
    """Return what to do with images that are no numbers of 8 bits."""
    kinds = {dtype.kind for dtype in dtypes}
    if "f" in kinds:
        return "; of values from 0 to 1, save (255 * x).round().clip(0, 255).astype('uint8')"
    return "; of values from 0 to 255, save x.astype('uint8')" if kinds & {"i", "u", "b"} else ""


def _labels(
    place: Place, arrays: Mapping[str, _Array], given: Mapping[str, str], count: int
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Return the class indices, the names of the classes, and the names of the arrays that tell them."""
    name = next((one for one in place.columns(_LABELS) if one in arrays), None)
    if name is None:
        if place.label and place.columns(()):
            have = first_of((f"{one} {array.words}" for one, array in arrays.items()), 9)
            raise DataError(f"{place.path}: no array '{place.label}' of {count} labels for --label; it has {have}")
        return [], (), ()
    if arrays[name].shape not in ((count,), (count, 1)):
        raise DataError(
            f"{place.path}: {given[name]} {arrays[name].words} is not one label for each of {count} images; "
            "--label none prepares them without classes"
        )
    values = _content(place.path, given[name]).reshape(-1).tolist()
    labels, classes = as_classes(values, str(place.path), "image {}".format)
    named = next((one for one in _NAMES if one in arrays), None)
    names = [str(one) for one in _content(place.path, given[named]).tolist()] if named else []
    if named and labels and all(isinstance(value, int) for value in values) and len(names) >= len(classes):
        return labels, distinct_names(names, [str(number) for number in range(len(names))]), (name, named)
    return labels, classes, (name,)


def _content(path: Path, name: str) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array
    except ValueError as error:
        raise DataError(f"{path}: {name} cannot be read ({error})") from None


def _npy(path: Path) -> _Array:
    try:
        with path.open("rb") as file:
            return _header(str(path), file, file.tell)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy file of numbers ({error})") from None


def _npz(place: Place) -> dict[str, _Array]:
    """Return the arrays of an `.npz`, where they lie in it; a compressed one is unpacked when it holds images."""
    arrays = {}
    try:
        with zipfile.ZipFile(place.path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    array = _header(str(place.path), file, file.tell)
                if array.axes and member.compress_type != zipfile.ZIP_STORED:
                    array = _laid_out(place, archive, member, array)
                elif member.compress_type == zipfile.ZIP_STORED:
                    array.offset += _data_offset(archive, member)
                arrays[name] = array
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(f"{place.path}: not an .npz of numbers ({error})") from None
    return arrays


def _header(path: str, file: Any, tell: Any) -> _Array:
    """Read the header of an array."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it contains Python objects, which are not loaded")
    if fortran and len(shape) > 1:
        raise ValueError("it is in Fortran order; save numpy.ascontiguousarray of it")
    return _Array(path, tell(), shape, dtype)


def _data_offset(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin: behind its local header, which may differ from the directory's entry."""
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + 26)
    name, extra = (int.from_bytes(archive.fp.read(2), "little") for _ in range(2))
    return member.header_offset + 30 + name + extra


def _laid_out(place: Place, archive: zipfile.ZipFile, member: zipfile.ZipInfo, array: _Array) -> _Array:
    """Unpack a compressed array into a file without a name."""
    out = place.scratch_file()
    try:
        with archive.open(member) as file:
            while chunk := file.read(1 << 20):
                out.file.write(chunk)
        out.file.flush()
    except OSError as error:
        raise DataError(f"{place.path}: {member.filename} cannot be unpacked ({error})") from None
    return _Array(out.path, array.offset, array.shape, array.dtype, out)
