"""Hugging Face `datasets` that lie on disk, as `save_to_disk` writes them; needs the `huggingface` extra."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.files import confined
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes, distinct_names
from data_pipelines.prepare.names import suffix_of
from data_pipelines.prepare.parquet import from_parquet
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.rows import CAPTION_COLUMNS, LABEL_COLUMNS
from data_pipelines.protocol import Rejected
from data_pipelines.source import FileReader, Item, Source
from data_pipelines.trust import is_trusted


@dataclass(frozen=True)
class RowReader:
    """Images of a dataset's rows, found by their number over all of its splits.

    Attributes:
        folder: that `save_to_disk` wrote.
        splits: in order.
        column: with the images.
    """

    folder: Path
    splits: tuple[str, ...]
    column: str

    def read(self, where: int) -> bytes | Pixels:
        """Return an image's file, or its pixels if it is kept as numbers."""
        image = self._rows[where][self.column]
        if isinstance(image, dict) and image.get("bytes") is not None:
            content: bytes = image["bytes"]
            return content
        if isinstance(image, dict) and image.get("path"):
            return FileReader(self.folder).read(self._inside(image["path"]))
        if image is None:
            raise Rejected("missing", "the row has no image")
        return _as_pixels(image)

    def _inside(self, path: str) -> str:
        """Return a path that a row names, which may be a stranger's: below the folder, unless the user trusts that."""
        try:
            return path if is_trusted(self.folder) else str(confined(self.folder, path).resolve())
        except ValueError as error:
            raise Rejected("outside", f"{error}; if you trust it: bigtrain --trusted-data {self.folder}") from None

    @cached_property
    def _rows(self) -> Any:
        import datasets

        return datasets.concatenate_datasets([part for _, part in _load(self.folder, self.splits)]).select_columns(
            [self.column]
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open tables behind."""
        return {"folder": self.folder, "splits": self.splits, "column": self.column}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open anew when first read."""
        self.__dict__.update(state)


def from_huggingface(place: Place) -> Source:
    """Return the images of a dataset on disk: what `save_to_disk` wrote, or the Parquet files of a hub's repository.

    Raises:
        DataError: `datasets` is not installed, there is no such split, or no column of images.
    """
    path, split = place.path, place.split
    if not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        if path.is_file() or any(suffix_of(name) == ".parquet" for name in place.listing.files):
            return from_parquet(place)
        raise DataError(
            f"{path}: neither what datasets' save_to_disk writes nor Parquet files; with Python, "
            f"datasets.load_dataset('{path}').save_to_disk(FOLDER) makes such a folder"
        )
    try:
        import datasets
    except ImportError:
        raise DataError(f"{path}: needs Hugging Face's datasets: pip install 'bigtrain[huggingface]'") from None
    splits = _splits(path, split)
    rows = datasets.concatenate_datasets([part for _, part in _load(path, splits)])
    features = rows.features
    column = next((name for name, feature in features.items() if isinstance(feature, datasets.Image)), None)
    column = column or ("image" if "image" in features else None)
    if column is None:
        raise DataError(f"{path}: no column of images; it has {', '.join(features)}")
    label = next((name for name in place.columns(LABEL_COLUMNS) if name in features), None)
    if label is None and place.label and place.columns(()):
        raise DataError(f"{path}: no column '{place.label}' for --label; it has {', '.join(features)}")
    named = label is not None and isinstance(features[label], datasets.ClassLabel)
    labels, classes = as_classes(list(rows[label][:]) if label else None, str(path), "row {}".format)
    caption = next((name for name in CAPTION_COLUMNS if name in features), None)
    texts = [str(text).encode() if text else b"" for text in (rows[caption][:] if caption else [None] * len(rows))]
    return Source(
        name=path.name,
        items=[
            Item(f"row {number}", number, index, {TEXT: text} if text else {})
            for number, (index, text) in enumerate(zip(labels or [-1] * len(rows), texts, strict=True))
        ],
        reader=RowReader(path, splits, column),
        classes=_named(features[label].names) if named and label and labels else classes,
        licence=rows.info.license or "not stated",
        origin=str(path),
        fields=caption_field(map(len, texts)) if caption else {},
        stamp=stamp_of(place.listing.stats),
    )


def _named(names: list[str]) -> tuple[str, ...]:
    return distinct_names(names, list(map(str, range(len(names)))))


def _splits(path: Path, split: str) -> tuple[str, ...]:
    """Return the names of the splits that are meant; one dataset without splits is called "all"."""
    if not (path / "dataset_dict.json").is_file():
        if split != "all":
            raise DataError(f"{path}: has no splits of its own")
        return ("all",)
    import json

    names: list[str] = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
    if split != "all" and split not in names:
        raise DataError(f"{path}: no split '{split}'; it has {', '.join(names)}")
    for name in names:
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            raise DataError(f"{path}: dataset_dict.json: {name!r} is not a valid name of a split")
    return tuple(names) if split == "all" else (split,)


def _load(path: Path, splits: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Load splits with images as files, not decoded."""
    import datasets

    parts = []
    for name in splits:
        part = datasets.load_from_disk(str(path if name == "all" else path / name))
        for column, feature in part.features.items():
            if isinstance(feature, datasets.Image):
                part = part.cast_column(column, datasets.Image(decode=False))
        parts.append((name, part))
    return parts


def _as_pixels(image: Any) -> Pixels:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.min() < 0 or pixels.max() > 255:
        raise Rejected("format", f"numbers of shape {pixels.shape}, expected height x width x channels in 0..255")
    return pixels.astype(np.uint8).transpose(2, 0, 1)
