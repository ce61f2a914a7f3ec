"""A folder in the making: what is finished outlives a kill, and nothing half made looks whole."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import Self

from PIL import __version__ as pillow_version

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write, sync_folder, write_json
from data_pipelines.manifest import FILE_NAME, Manifest
from data_pipelines.manifest_v3 import FORMAT_3
from data_pipelines.shard import Rejection, ShardResult
from data_pipelines.shard_table import Shard

PREPARED = "prepared.json"
"""In the folder: the fingerprint of the source and the options that it is made with, and Pillow's version."""
REJECTED = "rejected.jsonl"


def is_prepared(folder: Path, fingerprint: str) -> bool:
    """Tell whether `folder` holds the whole set of this fingerprint.

    Raises:
        DataError: something else is there.
    """
    if not folder.exists():
        return False
    if (folder / FILE_NAME).is_file() and _noted(folder / PREPARED).get("fingerprint") == fingerprint:
        return True
    if (folder / FILE_NAME).is_file() and Manifest.load(folder).format == FORMAT_3:
        raise DataError(
            f"{folder}: holds a set of the earlier format {FORMAT_3}, which can be trained on as it is; remove the "
            "folder to prepare it anew"
        )
    raise DataError(
        f"{folder}: exists already, and was not made of this source with these options; remove it or choose another "
        "folder"
    )


class Preparation:
    """The folder `NAME.partial` while its shards are made; a context that holds its lock.

    Args:
        folder: the finished folder's path, which must not exist.
        fingerprint: of the source and the options; shards of another fingerprint are not mixed in.

    Raises:
        DataError: another process is at it, or it was begun with another fingerprint.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        # Another Pillow may resize and encode otherwise: a set is made by one.
        self._note = {"fingerprint": fingerprint, "pillow": pillow_version}
        self.partial = folder.with_name(f"{folder.name}.partial")
        self._records = self.partial / ".records"

    def __enter__(self) -> Self:
        """Take the lock; find or make the folder."""
        try:
            self._records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.partial}: cannot be made ({error.strerror})") from None
        self._lock = (self._records / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DataError(f"{self.partial}: another process prepares this set right now") from None
        begun = self.partial / PREPARED
        if begun.exists() and _noted(begun) != self._note:
            self._lock.close()
            raise DataError(
                f"{self.partial}: was begun with another source, other options or another Pillow, or the source has "
                "changed; repeat that command to go on, or remove the folder to begin anew"
            )
        write_json(begun, self._note)
        for left in self.partial.glob(".*.partial"):  # by a process that was killed
            left.unlink()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Give the lock back; a full disk and the like are the user's to mend.

        A refusal before any shard was made leaves nothing, so that a mended command can begin anew.
        """
        if isinstance(error, DataError) and not any(result.shard for result in self.finished().values()):
            shutil.rmtree(self.partial)
        self._lock.close()
        if isinstance(error, OSError):
            raise DataError(f"{self.partial}: stopped: {error}; run the same command again to go on") from None

    def finished(self) -> dict[int, ShardResult]:
        """Return the shards that are done, by their number."""
        results = {}
        for path in self._records.glob("*.json"):
            document = json.loads(path.read_bytes())
            shard = None if document["shard"] is None else Shard(**document["shard"])
            results[int(path.stem)] = ShardResult(shard, [Rejection(*entry) for entry in document["rejected"]])
        return results

    def record(self, number: int, result: ShardResult) -> None:
        """Note that shard `number` is done; its files are on disk already."""
        shard = None if result.shard is None else vars(result.shard)
        write_json(self._records / f"{number:06d}.json", {"shard": shard, "rejected": result.rejected})

    def finish(self, manifest: Manifest, rejected: list[Rejection]) -> None:
        """Write what is said about the whole set, and give the folder its name."""
        if rejected:
            with atomic_write(self.partial / REJECTED) as file:
                for entry in rejected:
                    file.write((json.dumps(entry._asdict()) + "\n").encode())
        manifest.save(self.partial)
        sync_folder(self.partial)
        self.partial.rename(self._folder)
        sync_folder(self._folder.parent)
        shutil.rmtree(self._folder / self._records.name)


def _noted(path: Path) -> dict[str, str]:
    """Return what was noted of how a set is made; nothing if there is no such note."""
    try:
        note = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
