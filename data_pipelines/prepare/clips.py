"""Videos, and frames of videos in folders, as clips of one length, size and rate.

A video is read, its frames are chosen by the rate and the stride that are asked for, cut, and brought to a size. Where
nothing is asked for, videos that are not like most are rejected.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.fields.kind import LARGEST_VALUE
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.video import about_video, read_frames
from data_pipelines.prepare.clip_form import ClipForm
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.layout import Layout, layout_of
from data_pipelines.prepare.listing import Listing, list_folder
from data_pipelines.prepare.names import is_image, suffix_of
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.source import Excerpt, FileReader, Item, Source

VIDEO = "video"
"""Name of the field."""

SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".gif")
"""Extensions of files that are taken for videos."""

_PROBES = 64
_SAME_RATE = 0.01


@dataclass(frozen=True)
class About:
    """What there is to know of a video before its frames are read; the rate is None where it has none."""

    frames: int
    height: int
    width: int
    rate: float | None


class Footage(Protocol):
    """Where videos come from; found by their name."""

    def about(self, name: str) -> About:
        """Describe a video.

        Raises:
            Rejected: it cannot be read.
        """

    def frames(self, name: str, chosen: Sequence[int], channels: int) -> Iterator[bytes | Pixels]:
        """Yield some of its frames, ascending: files, or pixels [C, H, W].

        Raises:
            Rejected: it cannot be read.
        """


@dataclass(frozen=True)
class VideoFiles:
    """Files of videos below a folder."""

    folder: Path

    def about(self, name: str) -> About:
        """See Footage."""
        try:
            return About(*about_video(FileReader(self.folder).read(name)))
        except ValueError as error:
            raise Rejected("unreadable", str(error)) from None

    def frames(self, name: str, chosen: Sequence[int], channels: int) -> Iterator[bytes | Pixels]:
        """See Footage."""
        try:
            yield from read_frames(FileReader(self.folder).read(name), channels, chosen)
        except ValueError as error:
            raise Rejected("unreadable", str(error)) from None


@dataclass(frozen=True)
class FrameFolders:
    """Folders of images, which are the frames of a video in the order of their names."""

    folder: Path

    def about(self, name: str) -> About:
        """See Footage."""
        names = self._names(name)
        return About(len(names), *measure(FileReader(self.folder / name).read(names[0])), None)

    def frames(self, name: str, chosen: Sequence[int], channels: int) -> Iterator[bytes | Pixels]:
        """See Footage."""
        reader, names = FileReader(self.folder / name), self._names(name)
        for number in chosen:
            yield reader.read(names[number])

    def _names(self, name: str) -> list[str]:
        return sorted(file.name for file in (self.folder / name).iterdir() if is_image(file.name))


@dataclass(frozen=True)
class ClipReader:
    """Clips as arrays of one form.

    Attributes:
        footage: where they are cut from.
        spec: of the clips.
        form: what was asked for.
        protocol: of each frame.
        rate: frames a second that most videos have; None where they have none.
    """

    footage: Footage
    spec: FieldSpec
    form: ClipForm
    protocol: ImageProtocol
    rate: float | None

    def read(self, where: Excerpt) -> NDArray[np.uint8]:
        """Return a clip, shape [T, C, H, W]."""
        name, length = str(where.where), self.spec.shape[0]
        about = self.footage.about(name)
        self._check(about)
        chosen = self.form.chosen(about.frames, about.rate, length, where.number)
        if len(chosen) < length:
            there = self.form.length_of(about.frames, about.rate)
            raise Rejected("short", f"{there} frames{self._chosen_words}, expected {length} or more")
        frames = [self.protocol.apply(frame) for frame in self.footage.frames(name, chosen, self.spec.shape[1])]
        if len(frames) < length:
            raise Rejected("damaged", f"ends after {len(frames)} of the {length} frames that its header promises")
        return np.stack(frames)

    def _check(self, about: About) -> None:
        """Reject a video of another rate."""
        if self.form.rate is None:
            if not _alike(about.rate, self.rate):
                found, most = (f"{rate:g}" if rate else "none" for rate in (about.rate, self.rate))
                raise Rejected(
                    "rate", f"{found} frames per second, expected {most} as most videos have; --rate selects frames"
                )
        elif about.rate is None or about.rate < 0.999 * self.form.rate:
            found = f"{about.rate:g}" if about.rate else "no"
            raise Rejected("rate", f"{found} frames per second, expected {self.form.rate} or more")

    @property
    def _chosen_words(self) -> str:
        rate = f" at {self.form.rate} per second" if self.form.rate else ""
        return rate + (f", one of {self.form.stride}" if self.form.stride > 1 else "")


def from_videos(place: Place) -> Source:
    """Return the clips of the files of videos below a folder, with their classes; the field is `video`.

    Raises:
        DataError: no videos, none of them can be read, or the form makes no sense.
    """
    path, listing = place.path, _listing(place)
    names = [name for name in listing.files if suffix_of(name) in SUFFIXES]
    if not names:
        raise DataError(f"{path}: no files of kind video in it ({', '.join(SUFFIXES)})")
    layout = layout_of(names, str(path), folders=listing.folders, labelled=place.label != NO_LABELS)
    places = {name: str(listing.files[name].where) for name in names}
    return _source(place, VideoFiles(path), places, layout, names)


def from_frames(place: Place) -> Source:
    """Return the clips below a folder: each folder with images in it is a video; the folder above may be its class.

    Raises:
        DataError: no images, none of those that are looked at can be read, or the form makes no sense.
    """
    path, listing = place.path, _listing(place)
    images = listing.images()
    videos = dict.fromkeys(str(PurePosixPath(str(listing.files[name].where)).parent) for name in images)
    if not videos or "." in videos:
        raise DataError(f"{path}: expected one folder per clip, with its frames as images")
    if place.clips.rate is not None:
        raise DataError(
            f"{path}: --rate {place.clips.rate}: folders of frames have no rate; --stride leaves out frames"
        )
    layout = layout_of(list(videos), str(path), labelled=place.label != NO_LABELS)
    return _source(place, FrameFolders(path), {name: name for name in videos}, layout, images)


def _listing(place: Place) -> Listing:
    place.without_splits()
    place.clips.check()
    if not place.path.is_dir():
        raise DataError(f"{place.path}: expected a folder")
    return list_folder(place.path)


def _source(place: Place, footage: Footage, places: dict[str, str], layout: Layout, used: Sequence[str]) -> Source:
    form, listing = place.clips, list_folder(place.path)
    found = _looked_at(place.path, footage, list(places.values()))
    rate = Counter(one.rate for one in found).most_common(1)[0][0]
    lengths = [form.length_of(one.frames, one.rate) for one in found if form.rate or _alike(one.rate, rate)]
    (height, width), _ = Counter((one.height, one.width) for one in found).most_common(1)[0]
    protocol = form.protocol(height, width)
    shape = (form.frames or min(lengths), protocol.channels, protocol.height, protocol.width)
    if np.prod(shape, dtype=np.int64) > LARGEST_VALUE:
        raise DataError(f"{place.path}: clips of {shape[0]} frames are too large for a sample: --frames cuts them")
    kept = form.rate or rate
    spec = FieldSpec(VIDEO, shape, "uint8", rate=kept / form.stride if kept else None, codec="npy")
    items = []
    for name, where in places.items():
        for number in range(_windows(footage, where, form, shape[0])):
            called = f"{name}[{number}]" if form.cut == "windows" else name
            items.append(Item(called, Excerpt(where, number), layout.labels.get(name, -1)))
    return Source(
        name=place.path.name,
        items=items,
        reader=ClipReader(footage, spec, form, protocol, rate),
        classes=layout.classes,
        licence="not stated",
        origin=str(place.path),
        images=(),
        fields={VIDEO: spec},
        words=form.words(spec, protocol),
        stamp=f"{stamp_of(listing.stats)} {form}",
        left_aside=listing.others(used),
        notes=layout.notes,
    )


def _alike(rate: float | None, other: float | None) -> bool:
    """Tell whether two rates are the same but for what containers make of them (30 and 29.97); None is no rate."""
    if rate is None or other is None:
        return rate == other
    return abs(rate - other) <= _SAME_RATE * other


def _looked_at(path: Path, footage: Footage, places: Sequence[str]) -> list[About]:
    """Describe some of the videos."""
    found, problem = [], "none is there"
    for where in places[:: max(1, len(places) // _PROBES)]:
        try:
            found.append(footage.about(where))
        except Rejected as answer:
            problem = f"{where}: {answer.detail}"
    if not found:
        raise DataError(f"{path}: none of its videos can be read; the last, {problem}")
    return found


def _windows(footage: Footage, where: str, form: ClipForm, length: int) -> int:
    """Return how many clips are cut from a video; 1 where it is too short or cannot be read: that one is rejected."""
    if form.cut != "windows":
        return 1
    with contextlib.suppress(Rejected):
        about = footage.about(where)
        return max(1, form.length_of(about.frames, about.rate) // length)
    return 1
