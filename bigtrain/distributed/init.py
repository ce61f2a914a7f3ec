"""Find this process's place among the ranks, whoever launched it, and join them."""

import contextlib
import itertools
import os
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    HashStore,
    PrefixStore,
    Store,
    TCPStore,
)  # torch.distributed has them without types
from torch.distributed.rendezvous import rendezvous

from bigtrain.core import stop
from bigtrain.core.host_memory import keep_freed_memory
from bigtrain.core.launchers import check_meeting_place, place_from_environment
from bigtrain.core.logging import log
from bigtrain.distributed.affinity import stay_near
from bigtrain.distributed.gpus import find_device

_LOOPBACK = "127.0.0.1"
_PATIENCE_SECONDS = 30.0
_joins = itertools.count()
"""Number of the process's next group: the same on all ranks, which join together."""


@dataclass(frozen=True)
class Ranks:
    """This process's place.

    Attributes:
        rank: 0 <= rank < world_size.
        world_size: number of processes that train together.
        local_rank: rank among those of this node.
        device: where this rank computes.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device


def join_ranks(*, timeout_minutes: float = 10) -> Ranks:
    """Join the process group: NCCL beside gloo where there are GPUs, gloo alone otherwise.

    A process that was started alone becomes a group of one, so that nothing else needs a special case. PyTorch's
    flight recorder keeps the latest collective operations, for the log and for the watchdog. CPUs take numbers below
    1e-38 for 0 from here on: gradients through attention are full of them as training begins, at ten times the cost;
    where they compute, the process keeps the memory that it frees (decision 42). Gloo connects two ranks when they
    first talk, and the limit of open files is raised as far as the system allows: 1,024 ranks that connect at once need
    2,050 descriptors each, and the usual limit is 1,024. A rank with a GPU stays on the cores of its NUMA node.

    Raises:
        DeviceError: this rank cannot use the GPU that it should.
        LauncherError: the environment tells of other ranks, but not where they meet.
    """
    check_meeting_place(os.environ)
    torch.set_flush_denormal(True)
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    _raise_limit_of_open_files()
    rank, world_size, local_rank = place_from_environment(os.environ)
    device = find_device(local_rank, os.environ)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
        stay_near(device)
    else:
        keep_freed_memory()
    timeout = timedelta(minutes=timeout_minutes)
    with _missing_ranks_reported(rank, world_size):
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=_store(rank, world_size, timeout, number=next(_joins)),
            rank=rank,
            world_size=world_size,
            timeout=timeout,
        )
    stop.joined()
    return Ranks(rank, world_size, local_rank, device)


def _raise_limit_of_open_files() -> None:
    """Allow this process, and those that it starts, as many open files as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS caps it below the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _store(rank: int, world_size: int, timeout: timedelta, *, number: int) -> Store | None:
    """Return the store of a process alone, or of ranks that share a machine without an agent; None for any other.

    The agent's store outlives a group: the groups after a process's first one have keys of their own in it, for among
    the first one's a rank would find the addresses of connections that are closed. `number` counts these groups.

    For ranks without an agent, PyTorch would open a port of rank 0 on all interfaces; this one listens on the loopback
    interface alone.
    """
    master = os.environ.get("MASTER_ADDR")
    if world_size == 1 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        return HashStore()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and number:
        store, _, _ = next(rendezvous("env://", rank, world_size, timeout=timeout))
        return PrefixStore(f"bigtrain-{number}", store)
    if master != _LOOPBACK or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    port = int(os.environ["MASTER_PORT"])
    if rank > 0:
        return TCPStore(master, port, world_size, is_master=False, timeout=timeout)
    listener = socket.create_server((master, port)).detach()
    return TCPStore(master, port, world_size, is_master=True, timeout=timeout, master_listen_fd=listener)


@contextmanager
def _missing_ranks_reported(rank: int, world_size: int) -> Iterator[None]:
    """Log that the other ranks are waited for, where that takes long: there may be none."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    timer = threading.Timer(
        _PATIENCE_SECONDS,
        lambda: log.warning(
            "rank %d waits at %s for the other ranks of %d; if it was started alone, unset RANK and WORLD_SIZE (or "
            "SLURM_PROCID)", rank, place, world_size,
        ),
    )  # fmt: skip
    timer.daemon = True
    if world_size > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def leave_ranks(*, failed: bool = False) -> None:
    """Leave the process group; CPUs compute with the smallest numbers again, and give back what memory is free.

    Args:
        failed: after an error, while the other ranks may be waiting for this one. To destroy NCCL's groups would wait
            for operations that the others never join, and them for this rank: they are aborted, so that it ends now.
    """
    torch.set_flush_denormal(False)
    keep_freed_memory(False)
    if not dist.is_initialized():
        return
    if failed and "nccl" in dist.get_backend_config():
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()
