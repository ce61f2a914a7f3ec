"""Sample a snapshot on all ranks: `python -m bigtrain.generate.ranks snapshot=FOLDER out=PATH`, under torchrun."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import NonNegativeFloat, PositiveInt

from bigtrain.core.config import Config
from bigtrain.core.logging import progress_bars
from bigtrain.core.to_host import one_behind
from bigtrain.distributed.collectives import barrier, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.precision import Precision, autocast
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.generate.outputs import FORMATS, Samples, Sink, check_free, format_of
from bigtrain.generate.snapshot import Snapshot, load_snapshot, parse_seeds
from data_pipelines.fields.registry import kind_of

_COLUMNS = 8


class SampleSettings(Config):
    """What `bigtrain sample` writes.

    Attributes:
        snapshot: its folder.
        out: what to write: a picture, an .npz file, or a folder.
        format: one of `FORMATS`; null for the one that the ending of `out` tells.
        seeds: one image each, such as `0-63` or `1,5,9-12`.
        label: classes by index or name, several with commas, or `all`; null: from the seed.
        condition: numbers that condition every image, such as the pose of a camera; null: drawn from the seed.
        truncation: 1 for the whole distribution, less for fidelity.
        cutoff: truncate this many first layers only; null for all.
        columns: images a row of a grid; null for 8, or a row a class.
        batch: images that a rank computes at once.
        precision: of the generator's forward.
    """

    snapshot: Path
    out: Path
    format: str | None = None
    seeds: str = "0-63"
    label: str | None = None
    condition: tuple[float, ...] | None = None
    truncation: NonNegativeFloat = 1.0
    cutoff: PositiveInt | None = None
    columns: PositiveInt | None = None
    batch: PositiveInt = 64
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class SampleRequest:
    """Which images of a snapshot.

    Attributes:
        seeds: one image each.
        labels: of each image.
        truncation: see `Snapshot.sample`.
        cutoff: likewise.
        batch: images that a rank computes at once.
        precision: of the generator's forward.
        condition: see `Snapshot.sample`.
    """

    seeds: Sequence[int]
    labels: Sequence[int]
    truncation: float = 1.0
    cutoff: int | None = None
    batch: int = 64
    precision: Precision = "fp32"
    condition: Sequence[float] | None = None


def compute(snapshot: Snapshot, request: SampleRequest, sink: Sink, ranks: Ranks) -> None:
    """Compute images, each batch on one rank; while a GPU computes one, the last one is written. Collective.

    Args:
        snapshot: on this rank's device.
        request: which images.
        sink: takes this rank's images.
        ranks: who shares the work.
    """
    (spec,) = snapshot.sampler.outputs.values()
    count = len(request.seeds)
    stride = ranks.world_size * request.batch
    starts = range(ranks.rank * request.batch, count, stride)
    mine = [range(start, min(start + request.batch, count)) for start in starts]
    chosen = [number for rows in mine for number in rows]
    found = snapshot.batches(
        [request.seeds[number] for number in chosen],
        [request.labels[number] for number in chosen],
        truncation=request.truncation,
        cutoff=request.cutoff,
        batch=request.batch,
        condition=request.condition,
    )
    with progress_bars() as bars, autocast(ranks.device.type, request.precision):
        task = bars.add_task("sampling", total=count, note="", visible=is_rank_zero())
        stored = partial(kind_of(spec).stored, spec)
        for rows, samples in zip(mine, one_behind(map(stored, found)), strict=True):
            sink.put(rows, samples.numpy(), wait=ranks.device.type == "cpu")
            done = min(rows.start + stride, count)
            bars.update(task, completed=done, note=f"{done:,}/{count:,}")
    sink.finish()
    barrier()


def sample(options: SampleSettings, ranks: Ranks) -> str:
    """Sample and write images; return what to tell the user. Collective.

    Raises:
        UserError: the snapshot or the output is not what it should be.
    """
    out = options.out
    format_ = format_of(out, options.format)
    check_free(out, format_)
    output = FORMATS[format_]
    seeds, columns = parse_seeds(options.seeds), options.columns or _COLUMNS
    snapshot = load_snapshot(options.snapshot)
    labels = snapshot.labels(seeds)
    (spec,) = snapshot.sampler.outputs.values()
    if options.label is not None:
        classes = snapshot.class_indices(options.label)
        if len(classes) > 1:
            columns = options.columns or len(seeds)
        labels = [label for label in classes for _ in seeds]
        seeds = seeds * len(classes)
    request = SampleRequest(
        seeds, labels, options.truncation, options.cutoff, options.batch, options.precision, options.condition
    )
    snapshot.sample(  # fails before work
        seeds[:1], labels[:1], truncation=request.truncation, cutoff=request.cutoff, condition=request.condition
    )
    snapshot.generator.to(ranks.device)
    samples = Samples(
        partial=out.with_name(f".{out.name}.partial"),
        spec=spec,
        seeds=seeds,
        labels=labels if snapshot.classes else None,
        class_names=snapshot.class_names,
        origin=f"{options.snapshot}, truncation {request.truncation:g}",
        columns=columns,
    )
    if is_rank_zero():
        shutil.rmtree(samples.partial, ignore_errors=True)
        samples.partial.mkdir(parents=True)
        output.begin(samples)
    barrier()
    compute(snapshot, request, output.sink(samples), ranks)
    if is_rank_zero():
        output.finish(samples, out)
        shutil.rmtree(samples.partial)
    return f"{out}: {len(seeds)} {'images' if spec.kind == 'image' else 'samples'} ({format_})"


def main(settings: SampleSettings | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(SampleSettings, "bigtrain.generate.ranks")
    with as_one_of_the_ranks() as ranks:
        written = sample(settings, ranks)
        if is_rank_zero():
            print(written)
    sys.exit(0)


if __name__ == "__main__":
    main()
