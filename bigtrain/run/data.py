"""The datasets that a run trains on, and the real samples that its previews, scores and health monitors look at."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bigtrain.augment.derived import DerivedField
from bigtrain.config import StreamConfig, TrainingConfig
from bigtrain.distributed.init import Ranks
from bigtrain.engine.feed import BatchTransform, Feed
from bigtrain.engine.reals import Reals, held_out_reals, side_by_side, trained_reals
from bigtrain.engine.task import Fields
from bigtrain.tasks.samplers import CLASS
from data_pipelines.batches import BatchPlan
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset
from data_pipelines.streams import Streams

Choose = Callable[[ShardDataset, BatchPlan, int, Fields], Reals]
"""Chooses a number of real samples of a stream: `trained_reals` or `held_out_reals`."""


@dataclass(frozen=True)
class RunData:
    """The streams of a run, opened.

    Attributes:
        plans: of this rank's batches, by stream.
        stream: the samples of all streams.
        fields: of a batch by name, with the names that the datasets have for their classes.
        derived: those of them that are computed from others.
    """

    plans: Mapping[str, BatchPlan]
    stream: Streams
    fields: Fields
    derived: Mapping[str, DerivedField]

    @property
    def datasets(self) -> Mapping[str, ShardDataset]:
        """The dataset of each stream."""
        return self.stream.datasets

    @property
    def manifests(self) -> Mapping[str, Manifest]:
        """The manifest of each stream's dataset."""
        return {name: dataset.manifest for name, dataset in self.datasets.items()}

    @property
    def digest(self) -> str:
        """Digest of the content of all datasets."""
        return "+".join(manifest.digest for manifest in self.manifests.values())

    @property
    def stored(self) -> Fields:
        """The fields that the datasets have."""
        return {name: spec for name, spec in self.fields.items() if name not in self.derived}

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; none where the samples have no field `class`."""
        return self.fields[CLASS].classes if CLASS in self.fields else ()

    @property
    def class_counts(self) -> Mapping[str, Sequence[int]]:
        """Number of training samples of each class, by class field."""
        return {
            f"{name}.{CLASS}" if name else CLASS: manifest.class_histogram for name, manifest in self.manifests.items()
        }

    def trained(self, count: int) -> Reals:
        """Return up to `count` training samples."""
        return self._reals(trained_reals, count)

    def held_out(self, count: int) -> Reals:
        """Return up to `count` samples that are held out."""
        return self._reals(held_out_reals, count)

    def _reals(self, choose: Choose, count: int) -> Reals:
        parts = []
        for name, dataset in self.datasets.items():
            prefix = f"{name}." if name else ""
            mine = {field.removeprefix(prefix): spec for field, spec in self.stored.items() if field.startswith(prefix)}
            parts.append(choose(dataset, self.plans[name], count, mine).renamed(prefix))
        return side_by_side(parts).with_derived(self.derived)


def open_data(config: TrainingConfig, ranks: Ranks, quarantine: Path) -> RunData:
    """Open the streams of a run for one rank.

    Args:
        config: of the run.
        ranks: which share every batch.
        quarantine: file that lists damaged samples.
    """
    plans = {name: _plan(config, stream, ranks) for name, stream in config.data.streams.items()}
    first = next(iter(config.data.streams.values()))  # loader and workers are the same in all streams
    stream = Streams(plans, loader=first.loader, workers=first.workers, quarantine=quarantine)
    fields = {**config.data.field_specs(), **_named_classes(config, stream.datasets)}
    return RunData(plans, stream, fields, config.data.derived_fields())


def feed_of(
    config: TrainingConfig,
    data: RunData,
    *,
    seed: Callable[[], int],
    device: torch.device,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Feed:
    """Return the batches that a run trains on; see `Feed` for the arguments."""
    transforms = {
        name: BatchTransform(stream.crop or "center", stream.flip, stream.label_dropout)
        for name, stream in config.data.streams.items()
    }
    return Feed(data.stream, data.stored, transforms, data.derived, seed=seed, device=device, waiting=waiting)


def _plan(config: TrainingConfig, stream: StreamConfig, ranks: Ranks) -> BatchPlan:
    plan = stream.plan(
        seed=config.seed,
        global_batch=config.global_batch,
        held_out=config.health.held_out,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pieces=config.accumulation(ranks.world_size),
    )
    # The other ranks, which wait for this one, must not take it for one that hangs.
    longest = 0.8 * (config.watchdog.step_seconds or math.inf)
    cache = replace(plan.cache, patience_s=min(plan.cache.patience_s, longest))
    return replace(plan, fields=tuple(stream.specs()), cache=cache)


def _named_classes(config: TrainingConfig, datasets: Mapping[str, ShardDataset]) -> Fields:
    """Return the class fields with the names that the datasets have for their classes."""
    found = {}
    for stream, dataset in datasets.items():
        for name, spec in config.data.streams[stream].specs().items():
            if spec.kind in ("class", "classes"):
                found[f"{stream}.{name}" if stream else name] = dataset.manifest.fields[name]
    return found
