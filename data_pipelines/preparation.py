"""A folder in the making: what is finished outlives a kill, and nothing half made looks whole."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import NamedTuple, Self, TextIO

from PIL import __version__ as pillow_version

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write, sync_folder, write_json
from data_pipelines.manifest import FILE_NAME, Manifest
from data_pipelines.shard import Rejection, ShardResult
from data_pipelines.shard_table import Shard

PREPARED = "prepared.json"
"""In the folder: the fingerprint of the source and the options that it is made with, and Pillow's version."""
REJECTED = "rejected.jsonl"


def partial_of(folder: Path) -> Path:
    """Return the folder in which a set is made, before it gets its name."""
    return folder.with_name(f"{folder.name}.partial")


def is_prepared(folder: Path, fingerprint: str) -> bool:
    """Tell whether `folder` holds the whole set of this fingerprint.

    Raises:
        DataError: something else is there.
    """
    if not folder.exists():
        return False
    if (folder / FILE_NAME).is_file() and _noted(folder / PREPARED).get("fingerprint") == fingerprint:
        return True
    raise DataError(
        f"{folder}: exists already, and was not made from this source with these options; remove it or choose another "
        "folder"
    )


class Part(NamedTuple):
    """A part of a set, which one of several machines makes: every shard whose number leaves `number` over, by `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read `0/8`, the first of eight, to `7/8`.

        Raises:
            DataError: it is no part.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise DataError(f"part '{text}': write 0/8 for the first of eight, 7/8 for the last")
        return cls(int(number), int(of))


class Preparation:
    """The folder `NAME.partial` while its shards are made; a context that holds its lock.

    Several machines may make a part each, beside each other; who makes the whole set is alone.

    Args:
        folder: the finished folder's path, which must not exist.
        fingerprint: of the source and the options; shards of another fingerprint are not mixed in.
        part: that is made here; None for the whole set.

    Raises:
        DataError: another process is at it, or it was begun with another fingerprint.
    """

    def __init__(self, folder: Path, fingerprint: str, part: Part | None = None) -> None:
        self._folder, self._part = folder, part
        self._locks: list[TextIO] = []
        # Another Pillow may resize and encode otherwise: a set is made by one.
        self._note = {"fingerprint": fingerprint, "pillow": pillow_version}
        self.partial = partial_of(folder)
        self._records = self.partial / ".records"

    def __enter__(self) -> Self:
        """Take the lock; find or make the folder."""
        try:
            self._records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.partial}: cannot be created ({error.strerror})") from None
        self._hold("lock", fcntl.LOCK_SH if self._part else fcntl.LOCK_EX)
        if self._part:
            self._hold(f"lock-{self._part.number}-of-{self._part.of}", fcntl.LOCK_EX)
        begun = self.partial / PREPARED
        if begun.exists() and _noted(begun) != self._note:
            self._let_go()
            raise DataError(
                f"{self.partial}: was begun with another source, other options or another version of Pillow, or the "
                f"source has changed; repeat that command to continue, or remove the folder to start again"
            )
        write_json(begun, self._note)
        if not self._part:
            for left in self.partial.glob(".*.partial"):  # by a process that was killed
                left.unlink()
        return self

    def _hold(self, name: str, how: int) -> None:
        self._locks.append((self._records / name).open("w"))
        try:
            fcntl.flock(self._locks[-1], how | fcntl.LOCK_NB)
        except OSError:
            self._let_go()
            what = (
                f"part {self._part.number}/{self._part.of} of this dataset, or all of it"
                if self._part
                else "this dataset"
            )
            raise DataError(f"{self.partial}: another process is preparing {what}") from None

    def _let_go(self) -> None:
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Give the lock back; a full disk and the like are the user's to mend.

        A refusal before any shard was made leaves nothing, so that a mended command can begin anew.
        """
        made = self._part is not None or any(result.shard for result in self.finished().values())
        if isinstance(error, DataError) and not made:
            shutil.rmtree(self.partial)
        self._let_go()
        if isinstance(error, OSError):
            raise DataError(f"{self.partial}: stopped: {error}; run the same command again to continue") from None

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
