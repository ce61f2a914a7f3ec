"""Batches of random samples, to measure memory and time before training and to count operations."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bigtrain.augment.derived.base import DerivedSpec
from bigtrain.core.batch import Batch, dense
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec


def random_batch(fields: Mapping[str, FieldSpec], draws: Draws) -> Batch:
    """Return samples of random content, one a draw; derived fields are computed, as they may not be any numbers.

    Args:
        fields: what the samples are made of.
        draws: the random numbers that belong to them.
    """
    made: dict[str, Tensor] = {}
    for name, spec in fields.items():
        own, by = draws.of(f"made_up/{name}"), spec.by if isinstance(spec, DerivedSpec) else None
        made[name] = by.compute(made[by.of], own) if by is not None and by.of in made else _random_field(spec, own)
    return Batch(made, draws)


def empty_batch(fields: Mapping[str, FieldSpec], size: int, draws: Draws) -> Batch:
    """Return samples of no certain content, where tensors are made now: they may be fake."""
    made: dict[str, Tensor] = {}
    for name, spec in fields.items():
        if spec.kind == "class":
            made[name] = torch.zeros(size, dtype=torch.int64)
        else:
            dtype = torch.uint8 if spec.kind == "text" else torch.float32
            made[name] = dense(torch.empty(size, *spec.shape, dtype=dtype))
    return Batch(made, draws)


def _random_field(spec: FieldSpec, draws: Draws) -> Tensor:
    if spec.kind == "class":
        return draws.integers(max(len(spec.classes), 1), 1).squeeze(1)
    if spec.kind == "text":
        return draws.integers(256, *spec.shape).to(torch.uint8)
    if spec.kind == "classes":
        return draws.uniform(*spec.shape)
    return dense(draws.uniform(*spec.shape) * 2 - 1)
