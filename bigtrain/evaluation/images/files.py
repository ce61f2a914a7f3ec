"""Image files in a folder or an archive, all of one size: not resized, RGB by the rules of `bigtrain data prepare`."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from bigtrain.evaluation.errors import EvaluationError
from data_pipelines.codec import Pixels
from data_pipelines.decode import Decoder
from data_pipelines.errors import DataError
from data_pipelines.pictures import open_picture
from data_pipelines.prepare import open_images
from data_pipelines.prepare.names import stem_of
from data_pipelines.protocol import TWELVE_BITS, ImageProtocol, Rejected, is_upright, largest_of_16_bits, measure
from data_pipelines.source import Item

_GREY = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"})


class FileImages:
    """Images below a folder, or in an archive or array, in the order of their names; see Images.

    Args:
        path: see `open_images`.
        threads: that decode at once.

    Attributes:
        classes: names of the classes; empty where there are none.
        faults: images that could not be read, and why; black ones stand in for them.
        grey: names of images without colour that this rank has met; they become RGB.
        dark: names of images of 16 bits that use 12 bits or less.
        left_aside: which other files there are, in words.

    Raises:
        EvaluationError: there are no images.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            source = open_images(path)
        except DataError as error:
            raise EvaluationError(str(error)) from None
        self.name, self.digest = str(path), f"files upright {source.stamp}"
        self.classes, self.left_aside = source.classes, source.left_aside.words
        self._items, self._source = list(source.items), source
        self.faults: list[str] = []
        self.grey: list[str] = []
        self.dark: list[str] = []
        height, width = self._first_size()
        self._protocol = ImageProtocol(height, width, crop="exact")
        self._decoder = Decoder((3, height, width))
        self._pool = ThreadPoolExecutor(threads or os.cpu_count())

    @property
    def stems(self) -> list[str]:
        """The images' names without their extensions, in order."""
        return [stem_of(item.name) for item in self._items]

    def __len__(self) -> int:
        """See Images."""
        return len(self._items)

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        items = [self._items[number] for number in index.tolist()]
        images = self._decoder.batch(len(items))
        list(self._pool.map(self._read, items, images))
        return torch.from_numpy(images), torch.tensor([item.label for item in items])

    def _first_size(self) -> tuple[int, int]:
        """Return height and width of the first image that can be read, upright."""
        for item in self._items:
            try:
                return measure(self._content(item))
            except (Rejected, OSError):
                continue
        raise EvaluationError(f"{self.name}: none of its {len(self._items)} images can be read")

    def _read(self, item: Item, out: Pixels) -> None:
        try:
            content = self._content(item)
            if not isinstance(content, bytes) or not self._read_quickly(content, out):
                out[...] = self._protocol.apply(content)
                self._note_what_was_odd(item, content)
        except (Rejected, OSError) as error:
            self.faults.append(f"{item.name} ({self._why(error)})")
            out[:] = 0

    def _read_quickly(self, content: bytes, out: Pixels) -> bool:
        """Decode what is RGB and upright already; False for anything else, and what is damaged."""
        if not is_upright(content):
            return False
        try:
            self._decoder.decode(memoryview(content), out)
        except ValueError:
            return False
        return True

    def _note_what_was_odd(self, item: Item, content: bytes | Pixels) -> None:
        largest = largest_of_16_bits(content)
        if largest is not None and largest < TWELVE_BITS:
            self.dark.append(item.name)
        if isinstance(content, bytes):
            with open_picture(content) as picture:
                grey = picture.mode in _GREY
        else:
            grey = len(content) < 3
        if grey:
            self.grey.append(item.name)

    def _why(self, error: Exception) -> str:
        if isinstance(error, Rejected) and error.reason == "size":
            found, _, _ = error.detail.partition(",")
            height, width = self._decoder.shape[1:]
            return f"is {found}, the first image is {height}x{width}"
        return error.detail if isinstance(error, Rejected) else str(error)

    def _content(self, item: Item) -> bytes | Pixels:
        return self._source.read(item.where)
