"""Run functions on several real processes that talk through gloo.

The processes are copies of a server that has imported what they need, and are kept for the next call. Each call has a
process group, an environment and a random seed of its own.
"""

import atexit
import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.conftest import ROOT


class Call(NamedTuple):
    """What a process is to do, and where."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    returned: Path
    environment: dict[str, str]
    folder: Path
    search: list[str]


class Rank:
    """A process that does one call after another."""

    def __init__(self) -> None:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["tests.distributed.preloaded"])
        with contextlib.chdir(ROOT):  # where the server finds it
            ensure_running()
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,))
        self.process.start()
        other.close()  # the process's death is then the end of the pipe

    def end(self) -> None:
        self.pipe.close()
        self.process.join(5)
        self.process.kill()
        self.process.join()


_ranks: list[Rank] = []


def on_ranks(world_size: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Call `function(*arguments)` on every rank; return what each returned."""
    while len(_ranks) < world_size:
        _ranks.append(Rank())
    used, port = _ranks[:world_size], free_port()
    try:
        for number, rank in enumerate(used):
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment = {**os.environ, **address, "RANK": str(number), "WORLD_SIZE": str(world_size)}
            returned = folder / f"returned-{number}.pt"
            rank.pipe.send(Call(function, arguments, returned, environment, Path.cwd(), sys.path))
        _wait_for(used)
    except BaseException:  # also a test's time limit: what they still do, or answer, is nothing to the next call
        for rank in used:
            rank.process.kill()
        end_ranks()
        raise
    return [torch.load(folder / f"returned-{rank}.pt") for rank in range(world_size)]


def _wait_for(used: list[Rank]) -> None:
    """Wait until all have done their call, and end those that are not to be used again."""
    waiting = {rank.pipe: number for number, rank in enumerate(used)}
    while waiting:
        for pipe in wait(list(waiting)):
            number = waiting.pop(pipe)  # type: ignore[index]
            try:
                error, again = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                error, again = f"the process ended with exit code {_exit_code(used[number])}", False
            if error:
                raise RuntimeError(f"rank {number} of {len(used)}: {error}")
            if not again:
                _ranks.remove(used[number])
                used[number].end()


@atexit.register
def end_ranks() -> None:
    """End the processes that are kept: the next call starts new ones."""
    while _ranks:
        _ranks.pop().end()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _exit_code(rank: Rank) -> int | None:
    rank.process.join(5)
    return rank.process.exitcode


def _serve(pipe: Connection) -> None:
    """Do calls until the pipe is closed."""
    torch.set_num_threads(1)
    while True:
        try:
            call: Call = pipe.recv()
        except EOFError:
            return
        try:
            _do(call)
        except BaseException:
            pipe.send((traceback.format_exc(), False))
        else:
            # DeepSpeed keeps the first process group that it sees.
            pipe.send((None, sys.modules["deepspeed"].comm.comm.cdb is None))


def _do(call: Call) -> None:
    os.environ.clear()
    os.environ.update(call.environment)
    os.chdir(call.folder)
    sys.path[:] = call.search
    torch.manual_seed(0)
    dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    try:
        torch.save(call.function(*call.arguments), call.returned)
    finally:
        dist.destroy_process_group()
