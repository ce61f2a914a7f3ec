"""Statistics of reference data, computed once and kept under a key of everything that they depend on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bigtrain.core.cache import cache_folder
from bigtrain.core.logging import log
from bigtrain.distributed.collectives import from_rank_zero, is_rank_zero
from data_pipelines.files import atomic_write

Tensors = dict[str, Tensor]
Ingredients = Mapping[str, str | int]
_CHECKSUM = "sha256"


def look_up(ingredients: Ingredients) -> Tensors | None:
    """Return the tensors kept under `ingredients`, or None. Collective."""
    # One rank decides, or ranks on different nodes could disagree about what is in the cache.
    return from_rank_zero(_read(_path(ingredients)) if is_rank_zero() else None)


def keep(ingredients: Ingredients, tensors: Tensors) -> None:
    """Keep tensors under all that they depend on; a cache that cannot be written is no reason to end.

    Any number of jobs may do so at once: each writes a file of its own, and the rename puts a whole one in place.
    """
    if not is_rank_zero():
        return
    path = _path(ingredients)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    facts = {_CHECKSUM: _checksum(tensors), "of": json.dumps(dict(ingredients), sort_keys=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(save(tensors, metadata=facts))
    except OSError as error:
        log.warning("%s: not cached (%s)", path, error)


def _path(ingredients: Ingredients) -> Path:
    key = hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{key}.safetensors"


def _checksum(tensors: Tensors) -> str:
    return hashlib.sha256(save(tensors)).hexdigest()


def _read(path: Path) -> Tensors | None:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            facts = file.metadata() or {}
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, RuntimeError) as error:  # the last where it shrinks while it is mapped
        log.warning("%s: damaged cache entry (%s), computing it again", path, error)
        return None
    if facts.get(_CHECKSUM) != _checksum(tensors):
        log.warning("%s: damaged cache entry (its content does not match its checksum), computing it again", path)
        return None
    return tensors
