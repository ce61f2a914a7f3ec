"""What `bigtrain data prepare SOURCE DEST` understands by SOURCE: one file a kind, one line here each."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.prepare import cifar, drums, earth, emoji, fashion_mnist, named, photos, syllables, values
from data_pipelines.prepare.cifar import from_cifar
from data_pipelines.prepare.clip_form import ClipForm
from data_pipelines.prepare.clips import ClipReader, from_frames, from_videos
from data_pipelines.prepare.files import from_files, images_of
from data_pipelines.prepare.hdf5 import from_hdf5
from data_pipelines.prepare.huggingface import from_huggingface
from data_pipelines.prepare.idx import from_idx
from data_pipelines.prepare.layout import ALL
from data_pipelines.prepare.lmdb import from_lmdb
from data_pipelines.prepare.look import look
from data_pipelines.prepare.mesh_form import MeshForm
from data_pipelines.prepare.meshes import MeshReader, from_meshes
from data_pipelines.prepare.names import part_named
from data_pipelines.prepare.pairs import from_halves, from_two_folders, turned
from data_pipelines.prepare.parquet import from_parquet
from data_pipelines.prepare.pixels import from_pixels
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.prepare.sounds import SoundReader, from_sounds
from data_pipelines.prepare.table import from_table
from data_pipelines.prepare.tars import from_imagenet, from_webdataset
from data_pipelines.prepare.urls import OnFetched, from_urls
from data_pipelines.remote import is_remote
from data_pipelines.source import Source

USUAL_PARTS = (ALL, "train", "test")


def _of_path(make: Callable[[Path], Source]) -> Callable[[Place], Source]:
    """Return a function from a place to the source that another makes of its path; it has no parts."""

    def source(place: Place) -> Source:
        place.without_splits()
        return make(place.path)

    return source


def _of_parts(make: Callable[[Path, str], Source]) -> Callable[[Place], Source]:
    """Return a function from a place to the source that another makes of its path and one of the usual parts."""
    return lambda place: make(place.path, _usual_part(str(place.path), place.split))


def _usual_part(name: str, split: str) -> str:
    if split not in USUAL_PARTS:
        raise DataError(f"{name}: has no split '{split}'; choose one of {', '.join(USUAL_PARTS)}")
    return split


KINDS: dict[str, Callable[[Place], Source]] = {
    "folder": from_files,
    "zip": from_files,
    "table": from_table,
    "webdataset": from_webdataset,
    "parquet": from_parquet,
    "pixels": from_pixels,
    "hdf5": from_hdf5,
    "lmdb": from_lmdb,
    "huggingface": from_huggingface,
    "idx": _of_parts(from_idx),
    "cifar": _of_parts(from_cifar),
    "imagenet": from_imagenet,
    "ffhq": _of_path(named.ffhq),
    "celeba": _of_path(named.celeba),
    "side-by-side": _of_path(from_halves),
    "arrays": values.from_arrays,
    "sounds": from_sounds,
    "videos": from_videos,
    "frames": from_frames,
    "meshes": from_meshes,
}
"""Kind -> a function from a place to the source."""

_OF_CHOSEN_LABELS = (
    "folder",
    "zip",
    "table",
    "webdataset",
    "parquet",
    "pixels",
    "hdf5",
    "huggingface",
    "sounds",
    "meshes",
)
"""Kinds whose labels may be in several columns, arrays or keys."""

NAMED_SOURCES: dict[str, Callable[[str], Source]] = {
    "fashion-mnist": fashion_mnist.full,
    "fashion-mnist-10k": fashion_mnist.embedded,
    "cifar10": lambda split: cifar.fetched(cifar.CIFAR10, split),
    "cifar100": lambda split: cifar.fetched(cifar.CIFAR100, split),
    "earth": earth.relief,
    "emoji-lines": emoji.lines,
    "emoji-2d": emoji.flat,
    "emoji-3d": emoji.solid,
    "photos": photos.photos,
    "openclipart": lambda split: _of_path(named.openclipart)(Place(named.OPENCLIPART, split)),
}
"""Name -> a function from the split to the source; what is not on this machine is fetched, and checked."""

NAMED_SOUNDS: dict[str, Callable[[str, SoundForm], Source]] = {"drums": drums.drums, "syllables": syllables.syllables}
"""The same of sounds, which are brought to a form."""

TO_FETCH = {
    "imagenet": "ILSVRC2012_img_train.tar from image-net.org",
    "ffhq": "the folder images1024x1024 or thumbnails128x128 from github.com/NVlabs/ffhq-dataset",
    "celeba": "img_align_celeba.zip from mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
}
"""Named sets that their owners hand out only to people: what to fetch."""


PAIRS = "pairs"
"""Kind of two folders with images of equal names: `pairs:INPUTS,TARGETS`."""

DIRECTIONS = ("AtoB", "BtoA")


def open_source(
    text: str,
    *,
    kind: str | None = None,
    split: str = ALL,
    direction: str = "AtoB",
    label: str | None = None,
    encoding: str | None = None,
    scratch: Path | None = None,
    sounds: SoundForm | None = None,
    clips: ClipForm | None = None,
    meshes: MeshForm | None = None,
    on_fetched: OnFetched | None = None,
) -> Source:
    """Return the source that a user means.

    Args:
        text: a name, a path, KIND:PATH, pairs:INPUTS,TARGETS, or the URLs of tars.
        kind: of the path; default: what its content looks like.
        split: `all`, or a part that the source has, such as `train`, `val` or `test`.
        direction: of pairs; `BtoA` makes inputs of the targets.
        label: the column, array or key of the labels; `none`: no classes are wanted; None: the usual ones.
        encoding: of tables, and of names in archives, that are not UTF-8.
        scratch: folder for compressed content that must be laid out to be read in any order; None: the system's.
        sounds: the form that sounds are brought to; None: as most of them are.
        clips: the form that videos are brought to; None: as most of them are.
        meshes: what is made of meshes, which need one.
        on_fetched: told how many tars of how many have been fetched, where they lie elsewhere.

    Raises:
        DataError: no such source, or one that is not understood.
    """
    if direction not in DIRECTIONS:
        raise DataError(f"unknown direction '{direction}': choose one of {', '.join(DIRECTIONS)}")
    asked = Place(
        Path(), split, label, encoding, scratch, sounds or SoundForm(), clips or ClipForm(), meshes or MeshForm()
    )
    source = _open(text, kind, asked, on_fetched)
    if label == NO_LABELS and source.classes:
        source = replace(source, items=[item._replace(label=-1) for item in source.items], classes=())  # of named sets
    _check_forms(text, source, asked)
    return turned(source) if direction == "BtoA" else source


def _check_forms(text: str, source: Source, asked: Place) -> None:
    """See that nothing is asked for that the samples do not have."""
    sounds, clips = asked.sounds, asked.clips
    if not asked.meshes.is_usual and not isinstance(source.reader, MeshReader):
        raise DataError(f"{text}: --voxels, --points, --views, --yaw and --pitch are for meshes")
    of_clips = clips.frames is not None or clips.stride != 1
    if isinstance(source.reader, SoundReader):
        if of_clips:
            raise DataError(f"{text}: --frames and --stride are for videos; --seconds is the length of sounds")
    elif isinstance(source.reader, ClipReader):
        if sounds.seconds is not None:
            raise DataError(f"{text}: --seconds is for sounds; --frames is the length of clips")
    elif of_clips:
        raise DataError(f"{text}: --frames and --stride are for videos and folders of frames (videos:, frames:)")
    elif not sounds.is_usual or clips.rate is not None or clips.cut != "first":
        raise DataError(f"{text}: --rate, --seconds and --cut are for sound files in a folder or a zip")


def open_images(path: Path) -> Source:
    """Return all images at a path, for those who do not need their classes, such as scores.

    Of a folder, a zip, tars, Parquet files with images in them, or an `.npy` or `.npz` of images. Classes are there
    where they are clear; nothing is refused because they are not.

    Raises:
        DataError: no such path, or no images there.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    place = Place(path)
    if path.is_dir() and place.listing.images():
        return images_of(place)
    try:
        kind = look(place)
    except DataError:
        if path.is_file():
            raise
        return images_of(place)  # says what is there instead
    if kind == "zip":
        return images_of(place)
    try:
        source = KINDS[kind](place)
    except DataError:
        place.label = NO_LABELS
        source = KINDS[kind](place)
    if not source.images:
        raise DataError(f"{path}: no images in it")
    return source


def _open(text: str, kind: str | None, asked: Place, on_fetched: OnFetched | None) -> Source:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in (PAIRS, *KINDS):
        kind, text = prefix, rest
    if kind == PAIRS:
        if asked.split != ALL:
            raise DataError(f"{text}: has no split '{asked.split}' of its own; hold samples out with --test")
        _check_label(text, PAIRS, asked)
        return from_two_folders(text)
    if kind is None and (text in NAMED_SOURCES or text in NAMED_SOUNDS):
        _check_label(text, text, asked)
    if kind is None and text in NAMED_SOURCES:
        return NAMED_SOURCES[text](_usual_part(text, asked.split))
    if kind is None and text in NAMED_SOUNDS:
        return NAMED_SOUNDS[text](_usual_part(text, asked.split), asked.sounds)
    if kind is not None and kind not in KINDS:
        raise DataError(f"unknown kind '{kind}'{_nearest(kind, KINDS)}; there are {', '.join([*KINDS, PAIRS])}")
    if is_remote(text):
        if kind not in (None, "webdataset"):
            raise DataError(f"{text}: only tars are downloaded; download it yourself, and prepare {kind}:PATH")
        return from_urls(text, asked, on_fetched)
    path = Path(text).expanduser()
    if not path.exists():
        if text in TO_FETCH:
            raise DataError(
                f"{text}: cannot be downloaded automatically; download {TO_FETCH[text]} and give {text}:PATH"
            )
        known = [*NAMED_SOURCES, *NAMED_SOUNDS, *TO_FETCH]
        raise DataError(
            f"unknown dataset '{text}'{_nearest(text, known)}: it is neither a path nor the name of a dataset"
        )
    place = replace(asked, path=path)
    kind = kind or look(place)
    if kind != "huggingface":
        place.split = part_named(place.split) or place.split
    if kind not in _OF_CHOSEN_LABELS:
        _check_label(text, kind, asked)
    return KINDS[kind](place)


def _check_label(text: str, kind: str, asked: Place) -> None:
    """See that no labels are chosen where there is no choice."""
    if asked.label not in (None, NO_LABELS):
        raise DataError(
            f"{text}: --label {asked.label}: '{kind}' has no choice of labels; --label none leaves them out"
        )


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
