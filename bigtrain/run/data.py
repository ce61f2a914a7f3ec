"""The datasets that a run trains on, and the real samples that its previews, scores and health monitors look at."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bigtrain.augment.derived import DerivedField
from bigtrain.augment.derived.base import derived_specs
from bigtrain.config import TrainingConfig
from bigtrain.core.errors import UserError
from bigtrain.distributed.init import Ranks
from bigtrain.engine.feed import BatchTransform, Feed
from bigtrain.engine.reals import Reals, held_out_reals, side_by_side, trained_reals
from bigtrain.engine.sampler import Sampler
from bigtrain.engine.stream_config import Share, StreamConfig
from bigtrain.engine.task import Fields
from bigtrain.tasks.samplers import CLASS
from data_pipelines.batches import BatchPlan
from data_pipelines.faults import FaultLog
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset
from data_pipelines.readers import WhileWaiting, go_on_waiting
from data_pipelines.streams import Streams

Choose = Callable[[ShardDataset, BatchPlan, int, Fields], Reals]
"""Chooses a number of real samples of a stream: `trained_reals` or `held_out_reals`."""


@dataclass(frozen=True)
class RunData:
    """The datasets of a run, or those that a snapshot is compared with.

    Attributes:
        plans: of this rank's batches, by stream.
        datasets: of each stream.
        fields: of a batch by name, with the names that the datasets have for their classes.
        derived: those of them that are computed from others.
    """

    plans: Mapping[str, BatchPlan]
    datasets: Mapping[str, ShardDataset]
    fields: Fields
    derived: Mapping[str, DerivedField]

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
        """Number of samples of each class, by class field; 0 for classes that the sampling leaves out."""
        return {f"{name}.{CLASS}" if name else CLASS: self._counts(name) for name in self.datasets}

    def _counts(self, stream: str) -> Sequence[int]:
        manifest, shares = self.datasets[stream].manifest, self.plans[stream].shares
        if shares is None:
            return manifest.class_histogram
        weights = shares.of(manifest.classes)
        return [count if weight else 0 for count, weight in zip(manifest.class_histogram, weights, strict=True)]

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


def open_data(
    config: TrainingConfig, ranks: Ranks, quarantine: Path, while_waiting: WhileWaiting = go_on_waiting
) -> tuple[RunData, Streams]:
    """Open the datasets of a run, and the streams of this rank's samples.

    Args:
        config: of the run.
        ranks: which share every batch.
        quarantine: file that lists damaged samples.
        while_waiting: called again and again while a batch is waited for; it may raise.
    """
    pieces = config.accumulation(ranks.world_size)
    plans = {
        name: _plan(config, stream, rank=ranks.rank, world_size=ranks.world_size, pieces=pieces)
        for name, stream in config.data.streams.items()
    }
    first = next(iter(config.data.streams.values())).reading  # loader and workers are the same in all streams
    streams = Streams(
        plans, loader=first.loader, workers=first.workers, quarantine=quarantine, while_waiting=while_waiting
    )
    return _with_fields(config, plans, streams.datasets), streams


def feed_of(
    config: TrainingConfig,
    data: RunData,
    streams: Streams,
    *,
    seed: Callable[[], int],
    device: torch.device,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Feed:
    """Return the batches that a run trains on; see `Feed` for the arguments."""
    transforms = {
        name: BatchTransform(stream.reading.crop or "center", stream.flip, stream.label_dropout)
        for name, stream in config.data.streams.items()
    }
    return Feed(streams, data.stored, transforms, data.derived, seed=seed, device=device, waiting=waiting)


def find_data(config: TrainingConfig) -> RunData:
    """Open the datasets of a run to look at them, on any number of ranks."""
    plans = {name: _plan(config, stream) for name, stream in config.data.streams.items()}
    return _with_fields(config, plans, {name: plan.open(FaultLog()) for name, plan in plans.items()})


def data_at(places: Mapping[str, str], sampler: Sampler, derived: Mapping[str, DerivedField]) -> RunData:
    """Open datasets that have the inputs and outputs of a sampler, to look at all of their samples.

    Args:
        places: folder or URL of the dataset of each stream; the only one of a sampler without streams has no name.
        sampler: makes the outputs.
        derived: fields that can be computed, where the datasets do not have them.

    Raises:
        UserError: a stream or a field is missing.
    """
    names = list(dict.fromkeys([*sampler.inputs, *sampler.outputs]))
    streams = dict.fromkeys(name.rpartition(".")[0] for name in names)
    if places.keys() != streams.keys():
        wanted = " ".join(f"{name}=DIR" if name else "DIR" for name in streams)
        raise UserError(f"data: the networks were trained on {', '.join(names)}; give the data as {wanted}")
    plans = {name: BatchPlan(places[name], seed=0, global_batch=1) for name in streams}
    datasets = {name: plan.open(FaultLog()) for name, plan in plans.items()}
    fields, computed = {}, set()
    for name in names:
        stream, _, field = name.rpartition(".")
        found = datasets[stream].manifest.fields
        if field in found:
            fields[name] = found[field]
        elif name in derived:
            fields |= {name: sampler.inputs[name]} if name in sampler.inputs else {}
            computed.add(name)
            names.append(derived[name].of)
        else:
            raise UserError(f"data: {places[stream]} has no field '{field}', its fields are {', '.join(found)}")
    return RunData(plans, datasets, fields, {name: one for name, one in derived.items() if name in computed})


def _with_fields(
    config: TrainingConfig, plans: Mapping[str, BatchPlan], datasets: Mapping[str, ShardDataset]
) -> RunData:
    stored, derived = _as_stored(config, datasets), config.data.derived_fields()
    fields = {**config.data.field_specs(), **stored}
    rates = {name: spec.rate for name, spec in derived_specs(derived, stored).items()}
    fields |= {name: replace(fields[name], rate=rate) for name, rate in rates.items()}
    return RunData(plans, datasets, fields, derived)


def _plan(
    config: TrainingConfig, stream: StreamConfig, *, rank: int = 0, world_size: int = 1, pieces: int = 1
) -> BatchPlan:
    share = Share(
        seed=config.seed,
        global_batch=config.global_batch,
        held_out=config.health.held_out,
        rank=rank,
        world_size=world_size,
        pieces=pieces,
        total=round(config.total_kimg * 1000),
    )
    plan = stream.plan(share)
    # The other ranks, which wait for this one, must not take it for one that hangs.
    longest = 0.8 * (config.watchdog.step_seconds or math.inf)
    cache = replace(plan.cache, patience_s=min(plan.cache.patience_s, longest))
    return replace(plan, cache=cache)


def _as_stored(config: TrainingConfig, datasets: Mapping[str, ShardDataset]) -> Fields:
    """Return the stored fields with what only the datasets know: the names of classes, and rates."""
    return {
        f"{stream}.{name}" if stream else name: replace(
            spec, classes=dataset.manifest.fields[name].classes, rate=dataset.manifest.fields[name].rate
        )
        for stream, dataset in datasets.items()
        for name, spec in config.data.streams[stream].specs().items()
    }
