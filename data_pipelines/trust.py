"""Which datasets may run shell commands: a manifest may name `pipe:COMMAND` as a shard, and may come from a stranger.

The permission lies in the environment of the user's process. Nothing that travels with a dataset, a config or a run
folder can give it. Files named by absolute paths need none: a shard is a regular file of the size that the manifest
says, and each image is checked against its CRC-32, so that a manifest shows only what its author already knew
(docs/decisions/0046-datasets-run-no-commands.md).
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.errors import DataError

if TYPE_CHECKING:  # NumPy and Pillow would take a fifth of the time of `bigtrain --help`
    from data_pipelines.manifest import Manifest

TRUSTED = "BIGTRAIN_TRUSTED_DATA"
"""The variable that lists the trusted folders, with `:` between them."""


def is_trusted(dataset: Path) -> bool:
    """Tell whether a dataset is one of the trusted folders, or lies below one of them."""
    folders = [Path(folder).expanduser().resolve() for folder in os.environ.get(TRUSTED, "").split(":") if folder]
    return any(dataset.resolve().is_relative_to(folder) for folder in folders)


def check_commands(dataset: str, manifest: "Manifest", *, may_run: bool = True) -> None:
    """Check that a dataset names no commands as shards, unless the user trusts it.

    Args:
        dataset: its folder, as the user named it.
        manifest: of the dataset.
        may_run: whether a trusted dataset may run commands; False where it is only looked at.

    Raises:
        DataError: it names a command, which must not be run.
    """
    from data_pipelines.manifest import FILE_NAME

    command = next((url for url in manifest.urls if url.startswith("pipe:")), None)
    if command is None or (may_run and is_trusted(Path(dataset))):
        return
    advice = (
        f"if you trust it, set {TRUSTED}={dataset}, or call bigtrain --trusted-data {dataset} COMMAND"
        if may_run
        else "which is never done to describe or verify a dataset; copy its shards to this machine first"
    )
    raise DataError(f"{dataset}/{FILE_NAME}: reading it would run the shell command {command[5:]!r}: {advice}")
