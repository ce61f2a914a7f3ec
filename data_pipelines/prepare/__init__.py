"""What `bigtrain data prepare SOURCE DEST` understands by SOURCE: one file a kind, one line here each."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.prepare import cifar, emoji, fashion_mnist, named, photos, table, values
from data_pipelines.prepare.cifar import from_cifar
from data_pipelines.prepare.files import LABELS_FILE, from_folder, from_zip, is_image, walk
from data_pipelines.prepare.huggingface import from_huggingface
from data_pipelines.prepare.idx import from_idx
from data_pipelines.prepare.pairs import from_halves, from_two_folders, turned
from data_pipelines.prepare.tars import from_imagenet, from_webdataset
from data_pipelines.source import Source

SPLITS = ("all", "train", "test")


def _without_splits(make: Callable[[Path], Source]) -> Callable[[Path, str], Source]:
    def source(path: Path, split: str) -> Source:
        if split != "all":
            raise DataError(f"{path}: has no split '{split}' of its own; hold samples out with --test")
        return make(path)

    return source


KINDS: dict[str, Callable[[Path, str], Source]] = {
    "folder": _without_splits(from_folder),
    "zip": _without_splits(from_zip),
    "table": _without_splits(table.from_table),
    "webdataset": _without_splits(from_webdataset),
    "huggingface": from_huggingface,
    "idx": from_idx,
    "cifar": from_cifar,
    "imagenet": _without_splits(from_imagenet),
    "ffhq": _without_splits(named.ffhq),
    "celeba": _without_splits(named.celeba),
    "side-by-side": _without_splits(from_halves),
    "arrays": _without_splits(values.from_values("array")),
    "sounds": _without_splits(values.from_values("audio")),
    "videos": _without_splits(values.from_values("video")),
    "frames": _without_splits(values.from_frames),
}
"""Kind -> a function from path and split to the source."""

NAMED_SOURCES: dict[str, Callable[[str], Source]] = {
    "fashion-mnist": fashion_mnist.full,
    "fashion-mnist-10k": fashion_mnist.embedded,
    "cifar10": lambda split: cifar.fetched(cifar.CIFAR10, split),
    "cifar100": lambda split: cifar.fetched(cifar.CIFAR100, split),
    "emoji-lines": emoji.lines,
    "emoji-2d": emoji.flat,
    "emoji-3d": emoji.solid,
    "photos": photos.photos,
    "openclipart": lambda split: _without_splits(named.openclipart)(named.OPENCLIPART, split),
}
"""Name -> a function from the split to the source; what is not on this machine is fetched, and checked."""

TO_FETCH = {
    "imagenet": "ILSVRC2012_img_train.tar from image-net.org",
    "ffhq": "the folder images1024x1024 or thumbnails128x128 from github.com/NVlabs/ffhq-dataset",
    "celeba": "img_align_celeba.zip from mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
}
"""Named sets that their owners hand out only to people: what to fetch."""


PAIRS = "pairs"
"""Kind of two folders with images of equal names: `pairs:INPUTS,TARGETS`."""

DIRECTIONS = ("AtoB", "BtoA")


def open_source(text: str, *, kind: str | None = None, split: str = "all", direction: str = "AtoB") -> Source:
    """Return the source that a user means.

    Args:
        text: a name, a path, KIND:PATH, or pairs:INPUTS,TARGETS.
        kind: of the path; default: what its content looks like.
        split: `all`, or one that the source has.
        direction: of pairs; `BtoA` makes inputs of the targets.

    Raises:
        DataError: no such source, or one that is not understood.
    """
    if direction not in DIRECTIONS:
        raise DataError(f"unknown direction '{direction}': choose one of {', '.join(DIRECTIONS)}")
    source = _open(text, kind, split)
    return turned(source) if direction == "BtoA" else source


def _open(text: str, kind: str | None, split: str) -> Source:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in (PAIRS, *KINDS):
        kind, text = prefix, rest
    if kind == PAIRS:
        if split != "all":
            raise DataError(f"{text}: has no split '{split}' of its own; hold samples out with --test")
        return from_two_folders(text)
    if kind is None and text in NAMED_SOURCES:
        return NAMED_SOURCES[text](split)
    if kind is not None and kind not in KINDS:
        raise DataError(f"unknown kind '{kind}'{_nearest(kind, KINDS)}; there are {', '.join([*KINDS, PAIRS])}")
    path = Path(text).expanduser()
    if not path.exists():
        if text in TO_FETCH:
            raise DataError(f"{text}: cannot be fetched by a program; get {TO_FETCH[text]} and say {text}:PATH")
        known = [*NAMED_SOURCES, *TO_FETCH]
        raise DataError(f"unknown dataset '{text}'{_nearest(text, known)}: no such path, and no name of a set")
    return KINDS[kind or _look(path)](path, split)


def _look(path: Path) -> str:
    """Tell the kind of a path by its content."""
    if path.is_file():
        kinds = {".zip": "zip", ".tar": "webdataset", ".npy": "arrays", **dict.fromkeys(table.SUFFIXES, "table")}
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
    else:
        names = {entry.name for entry in path.iterdir()}
        if names & {"dataset_dict.json", "state.json"}:
            return "huggingface"
        if any("-images-idx3-ubyte" in name for name in names):
            return "idx"
        if names & {cifar.CIFAR10.names, cifar.CIFAR100.names}:
            return "cifar"
        if any(name.endswith(".tar") for name in names):
            return "webdataset"
        if LABELS_FILE in names or any(is_image(file) for file, _ in walk(path)):
            return "folder"
        for kind, name in (("arrays", "array"), ("sounds", "audio"), ("videos", "video")):
            if any(Path(file).suffix.lower() in values.SUFFIXES[name] for file, _ in walk(path)):
                return kind
    raise DataError(
        f"{path}: not understood as a source of samples; say which kind it is, KIND:PATH of {', '.join(KINDS)}"
    )


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
