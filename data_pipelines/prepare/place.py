"""Where a source lies, and what the user says about it."""

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from data_pipelines.errors import DataError
from data_pipelines.prepare.clip_form import ClipForm
from data_pipelines.prepare.layout import ALL
from data_pipelines.prepare.listing import Listing, list_files
from data_pipelines.prepare.mesh_form import MeshForm
from data_pipelines.prepare.sound_form import SoundForm

NO_LABELS = "none"


class OpenFile:
    """A file that is open as long as something refers to it.

    Args:
        file: opened.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    @property
    def path(self) -> str:
        """Path under which any process of the user opens the file while this one holds it, though it has no name."""
        return f"/proc/{os.getpid()}/fd/{self.file.fileno()}"

    def __del__(self) -> None:
        """Close it."""
        self.file.close()


@dataclass
class Place:
    """Where a source lies.

    Attributes:
        path: of a file or a folder.
        split: the part that is asked for, or `all`.
        label: the column, or the key, of the labels; `none`: they are not wanted; None: the usual ones.
        encoding: of texts and names that are not UTF-8.
        scratch: folder for what must be laid out anew to be read in any order; None: the system's.
        sounds: the form that sounds are brought to.
        clips: the form that videos are brought to.
        meshes: what is made of meshes.
    """

    path: Path
    split: str = ALL
    label: str | None = None
    encoding: str | None = None
    scratch: Path | None = field(default=None, compare=False)
    sounds: SoundForm = field(default_factory=SoundForm)
    clips: ClipForm = field(default_factory=ClipForm)
    meshes: MeshForm = field(default_factory=MeshForm)

    @cached_property
    def listing(self) -> Listing:
        """The files of the folder, or of the zip.

        Raises:
            DataError: it cannot be listed.
        """
        return list_files(self.path, encoding=self.encoding)

    def columns(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that a column, or a key, of labels may have."""
        if self.label is None:
            return usual
        return () if self.label == NO_LABELS else (self.label,)

    def without_splits(self) -> None:
        """See that no part is asked for.

        Raises:
            DataError: one is.
        """
        if self.split != ALL:
            raise DataError(f"{self.path}: has no split '{self.split}' of its own; hold samples out with --test")

    def scratch_file(self) -> OpenFile:
        """Open a file without a name, which is gone when it is closed, or when the process ends.

        Raises:
            DataError: there is no room for it.
        """
        folder = self.scratch
        while folder is not None and not folder.is_dir():
            folder = folder.parent if folder.parent != folder else None
        try:
            return OpenFile(tempfile.TemporaryFile(dir=folder))
        except OSError as error:
            raise DataError(
                f"{folder or tempfile.gettempdir()}: no file can be created there to unpack {self.path} "
                f"({error.strerror})"
            ) from None
