"""Run a function on several real processes that talk through gloo."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(world_size: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Call `function(*arguments)` on every rank; return what each returned."""
    mp.start_processes(_enter, (world_size, free_port(), function, folder, arguments), world_size, start_method="spawn")
    return [torch.load(folder / f"returned-{rank}.pt") for rank in range(world_size)]


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _enter(rank: int, world_size: int, port: int, function: Callable[..., Any], folder: Path, arguments: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        torch.save(function(*arguments), folder / f"returned-{rank}.pt")
    finally:
        dist.destroy_process_group()
