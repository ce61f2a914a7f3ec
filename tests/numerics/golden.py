"""Where the reference numbers lie: beside the project, or in $BIGTRAIN_GOLDEN."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BIGTRAIN_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


def folder(name: str) -> Path:
    """Return a folder of reference numbers; missing, it fails in CI and skips elsewhere."""
    path = FOLDER / name
    if not path.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no golden vectors at {path} (set BIGTRAIN_GOLDEN)")
    return path
