"""Statistics of reference data, computed once and kept under a key of everything that they depend on."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bigtrain.core.logging import log
from bigtrain.distributed.collectives import from_rank_zero, is_rank_zero
from bigtrain.evaluation.moments import Moments
from data_pipelines.files import atomic_write


def cache_folder() -> Path:
    """Return `$BIGTRAIN_CACHE`, or `~/.cache/bigtrain`."""
    return Path(os.environ.get("BIGTRAIN_CACHE", "~/.cache/bigtrain")).expanduser()


def cached_moments(ingredients: Mapping[str, str | int], compute: Callable[[], Moments]) -> Moments:
    """Return the moments kept under `ingredients`, or compute and keep them. Collective.

    Args:
        ingredients: all that the moments depend on; a change of any of them is another entry.
        compute: collective, called on all ranks or on none.
    """
    key = hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "moments" / f"{key}.safetensors"
    # One rank decides, or ranks on different nodes could disagree about what is in the cache.
    moments = from_rank_zero(_read(path) if is_rank_zero() else None)
    if moments is None:
        moments = compute()
        if is_rank_zero():
            _write(path, moments)
    return moments


def _read(path: Path) -> Moments | None:
    try:
        tensors = load_file(path)
        return Moments(int(tensors["count"]), tensors["mean"], tensors["covariance"])
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError) as error:
        log.warning("%s: damaged cache entry (%s), computing it anew", path, error)
        return None


def _write(path: Path, moments: Moments) -> None:
    """Keep moments; two jobs that do so at once write the same bytes, and each rename is atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"count": torch.tensor(moments.count), "mean": moments.mean, "covariance": moments.covariance}
    with atomic_write(path) as file:
        file.write(save(tensors))
