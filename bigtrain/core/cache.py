"""Where things are kept that several runs use."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$BIGTRAIN_CACHE`, or `~/.cache/bigtrain`."""
    return Path(os.environ.get("BIGTRAIN_CACHE", "~/.cache/bigtrain")).expanduser()
