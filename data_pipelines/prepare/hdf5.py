"""Images as numbers in an HDF5 file: `imgs` and `labels`, as BigGAN's ILSVRC128.hdf5 has them, and the like."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.prepare.array_parts import names_of_part
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes
from data_pipelines.prepare.pixels import way_on
from data_pipelines.prepare.place import Place
from data_pipelines.protocol import ImageProtocol, Rejected
from data_pipelines.source import Item, LeftAside, Source

_IMAGES = ("imgs", "images", "image", "data", "x", "x_train")
_LABELS = ("labels", "label", "y", "y_train", "targets")
_CHANNELS = (1, 2, 3, 4)
_DEEPEST = 3
"""Groups within one another; links may make a circle of them."""
_LARGEST_CHUNK = 2**30
"""Bytes that are decompressed to read one image; a file that asks for more is a bomb."""


@dataclass(frozen=True)
class HDF5Reader:
    """Images of one array of an HDF5 file, found by number.

    Attributes:
        path: of the file.
        name: of the array.
        axes: that make [C, H, W] of an image as it lies there.
    """

    path: str
    name: str
    axes: tuple[int, int, int]

    def read(self, where: int) -> Pixels:
        """Return image number `where`."""
        try:
            image: Pixels = self._array[where]
        except OSError as error:
            raise Rejected("damaged", str(error)) from None
        return (image[..., None] if image.ndim == 2 else image).transpose(self.axes)

    @cached_property
    def _array(self) -> Any:
        return _h5py(self.path).File(self.path, "r")[self.name]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind: each process opens its own."""
        return {"path": self.path, "name": self.name, "axes": self.axes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open anew when first read."""
        self.__dict__.update(state)


def from_hdf5(place: Place) -> Source:
    """Return the images of an HDF5 file: uint8, [N, C, H, W], [N, H, W, C] or, grey, [N, H, W].

    The images are `imgs` (or `images`, `data`, …, or the only such array), the class indices `labels` (or `y`, …), at
    the top or in groups; names such as `train_images` or `train/images` are those of parts.
    Parts of the file that lie in other files are not read: a file from a stranger could show any other one.

    Raises:
        DataError: no HDF5 file, no images of 8 bits in it, or no such part.
    """
    path = place.path
    try:
        with _h5py(str(path)).File(path, "r") as file:
            arrays = dict(_arrays(file))
            given = names_of_part(place, arrays, (*_IMAGES, *_LABELS))
            return _source(place, {called: arrays[name] for called, name in given.items()}, given)
    except OSError as error:
        raise DataError(f"{path}: not a complete HDF5 file ({error})") from None


def _source(place: Place, arrays: dict[str, Any], given: dict[str, str]) -> Source:
    path = place.path
    images = {name: axes for name, array in arrays.items() if (axes := _axes(array))}
    name = next((one for one in _IMAGES if one in images), None)
    if name is None and len(images) == 1:
        (name,) = images
    if name is None:
        have = ", ".join(f"{one} {array.dtype} {list(array.shape)}" for one, array in arrays.items()) or "nothing"
        raise DataError(
            f"{path}: no images in it: expected uint8, [N, C, H, W], [N, H, W, C] or [N, H, W], found {have}"
            f"{way_on(array.dtype for array in arrays.values() if array.ndim == 4)}"
        )
    array, axes = arrays[name], images[name]
    if array.chunks and math.prod(array.chunks) > _LARGEST_CHUNK:
        raise DataError(
            f"{path}: {name} is compressed in chunks of {math.prod(array.chunks):,} bytes, which are too large to read"
        )
    size = (*array.shape[1:], 1) if array.ndim == 3 else array.shape[1:]
    channels, height, width = (size[axis] for axis in axes)
    label = next((one for one in place.columns(_LABELS) if one in arrays), None)
    if label is None and place.label and place.columns(()):
        raise DataError(
            f"{path}: no array '{place.label}' for --label; it has {', '.join(sorted(set(given.values())))}"
        )
    labels, classes = _labels(path, given[label], arrays[label], len(array)) if label else ([], ())
    aside = LeftAside()
    for one in sorted(set(given.values()) - {given[name], given.get(label or "")}):
        aside.add("arrays of the file", f"{one} {arrays[one].dtype} {list(arrays[one].shape)}")
    stat = path.stat()
    return Source(
        name=path.stem,
        items=[Item(str(number), number, one) for number, one in enumerate(labels or [-1] * len(array))],
        reader=HDF5Reader(str(path.resolve()), given[name], axes),
        classes=classes,
        licence="not stated",
        origin=str(path),
        usual=ImageProtocol(height, width, channels, crop="exact"),
        stamp=stamp_of({path.name: f"{stat.st_size} {stat.st_mtime_ns}"}),
        left_aside=aside,
    )


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the arrays of a file, in some depth, that lie in it."""
    h5py = _h5py(str(group.file.filename))
    for own in group:
        if not isinstance(group.get(own, getlink=True), h5py.HardLink):
            continue
        array, name = group[own], f"{prefix}{own}"
        if isinstance(array, h5py.Group) and name.count("/") < _DEEPEST:
            yield from _arrays(array, f"{name}/")
        if isinstance(array, h5py.Dataset) and array.external is None and not array.is_virtual:
            yield name, array


def _axes(array: Any) -> tuple[int, int, int] | None:
    """Return the axes that make [C, H, W] of one image of an array; None: it holds no images of 8 bits."""
    shape = array.shape
    if array.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        return None
    if len(shape) == 3 or shape[3] in _CHANNELS:
        return (2, 0, 1)
    return (0, 1, 2) if shape[1] in _CHANNELS else None


def _labels(path: Path, name: str, array: Any, count: int) -> tuple[list[int], tuple[str, ...]]:
    if array.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{path}: {name} has the shape {list(array.shape)}, expected a label for each of {count} images"
        )
    values: NDArray[Any] = array[()].reshape(-1)
    return as_classes(values.tolist(), str(path), "image {}".format)


def _h5py(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: reading HDF5 needs the package h5py (pip install 'bigtrain[hdf5]')") from None
    return h5py
