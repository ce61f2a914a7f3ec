"""The folder of checkpoints: which are there, which are whole, and how one comes and goes.

A checkpoint is written as `NAME.partial`, flushed to disk, described with the SHA-256 of every file, and renamed;
`latest`, a file with the newest one's name, moves last. What is interrupted leaves the ones before untouched.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bigtrain.checkpoint.contents import DESCRIPTION, files_of
from bigtrain.checkpoint.retention import CheckpointConfig, Entry, surplus
from bigtrain.core.state import Progress
from data_pipelines.files import atomic_write, sha256_of, sync_folder, write_json

FORMAT = "bigtrain-checkpoint/2"
LATEST = "latest"

Description = dict[str, Any]


class CheckpointFolder:
    """A run's checkpoints on disk; one process may change them.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def name(self, progress: Progress) -> Path:
        """Return the folder of a checkpoint of this place in the run."""
        return self.path / f"kimg{progress.kimg:010.3f}"

    def begin(self, path: Path) -> Path:
        """Make the folder to write a checkpoint into."""
        partial = path.with_name(f"{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o755)
        return partial

    def commit(self, path: Path, description: Description) -> None:
        """Make what was written into `begin`'s folder the newest checkpoint."""
        partial, replaced = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.replaced")
        write_json(partial / DESCRIPTION, {**description, "sha256": _digest(description)})
        sync_folder(partial)
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)  # there is a whole one at any moment: `recover` puts it back
        partial.rename(path)
        sync_folder(self.path)
        shutil.rmtree(replaced, ignore_errors=True)
        with atomic_write(self.path / LATEST) as file:
            file.write(f"{path.name}\n".encode())

    def recover(self) -> None:
        """Bring order to what an interruption left."""
        for replaced in self.path.glob("*.replaced"):
            path = replaced.with_suffix("")
            if path.exists():
                shutil.rmtree(replaced)
            else:
                replaced.rename(path)
        for partial in self.path.glob("*.partial"):
            shutil.rmtree(partial, ignore_errors=True)

    def newest_first(self) -> list[Path]:
        """Return all checkpoints, whole or not."""
        return sorted(self.path.glob("kimg*[0-9]"), reverse=True)

    def prune(self, config: CheckpointConfig) -> None:
        """Remove what is not to be kept, and damaged ones, now that there is a newer whole one."""
        entries = [entry for path in self.newest_first() if (entry := _entry(path))]
        for entry in surplus(entries, config):
            remove(entry.path)
        for damaged in self.path.glob("*.damaged"):
            shutil.rmtree(damaged, ignore_errors=True)

    def set_aside(self, path: Path, why: str) -> None:
        """Rename a checkpoint, so that it is none any more."""
        aside = path.with_name(f"{path.name}.{why}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


def remove(path: Path) -> None:
    """Remove a checkpoint: what remains of it after an interruption is none any more."""
    doomed = path.with_name(f"{path.name}.partial")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def hashes_of(files: list[Path]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files, by their names."""
    with ThreadPoolExecutor(4) as threads:
        hashes = list(threads.map(sha256_of, files))
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256} for path, sha256 in zip(files, hashes, strict=True)
    }


def listed_files(path: Path) -> dict[str, Any] | None:
    """Return size and SHA-256 of a checkpoint's files, as it says itself; None if it says nothing, or not of all."""
    description = read_description(path)
    if description is None or sorted(description["files"]) != [file.name for file in files_of(path)]:
        return None  # the reader takes all that are there, listed or not
    return {name: {key: about[key] for key in ("bytes", "sha256")} for name, about in description["files"].items()}


def are_whole(path: Path, files: Mapping[str, Any]) -> bool:
    """Tell whether some of a checkpoint's files are, byte for byte, what was written."""
    try:
        return hashes_of([path / name for name in files]) == files
    except OSError:
        return False


def read_description(path: Path) -> Description | None:
    """Return what a checkpoint says of itself; None if that is missing or damaged."""
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        digest = description.pop("sha256")
        whole = description["format"] == FORMAT and digest == _digest(description)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return description if whole else None


def newest_description(folder: Path) -> Description:
    """Return what the newest checkpoint in a folder says of itself; empty if there is none."""
    found = (read_description(path) for path in CheckpointFolder(folder).newest_first())
    return next((description for description in found if description), {})


def is_whole(path: Path) -> bool:
    """Tell whether every byte of a checkpoint is what was written."""
    files = listed_files(path)
    return files is not None and are_whole(path, files)


def _entry(path: Path) -> Entry | None:
    about = read_description(path)
    if about is None:
        return None
    size = sum(file["bytes"] for file in about["files"].values())
    return Entry(path, about["samples_seen"], about["healthy"], about["best"], size)


def _digest(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
