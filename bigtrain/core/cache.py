"""Where things are kept that several runs use."""

import os
from pathlib import Path

from data_pipelines.files import in_home


def cache_folder() -> Path:
    """Return `$BIGTRAIN_CACHE`, or `~/.cache/bigtrain`."""
    return in_home(os.environ.get("BIGTRAIN_CACHE", "~/.cache/bigtrain"))
