"""Find what is wrong with a dataset folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.files import sha256_of
from data_pipelines.manifest import Manifest, Shard
from data_pipelines.order import Location
from data_pipelines.read import ShardDataset, check_size


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file of the dataset."""

    file: str
    problem: str


def verify(folder: Path, *, deep: bool = False, on_shard: Callable[[], None] = lambda: None) -> list[Fault]:
    """Check every shard against the manifest.

    Args:
        folder: the dataset.
        deep: also hash every shard and decode every sample, not only compare sizes and counts.
        on_shard: called after each shard, for progress.

    Returns:
        All faults found; empty if the dataset is whole.

    Raises:
        DataError: there is no manifest to check against.
    """
    manifest = Manifest.load(folder)
    faults: list[Fault] = []
    for shard in manifest.shards:
        try:
            check_size(folder / shard.url, shard.bytes)
            if deep and sha256_of(folder / shard.url) != shard.sha256:
                raise DataError(f"{shard.url}: its content does not match the manifest's sha256")
        except DataError as error:
            faults.append(Fault(shard.url, str(error)))
    if not faults:
        dataset = ShardDataset(folder)
        for number, shard in enumerate(manifest.shards):
            faults += _verify_samples(dataset, number, shard, deep)
            on_shard()
    return faults


def _verify_samples(dataset: ShardDataset, number: int, shard: Shard, deep: bool) -> list[Fault]:
    try:
        if not deep:
            dataset.read([Location(number, 0), Location(number, shard.count - 1)])
            return []
        histogram = [0] * len(shard.class_histogram)
        for row in range(shard.count):
            _, labels = dataset.read([Location(number, row)])
            if labels[0] >= 0:
                histogram[labels[0]] += 1
    except DataError as error:
        return [Fault(shard.url, str(error))]
    if tuple(histogram) != shard.class_histogram:
        return [Fault(shard.index, f"classes {histogram}, the manifest says {list(shard.class_histogram)}")]
    return []
