"""Find what is wrong with a dataset, shard by shard, in parallel."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.faults import Fault
from data_pipelines.fields.decoder import Fields, new_batch
from data_pipelines.order import Location
from data_pipelines.read import OpenShard, ShardDataset
from data_pipelines.tar_parts import parts_of


def verify(
    place: str | Path,
    *,
    deep: bool = False,
    on_start: Callable[[int], None] = lambda shards: None,
    on_shard: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """Check every shard against the manifest.

    Without `deep`: sizes, counts, class histograms, and the first and the last sample of each shard. With it, every
    tar is hashed, its members are compared with the index, and every field of every sample is decoded.

    Args:
        place: folder or URL of the dataset.
        deep: whether to read everything.
        on_start: called with the number of shards.
        on_shard: called after each of them.

    Returns:
        All faults found, in the order of the shards; empty if the dataset is whole.

    Raises:
        DataError: there is no manifest to check against, or its shards come from commands, which are not run.
    """
    dataset = ShardDataset(place, run_commands=False)
    shards = dataset.manifest.shards
    on_start(len(shards))

    def examine(number: int) -> list[Fault]:
        faults = _examine(dataset, number, deep)
        on_shard()
        return faults

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing and decoding leave the interpreter to each other
        found = threads.map(examine, range(len(shards)))
        return [fault for faults in found for fault in faults]


def _examine(dataset: ShardDataset, number: int, deep: bool) -> list[Fault]:
    """Check one shard; what is wrong with the file as a whole comes first."""
    entry = dataset.manifest.shards[number]
    try:
        shard = dataset.shard(number)
    except DataError as error:
        return [Fault(entry.url, str(error))]
    rows = range(entry.count) if deep else sorted({0, entry.count - 1})
    faults = _examine_file(dataset, number, shard) if deep else []
    sample = {name: array[0, ...] for name, array in new_batch(dataset.decoders, 1).items()}
    return faults + [fault for row in rows for fault in _examine_sample(dataset, Location(number, row), sample)]


def _examine_file(dataset: ShardDataset, number: int, shard: OpenShard) -> list[Fault]:
    """Hash a tar, and see whether a plain reader of tars finds every member that the index knows."""
    manifest = dataset.manifest
    entry, faults = manifest.shards[number], []
    try:
        with dataset.open_tar(number) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                faults.append(Fault(entry.url, "its content does not match the manifest's sha256"))
            members = {member.offset_data: member.size for part in parts_of(file) for member in part.headers}
    except OSError as error:
        return [*faults, Fault(entry.url, f"not a complete tar ({error})")]
    for name in (*manifest.stored, *manifest.members):
        starts, sizes, _ = manifest.index_columns(name)
        places = zip(shard.index[starts].tolist(), shard.index[sizes].tolist(), strict=True)
        hidden = [row for row, (start, size) in enumerate(places) if members.get(start, 0) != size]
        if hidden:
            what = f"damaged headers hide {len(hidden)} of {entry.count} {name} members from programs that read tars"
            faults.append(Fault(entry.url, what, hidden[0]))
    return faults


def _examine_sample(dataset: ShardDataset, location: Location, sample: Fields) -> list[Fault]:
    try:
        dataset.read_into(location, sample)
    except DataError as error:
        return [Fault(dataset.manifest.shards[location.shard].url, str(error), location.row)]
    return []
