"""Arrays, videos and frames of videos in folders: a field of one kind."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.layout import layout_of
from data_pipelines.prepare.listing import list_folder
from data_pipelines.prepare.names import is_image, suffix_of
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.source import FileReader, Item, Source

ARRAYS = (".npy",)
VIDEOS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".gif")
_SUFFIXES = {"array": ARRAYS, "video": VIDEOS}
"""Kind -> extensions of its files."""

_PROBES = 64


def from_values(kind: str) -> Callable[[Path], Source]:
    """Return a function from a folder to the source of its files of a kind; the field is called like the kind.

    All samples become alike: videos as long as the shortest of some that are looked at. Files that cannot be so are
    rejected. One `.npy` file instead of a folder holds a sample a row.
    """

    def source(path: Path) -> Source:
        return _rows(path) if kind == "array" and path.is_file() else _from_folder(kind, path)

    return source


@dataclass(frozen=True)
class FrameReader:
    """Clips whose frames are the images of a folder, in the order of their names.

    Attributes:
        folder: that the clips' folders lie in.
        frames: of each clip; further ones are left out.
    """

    folder: Path
    frames: int

    def read(self, where: str) -> NDArray[np.uint8]:
        """Return a clip, RGB, shape [T, 3, H, W]."""
        names = sorted(file.name for file in (self.folder / where).iterdir() if is_image(file.name))
        if len(names) < self.frames:
            raise Rejected("size", f"{len(names)} frames, expected {self.frames} or more")
        reader = FileReader(self.folder / where)
        frames = [_frame(reader.read(name)) for name in names[: self.frames]]
        if len({frame.shape for frame in frames}) > 1:
            raise Rejected("size", "frames of several sizes")
        return np.stack(frames)


def from_frames(path: Path) -> Source:
    """Return the clips below a folder: each folder with images in it is a clip, as long as the shortest one.

    Raises:
        DataError: no images in it, or none of those that are looked at can be read.
    """
    listing = list_folder(path) if path.is_dir() else None
    images = listing.images() if listing else []
    frames = (
        Counter(str(PurePosixPath(str(listing.files[name].where)).parent) for name in images) if listing else Counter()
    )
    if not frames or "." in frames:
        raise DataError(f"{path}: expected one folder per clip, with its frames as images")
    assert listing is not None
    reader, shapes = FrameReader(path, min(frames.values())), Counter[tuple[int, ...]]()
    for clip in list(frames)[:: max(1, len(frames) // _PROBES)]:
        with contextlib.suppress(Rejected):
            shapes[reader.read(clip).shape] += 1
    if not shapes:
        raise DataError(f"{path}: none of its clips can be read, or all have frames of several sizes")
    return Source(
        name=path.name,
        items=[Item(clip, clip) for clip in frames],
        reader=reader,
        classes=(),
        licence="not stated",
        origin=str(path),
        images=(),
        fields={"video": FieldSpec("video", shapes.most_common(1)[0][0], "uint8", codec="npy")},
        stamp=stamp_of(listing.stats),
        left_aside=listing.others(images),
    )


def _frame(content: bytes) -> NDArray[np.uint8]:
    """Return a frame as RGB, [3, H, W]."""
    height, width = measure(content)
    return ImageProtocol(height, width, 3, crop="exact").apply(content)


def _from_folder(kind: str, path: Path) -> Source:
    listing = list_folder(path) if path.is_dir() else None
    names = [name for name in listing.files if suffix_of(name) in _SUFFIXES[kind]] if listing else []
    if not names or listing is None:
        raise DataError(f"{path}: no files of kind {kind} in it ({', '.join(_SUFFIXES[kind])})")
    layout = layout_of(names, str(path), folders=listing.folders)
    places = [str(listing.files[name].where) for name in names]
    return Source(
        name=path.name,
        items=[Item(name, where, layout.labels.get(name, -1)) for name, where in zip(names, places, strict=True)],
        reader=FileReader(path),
        classes=layout.classes,
        licence="not stated",
        origin=str(path),
        images=(),
        fields={kind: _common(kind, path, places)},
        stamp=stamp_of(listing.stats),
        left_aside=listing.others(names),
        notes=layout.notes,
    )


def _rows(path: Path) -> Source:
    """Return the rows of one array file."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy file of numbers ({error})") from None
    if not rows.ndim or not len(rows):
        raise DataError(f"{path}: an array of shape {rows.shape} has no rows")
    spec = FieldSpec("array", rows.shape[1:], rows.dtype.name, codec="npy")
    source = from_fields(path.stem, {"array": rows}, {"array": spec}, origin=str(path))
    if rows.ndim == 4 and rows.shape[3] in (1, 3):
        kept = f"{rows.dtype.name} {list(rows.shape[1:])}: kept as arrays; images are uint8, see docs/how-to/data.md"
        source = replace(source, notes=(*source.notes, kept))
    return replace(source, stamp=stamp_of({path.name: f"{path.stat().st_size} {path.stat().st_mtime_ns}"}))


def _common(kind: str, path: Path, names: Sequence[str]) -> FieldSpec:
    """Return the spec that most of some files have, with a length that suits them all."""
    step = max(1, len(names) // _PROBES)
    specs, problem = [], ""
    for name in names[::step]:
        try:
            specs.append(find_kind(kind).probe(FileReader(path).read(name)))
        except (Rejected, ValueError) as error:
            problem = f"{name}: {error}"
    if not specs:
        raise DataError(f"{path}: none of its files of kind {kind} can be read; the last, {problem}")
    if kind == "video":
        frames = min(spec.shape[0] for spec in specs)
        specs = [replace(spec, shape=(frames, *spec.shape[1:])) for spec in specs]
    return Counter(specs).most_common(1)[0][0]
