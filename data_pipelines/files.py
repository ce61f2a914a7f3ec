"""Write files so that a crash leaves either the old content or the new, never a part; hash them."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_PIECE = 1 << 24
"""Bytes read at once: Python takes the memory for all that is asked for, before it knows how much there is."""


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
        raise ValueError(f"{name!r} points outside of {folder}")
    return path


def confined_tree(folder: Path, name: str) -> Path:
    """Return the path of a file or folder as `confined` does, with all that is in it.

    Raises:
        ValueError: it, or a link inside of it, leads out of `folder`.
    """
    path = confined(folder, name)
    for inside in path.rglob("*") if path.is_dir() else ():
        if inside.is_symlink():
            confined(folder, str(inside.relative_to(folder)))
    return path


def parse_json(content: bytes | str) -> Any:
    """Parse JSON that may come from a stranger.

    Raises:
        ValueError: it is not JSON, or nested so deeply that Python's parser gives up.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Read all of a file that may be an archive's or a compressed one's, and hold much more than it takes on disk.

    Raises:
        ValueError: there are more bytes than `limit`.
    """
    pieces, size = [], 0
    while piece := file.read(min(_PIECE, limit + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise ValueError(f"more than {limit} bytes")
    return b"".join(pieces)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_home() -> None:
    """Set `$HOME` where nothing tells the user's home folder, for libraries that do not work without one.

    The folder among temporary files is used only if it is the user's alone: a home may hold code.
    """
    try:
        Path.home()
    except RuntimeError:
        home = in_home("~")
        home.mkdir(mode=0o700, exist_ok=True)
        status = home.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            home = Path(tempfile.mkdtemp(prefix="bigtrain-"))
        os.environ["HOME"] = str(home)


def in_home(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder; by a folder of the user's among temporary files without one.

    A container may know neither $HOME nor a user of the process's number.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"bigtrain-{os.getuid()}", str(path).removeprefix("~").lstrip("/"))
