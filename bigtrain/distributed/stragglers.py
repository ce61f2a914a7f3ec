"""Find slow ranks: how each rank's step time is spent."""

from dataclasses import asdict, dataclass, fields

import torch
import torch.distributed as dist
from rich.table import Column, Table
from torch import Tensor

from bigtrain.distributed.traffic import Totals

SLOW = 1.2
"""A rank whose own work takes this many times the median's is called slow."""
MIB = 2**20


@dataclass(frozen=True)
class RankTimes:
    """One rank's mean step: times in seconds.

    Attributes:
        step: all of it.
        own: what it computes itself, the rest of the three below.
        data_wait: waiting for images.
        exposed: waiting for messages; a fast rank waits here for the slow ones.
        sending: time with a message under way, hidden or not.
        messages: how many.
        mib: their size in MiB.
    """

    step: float
    own: float
    data_wait: float
    exposed: float
    sending: float
    messages: float
    mib: float


def gather_times(totals: Totals, device: torch.device) -> list[RankTimes]:
    """Return every rank's mean step, by rank. Collective."""
    steps = max(totals.steps, 1)
    own = totals.seconds - totals.data_wait - totals.exposed
    values = (totals.seconds, own, totals.data_wait, totals.exposed, totals.sending, totals.messages)
    mine = torch.tensor([*values, totals.bytes / MIB], dtype=torch.float64, device=device) / steps
    rows: list[Tensor] = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine)
    return [RankTimes(*row.tolist()) for row in rows]


def slowest(times: list[RankTimes]) -> tuple[int, float]:
    """Return the rank whose own work takes longest, data included, and how many times the median's it takes."""
    work = [one.own + one.data_wait for one in times]
    median = sorted(work)[(len(work) - 1) // 2]
    rank = max(range(len(work)), key=work.__getitem__)
    return rank, work[rank] / max(median, 1e-9)


def communication_metrics(times: list[RankTimes], *, timed: bool) -> dict[str, float]:
    """Return what to log of a mean step.

    Args:
        times: of every rank.
        timed: whether the host waits for messages; on GPUs it does not, and its clock tells nothing of them.
    """

    def mean(name: str) -> float:
        return sum(float(getattr(one, name)) for one in times) / len(times)

    counts = {"comm/mib": mean("mib"), "comm/messages": mean("messages")}
    if not timed:
        return counts
    rank, factor = slowest(times)
    sending = mean("sending")
    metrics = {
        **counts,
        "comm/sending_s": sending,
        "comm/exposed_s": mean("exposed"),
        "comm/exposed_share": mean("exposed") / max(mean("step"), 1e-9),
    }
    if sending:
        metrics["comm/overlap"] = 1 - mean("exposed") / sending
    if len(times) > 1:
        metrics |= {"comm/slowest_rank": float(rank), "comm/slowest_factor": factor}
    return metrics


def straggler_table(times: list[RankTimes]) -> Table:
    """Show every rank's mean step, the slowest one marked."""
    names = [field.name.replace("_", " ").replace("mib", "MiB") for field in fields(RankTimes)]
    table = Table(*(Column(name, justify="right") for name in ("rank, ms", *names)), Column(no_wrap=True), box=None)
    rank, factor = slowest(times)
    for number, one in enumerate(times):
        *seconds, messages, mib = asdict(one).values()
        mark = f"slow: {factor:.2f}x" if number == rank and factor > SLOW else ""
        cells = (f"{1000 * value:.0f}" for value in seconds)
        table.add_row(str(number), *cells, f"{messages:.0f}", f"{mib:.2f}", mark)
    return table
