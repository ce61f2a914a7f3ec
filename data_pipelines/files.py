"""Write files so that a crash leaves either the old content or the new, never a part; hash them."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of `path` for writing; flush it to disk and rename it over `path` on success."""
    # Processes on several machines may write into one folder, and their numbers may be the same.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder and put it in the place of `path`; a crash leaves the old one, the new one, or none."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def confined(folder: Path, name: str) -> Path:
    """Return the path of a file that a document in `folder` names, which may come from a stranger.

    Args:
        folder: where the file must lie; it may itself be reached by a link.
        name: relative to the folder, with `/` between its parts.

    Raises:
        ValueError: the name is absolute, climbs out of the folder, or a link on its way leads out of it.
    """
    path = folder / name
    if "\\" in name or "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of {folder}")
    return path


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
