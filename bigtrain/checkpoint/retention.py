"""Which checkpoints stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from bigtrain.core.config import Config


class CheckpointConfig(Config):
    """How often checkpoints are saved, and which are kept.

    Attributes:
        interval_kimg: thousands of images between two checkpoints; another one is saved when the run stops.
        keep: number of newest checkpoints that are kept.
        keep_every_kimg: in addition, the first checkpoint after each multiple of this number of thousand images is
            kept; 0 for none.
        keep_best: whether the checkpoint after the best evaluation is kept in addition.
        max_gb: maximum total size of all checkpoints in GB, for which older ones are deleted, but never the newest;
            null for no limit.
    """

    interval_kimg: PositiveFloat
    keep: PositiveInt = 2
    keep_every_kimg: NonNegativeFloat = 0.0
    keep_best: bool = True
    max_gb: PositiveFloat | None = None


@dataclass(frozen=True)
class Entry:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        samples_seen: images seen.
        healthy: whether it is one to come back to, should training collapse.
        best: whether the evaluation before it was the best so far.
        bytes: its size.
    """

    path: Path
    samples_seen: int
    healthy: bool
    best: bool
    bytes: int


def surplus(entries: Sequence[Entry], config: CheckpointConfig) -> list[Entry]:
    """Return those that may go.

    Args:
        entries: all whole checkpoints, in any order.
        config: what is to stay.
    """
    newest_first = sorted(entries, key=lambda entry: -entry.samples_seen)
    needed = newest_first[:1] + [entry for entry in newest_first if entry.healthy][:1]
    best = [entry for entry in newest_first if entry.best and config.keep_best][:1]
    # In the order of their worth: what is over the limit goes from the end.
    wanted = [*needed, *best, *newest_first[: config.keep], *_milestones(newest_first, config)]
    kept: list[Entry] = []
    for entry in wanted:
        fits = config.max_gb is None or sum(one.bytes for one in kept) + entry.bytes <= config.max_gb * 1e9
        if entry not in kept and (fits or entry in needed):
            kept.append(entry)
    return [entry for entry in newest_first if entry not in kept]


def _milestones(newest_first: Sequence[Entry], config: CheckpointConfig) -> list[Entry]:
    """Return the first checkpoint after each multiple of `keep_every_kimg`, the newest first."""
    if not config.keep_every_kimg:
        return []
    first: dict[int, Entry] = {}
    for entry in newest_first:
        first[int(entry.samples_seen / (1000 * config.keep_every_kimg))] = entry
    return [entry for number, entry in first.items() if number]
