"""Find the ranks that keep the others waiting, from the signs of life that all ranks publish."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """The sign of life that a rank publishes every few seconds.

    Attributes:
        rank: whose it is.
        host: its machine.
        pid: its process there.
        tick: grows as long as the process runs, whatever its training does.
        beats: how often the training has reported where it is.
        collectives: collective operations that the rank has begun.
        where: what it reported last.
        done: places that its GPU has got past; 0 on a CPU, which is where its training is.
    """

    rank: int
    host: str
    pid: int
    tick: int
    beats: int
    collectives: int
    where: str
    done: int = 0

    def __str__(self) -> str:
        """Name the rank as a person looks for it."""
        return f"rank {self.rank} (host {self.host}, pid {self.pid}, in {self.where})"


@dataclass(frozen=True)
class Verdict:
    """The ranks that block the others, as far as the signs of life show it, and the reason."""

    culprits: tuple[Sign, ...]
    text: str


def diagnose(before: Mapping[int, Sign], after: Mapping[int, Sign], *, world_size: int) -> Verdict:
    """Compare two rounds of signs, by rank, between which every process that runs has shown a new one."""
    missing = [rank for rank in range(world_size) if rank not in after]
    if missing:
        return Verdict((), f"rank {_listed(missing)} never joined the training")
    frozen = tuple(sign for rank, sign in after.items() if rank in before and sign.tick == before[rank].tick)
    if frozen:
        return Verdict(
            frozen, f"{_listed(frozen)} does not run: it was stopped, or its machine failed or lost its connection"
        )
    first = max(sign.collectives for sign in after.values())
    behind = tuple(sign for sign in after.values() if sign.collectives < first)
    if behind:
        return Verdict(behind, f"the others wait in a collective operation that {_listed(behind)} has not entered")
    furthest = max(sign.beats for sign in after.values())
    behind = tuple(sign for sign in after.values() if sign.beats < furthest)
    if behind:
        return Verdict(behind, f"{_listed(behind)} is behind the others")
    most = max(sign.done for sign in after.values())
    behind = tuple(sign for sign in after.values() if sign.done < most)
    if behind:
        return Verdict(behind, f"the GPU of {_listed(behind)} is behind the others")
    if world_size == 1:
        return Verdict(tuple(after.values()), f"{_listed(list(after.values()))} stands still")
    return Verdict((), f"all {world_size} ranks are in the same operation ({after[0].where}): check the network")


def _listed(things: object) -> str:
    assert isinstance(things, list | tuple)
    return " and ".join(map(str, things))
