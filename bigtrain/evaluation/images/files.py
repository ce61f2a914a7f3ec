"""Image files in a folder or a zip, all of one size, as other tools read them: RGB, not resized, not turned."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigtrain.evaluation.errors import EvaluationError
from data_pipelines.codec import Pixels
from data_pipelines.decode import Decoder
from data_pipelines.errors import DataError
from data_pipelines.pictures import ImageFileError, open_picture
from data_pipelines.prepare.files import from_folder, from_zip
from data_pipelines.protocol import Rejected
from data_pipelines.source import Item

_GREY = frozenset({"1", "L", "I;16", "I", "F"})


class FileImages:
    """Images below a folder, or in a zip, in the order of their names; see Images.

    Args:
        path: of the folder or zip.
        threads: that decode at once.

    Attributes:
        faults: images that could not be read, and why; black ones stand in for them.
        grey: names of images without colour that this rank has met; they become RGB.

    Raises:
        EvaluationError: there are no images.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            source = from_folder(path) if path.is_dir() else from_zip(path)
        except DataError as error:
            raise EvaluationError(str(error)) from None
        self.name, self.digest = str(path), f"files {source.stamp}"
        self._items, self._reader = list(source.items), source.reader
        self.faults: list[str] = []
        self.grey: list[str] = []
        height, width = self._first_size()
        self._decoder = Decoder((3, height, width))
        self._pool = ThreadPoolExecutor(threads or os.cpu_count())

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
        """Return height and width of the first image that can be read."""
        for item in self._items:
            try:
                with open_picture(self._content(item)) as picture:
                    return picture.height, picture.width
            except (Rejected, ImageFileError, OSError):
                continue
        raise EvaluationError(f"{self.name}: none of its {len(self._items)} images can be read")

    def _read(self, item: Item, out: Pixels) -> None:
        try:
            content = self._content(item)
            try:
                self._decoder.decode(memoryview(content), out)
            except ValueError:  # unreadable, or of another mode or size: Pillow tells which
                self._convert(item, content, out)
        except (Rejected, ImageFileError, OSError) as error:
            self.faults.append(f"{item.name} ({error})")
            out[:] = 0

    def _content(self, item: Item) -> bytes:
        content = self._reader.read(item.where)
        assert isinstance(content, bytes)
        return content

    def _convert(self, item: Item, content: bytes, out: Pixels) -> None:
        """Decode an image of another mode; transparency lies on white, as everywhere in bigtrain."""
        with open_picture(content) as picture:
            size = (picture.height, picture.width)
            if size != self._decoder.shape[1:]:
                height, width = self._decoder.shape[1:]
                raise ImageFileError("size", f"is {size[0]}x{size[1]}, the first image is {height}x{width}")
            if picture.mode in _GREY:
                self.grey.append(item.name)
            opaque: Image.Image = picture
            if "A" in picture.mode or "transparency" in picture.info:
                rgba = picture.convert("RGBA")
                opaque = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            out[...] = np.asarray(opaque.convert("RGB")).transpose(2, 0, 1)
