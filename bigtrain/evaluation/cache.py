"""Statistics of reference data, computed once and kept under a key of everything that they depend on."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bigtrain.core.logging import log
from bigtrain.distributed.collectives import from_rank_zero, is_rank_zero
from data_pipelines.files import atomic_write

Tensors = dict[str, Tensor]
Ingredients = Mapping[str, str | int]


def cache_folder() -> Path:
    """Return `$BIGTRAIN_CACHE`, or `~/.cache/bigtrain`."""
    return Path(os.environ.get("BIGTRAIN_CACHE", "~/.cache/bigtrain")).expanduser()


def look_up(ingredients: Ingredients) -> Tensors | None:
    """Return the tensors kept under `ingredients`, or None. Collective."""
    # One rank decides, or ranks on different nodes could disagree about what is in the cache.
    return from_rank_zero(_read(_path(ingredients)) if is_rank_zero() else None)


def keep(ingredients: Ingredients, tensors: Tensors) -> None:
    """Keep tensors under all that they depend on; two jobs that do so at once write the same bytes."""
    if is_rank_zero():
        path = _path(ingredients)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _path(ingredients: Ingredients) -> Path:
    key = hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{key}.safetensors"


def _read(path: Path) -> Tensors | None:
    try:
        return load_file(path)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        log.warning("%s: damaged cache entry (%s), computing it anew", path, error)
        return None
