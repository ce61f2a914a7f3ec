"""Fixed choices of real samples, training or held out, for previews, scores and health monitors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bigtrain.augment.derived import DerivedField, derive
from bigtrain.core.batch import Batch, dense
from bigtrain.core.crop import center_crop
from bigtrain.core.rng import Draws
from bigtrain.engine.feed import normalise
from data_pipelines.batches import BatchPlan, trained_rows
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.order import EachOnce, Location, SampleOrder, permutation, trained_counts
from data_pipelines.read import DamageError, ShardDataset

_STREAM = "reals"


@dataclass(frozen=True)
class Reals:
    """A fixed choice of real samples, the same for a dataset on every rank and in every run.

    Attributes:
        fields: as they are stored, by name, each [N, …]; images are cut to the size of their spec.
        specs: of the fields.
        derived: fields that are computed from them, by name.
    """

    fields: Mapping[str, Tensor]
    specs: Mapping[str, FieldSpec]
    derived: Mapping[str, DerivedField] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the samples."""
        return len(next(iter(self.fields.values())))

    def renamed(self, prefix: str) -> "Reals":
        """Return the same samples with a prefix before the names of their fields."""
        return Reals(
            {f"{prefix}{name}": stored for name, stored in self.fields.items()},
            {f"{prefix}{name}": spec for name, spec in self.specs.items()},
        )

    def batch(self, rows: slice | Sequence[int] | Tensor, device: torch.device) -> Batch:
        """Return some of the samples as networks take them, in the middle of what training cuts out."""
        fields = {
            name: dense(normalise(self.specs[name], stored[rows].to(device))) for name, stored in self.fields.items()
        }
        draws = Draws(0, torch.arange(len(self))[rows].to(device), _STREAM)
        return Batch(derive(self.derived, fields, draws), draws)

    def with_derived(self, derived: Mapping[str, DerivedField]) -> "Reals":
        """Return the same samples with fields that are computed from theirs, always in the same way."""
        return replace(self, derived=derived)


def side_by_side(parts: Sequence[Reals]) -> Reals:
    """Return the fields of several choices together, as many samples as the shortest has."""
    count = min(map(len, parts))
    fields = {name: stored[:count] for part in parts for name, stored in part.fields.items()}
    return Reals(fields, {name: spec for part in parts for name, spec in part.specs.items()})


def trained_reals(dataset: ShardDataset, plan: BatchPlan, count: int, specs: Mapping[str, FieldSpec]) -> Reals:
    """Choose up to `count` of the samples that are trained on, none twice: the first of one fixed order."""
    counts = dataset.manifest.counts.tolist()
    order = SampleOrder(counts, seed=0, window=plan.window, turns=EachOnce(trained_rows(plan, counts)))
    return _read(dataset, order.locate_span(0, min(count, order.size)), specs)


def held_out_reals(dataset: ShardDataset, plan: BatchPlan, count: int, specs: Mapping[str, FieldSpec]) -> Reals:
    """Choose up to `count` of the samples that are held out, shard by shard in one fixed order."""
    counts = dataset.manifest.counts.tolist()
    trained = trained_counts(counts, plan.held_out)
    found = (
        Location(shard, row)
        for shard in permutation(len(counts), seed=0, epoch=0, purpose=0).tolist()
        for row in range(trained[shard], counts[shard])
    )
    return _read(dataset, list(islice(found, count)), specs)


def _read(dataset: ShardDataset, locations: list[Location], specs: Mapping[str, FieldSpec]) -> Reals:
    """Read the middle of samples, leaving out those that are damaged."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    for location in locations:
        try:
            sample = dataset.read([location], specs)
        except DamageError:
            continue
        for name in specs:
            found[name].append(sample[name])
    return Reals({name: _joined(parts, specs[name]) for name, parts in found.items()}, specs)


def _joined(parts: list[np.ndarray], spec: FieldSpec) -> Tensor:
    if not parts:
        return torch.from_numpy(np.empty((0, *spec.shape), spec.dtype))
    whole = torch.from_numpy(np.concatenate(parts))
    return center_crop(whole, (spec.shape[1], spec.shape[2])) if spec.kind == "image" else whole
