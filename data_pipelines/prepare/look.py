"""Which kind of source a path is, by its content."""

import re
import tarfile
from collections.abc import Collection
from pathlib import Path

from data_pipelines.content import LFS_POINTER, archive_format, image_format
from data_pipelines.errors import DataError
from data_pipelines.prepare import cifar, clips, lmdb, meshes, sounds, values
from data_pipelines.prepare.described import LABELS_FILE, METADATA
from data_pipelines.prepare.names import first_of, is_image, stem_of, suffix_of
from data_pipelines.prepare.parquet import holds_files
from data_pipelines.prepare.pixels import holds_images
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.rows import SUFFIXES
from data_pipelines.prepare.tar_members import is_tar_name
from data_pipelines.prepare.tars import IMAGENET

_SYNSET_TAR = re.compile(r"n[0-9]{8}\.tar")
_UNREAD = {"rar": "unrar x", "7z": "7z x"}
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_BY_SUFFIX = {
    "arrays": values.ARRAYS,
    "sounds": sounds.SUFFIXES,
    "videos": clips.SUFFIXES,
    "meshes": meshes.SUFFIXES,
}
"""Kinds of samples -> extensions of their files."""
_WAYS_ON = "give its kind, KIND:PATH; docs/how-to/data.md lists the kinds"


def look(place: Place) -> str:
    """Tell the kind of a path by its content.

    Raises:
        DataError: it cannot be told; the message says what is there.
    """
    kind = _look_at_file(place.path) if place.path.is_file() else _look_into(place)
    if kind != "zip" or place.listing.images():
        return kind
    if sounds.names_of(place):
        return "sounds"
    return "meshes" if meshes.names_of(place) else kind


def _look_at_file(path: Path) -> str:
    suffix = suffix_of(path.name)
    try:
        with path.open("rb") as file:
            head = file.read(tarfile.BLOCKSIZE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path}: is a pointer of Git LFS, not the file itself; git lfs pull fetches it")
    if path.name == IMAGENET:
        return "imagenet"
    if path.name in (name for url in cifar.ARCHIVES for name in (url, url.replace("-binary", "-python"))):
        return "cifar"
    if suffix in _WORKBOOKS:
        raise DataError(
            f"{path}: is a workbook, which is not supported; save its sheet as CSV, UTF-8, and prepare that"
        )
    found = archive_format(head)
    if suffix == ".npz":
        return "pixels"
    if found == "npy" or suffix == ".npy":
        return "pixels" if holds_images(path) else "arrays"
    if found == "parquet" or suffix == ".parquet":
        return "parquet" if holds_files(path) else "table"
    if suffix in SUFFIXES:
        return "table"
    if found == "hdf5":
        return "hdf5"
    if path.name == lmdb.DATA:
        return "lmdb"
    if found == "zip" or suffix == ".zip":
        return "zip"
    if found in ("tar", "gzip", "bzip2", "xz", "zstd", "lz4") or is_tar_name(path.name):
        return "webdataset"
    if found in _UNREAD:
        raise DataError(
            f"{path}: is a {found} archive, which is not supported; unpack it ({_UNREAD[found]}) and prepare the folder"
        )
    if image_format(head):
        raise DataError(f"{path}: is one image; a source is a folder, an archive or a table of images")
    raise DataError(f"{path}: not recognised as a source of samples; {_WAYS_ON}")


def _look_into(place: Place) -> str:
    path = place.path
    names = {entry.name for entry in path.iterdir()}
    if names & {"dataset_dict.json", "state.json"}:
        return "huggingface"
    if lmdb.DATA in names:
        return "lmdb"
    if any("-images-idx3-ubyte" in name for name in names):
        return "idx"
    pickled = "batches.meta" in names or ({"meta", "train", "test"} <= names and (path / "meta").is_file())
    if pickled or names & {cifar.CIFAR10.names, cifar.CIFAR100.names}:
        return "cifar"
    files = place.listing.files
    tars = [name for name in files if is_tar_name(name)]
    images = [name for name in files if is_image(name)]
    if IMAGENET in names or (tars and all(_SYNSET_TAR.fullmatch(name) for name in tars)):
        return "imagenet"
    if tars and images:
        raise DataError(
            f"{path}: contains tars ({first_of(tars, 1)}) and images ({first_of(images, 1)}); choose one of "
            f"webdataset:{path} and folder:{path}"
        )
    if tars:
        return "webdataset"
    shards = [name for name in files if suffix_of(name) == ".parquet" and stem_of(name).rpartition("/")[2] != METADATA]
    if shards and not images and holds_files(path / str(files[shards[0]].where)):
        return "parquet"
    if images or LABELS_FILE in files:
        return "folder"
    for kind, suffixes in _BY_SUFFIX.items():
        if any(suffix_of(file) in suffixes for file in files):
            return kind
    if place.listing.images():
        return "folder"
    raise DataError(f"{path}: not recognised as a source of samples{_what_is_there(path, files)}; {_WAYS_ON}")


def _what_is_there(path: Path, files: Collection[str]) -> str:
    """Return what is in a folder that is no source."""
    if not files:
        return ", it is empty"
    archives = [name for name in files if suffix_of(name) in (".zip", ".npz", ".rar", ".7z")]
    if archives:
        return f"; it holds {first_of(archives)}: prepare one of these, such as {path / archives[0]}"
    arrow = [name for name in files if suffix_of(name) == ".arrow"]
    if arrow:
        return (
            f"; it holds {first_of(arrow)}: datasets.load_dataset(…).save_to_disk(FOLDER) makes a folder that can be "
            f"read"
        )
    tables = [name for name in files if suffix_of(name) in SUFFIXES]
    if tables:
        return f"; it holds tables ({first_of(tables)}): prepare table:{path / tables[0]}"
    return f"; it holds {first_of(files)}"
