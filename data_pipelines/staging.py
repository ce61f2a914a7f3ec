"""Copy a dataset to this node's own disk before it is read.

The copy lies under the SHA-256 of its manifest, in the folder that `$BIGTRAIN_STAGED` names, and readers take it
instead of the original. So the config, and with it the run, is the same wherever the images are read.
"""

import fcntl
import os
import shutil
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write, sha256_of
from data_pipelines.manifest import FILE_NAME, Manifest
from data_pipelines.remote import is_remote
from data_pipelines.secrets import print_line

STAGED = "BIGTRAIN_STAGED"
"""The variable that names the folder of copies."""


def stage(folder: Path, disk: Path) -> Path:
    """Copy a dataset, unless that was done; processes of one node may ask for it at once, and one of them does it.

    Args:
        folder: of the dataset.
        disk: folder on the node's disk.

    Returns:
        The folder of the copy. Shards that the manifest names by absolute paths or URLs stay where they are.

    Raises:
        DataError: there is no such dataset, or no room for it.
    """
    manifest = Manifest.load(folder)
    copy = disk / sha256_of(folder / FILE_NAME)
    try:
        copy.mkdir(parents=True, exist_ok=True)
        with (copy / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (copy / FILE_NAME).is_file():
                return copy
            shards = [shard.url for shard in manifest.shards if not (shard.url.startswith("/") or is_remote(shard.url))]
            names = [
                name for name in (*(shard.index for shard in manifest.shards), *shards) if _differs(name, folder, copy)
            ]
            needed = sum((folder / name).stat().st_size for name in names)
            if needed > (free := shutil.disk_usage(copy).free):
                raise DataError(f"{disk}: {free:,} bytes are free, but {folder} needs {needed:,}")
            for name in [*names, *manifest.files]:  # the manifest is last: with it, all is there
                _copy(folder / name, copy / name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be copied to {disk}: {error}") from None
    return copy


def stage_or_say_why_not(place: str, disk: str) -> None:
    """Stage a dataset for this process and its children; where that fails, say so, and let them read the original."""
    if is_remote(place):
        print_line(f"{place} is downloaded into data.cache.folder while it is read; nothing is staged")
        return
    try:
        stage(Path(place), Path(disk))
    except DataError as error:
        print_line(f"{error}; reading {place} instead")
    else:
        os.environ[STAGED] = disk


def staged_copy(folder: Path) -> Path:
    """Return the copy of a dataset on this node's disk, or the folder itself where there is none."""
    disk = os.environ.get(STAGED)
    if disk and (folder / FILE_NAME).is_file():
        copy = Path(disk) / sha256_of(folder / FILE_NAME)
        if (copy / FILE_NAME).is_file():
            return copy
    return folder


def _differs(name: str, folder: Path, copy: Path) -> bool:
    mine = copy / name
    return not mine.is_file() or mine.stat().st_size != (folder / name).stat().st_size


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as original, atomic_write(target) as file:
        shutil.copyfileobj(original, file, 2**22)
