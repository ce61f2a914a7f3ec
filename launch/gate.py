"""The way to a store on another node: `python -m launch.gate`, one process beside each agent or rank of a Slurm job.

PyTorch's store knows no password. So it listens on the first node's loopback interface alone, and its port in the
cluster's network is this program's: it hands on the bytes of those who prove that they know the job's token, and of
nobody else. On the other nodes it listens on loopback, and proves that for the processes there. Each side proves it to
the other by a code (HMAC-SHA256) over numbers of both, so that nothing that was overheard opens the gate again. What
follows is not encrypted.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import os
import resource
import secrets
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

from bigtrain.core.signals import blocked_signals

TOKEN = "BIGTRAIN_MEETING_TOKEN"  # noqa: S105 - the variable's name
"""The variable that holds the job's token: the batch script makes one for each life of a job."""
_SIZE = 32
"""Bytes of a number and of a proof."""
_HANDSHAKE_SECONDS = 10.0
_PATIENCE_SECONDS = 600.0
"""How long a gate or a store that does not answer yet is asked again: nodes start at different times."""
_WAITING = 1024
"""Connections that may wait to be taken: all ranks come at once."""


class RefusedError(ConnectionError):
    """The other side does not know the token."""


def prove(token: bytes, side: bytes, *numbers: bytes) -> bytes:
    """Return what only a side that knows the token can say to these numbers."""
    return hmac.digest(token, side + b"".join(numbers), hashlib.sha256)


async def let_in(reader: StreamReader, writer: StreamWriter, token: bytes) -> None:
    """See that who has connected knows the token, and show that this side does.

    Raises:
        RefusedError: it does not.
    """
    ours = secrets.token_bytes(_SIZE)
    writer.write(ours)
    theirs, proof = await _read(reader, 2)
    if not hmac.compare_digest(proof, prove(token, b"client", ours, theirs)):
        raise RefusedError("it does not know the job's token")
    writer.write(prove(token, b"server", ours, theirs))


async def ask_for_entry(reader: StreamReader, writer: StreamWriter, token: bytes) -> None:
    """Show a gate that this side knows the token, and see that the gate does.

    Raises:
        RefusedError: it does not, or does not believe it.
    """
    ours = secrets.token_bytes(_SIZE)
    (theirs,) = await _read(reader, 1)
    writer.write(ours + prove(token, b"client", theirs, ours))
    (proof,) = await _read(reader, 1)
    if not hmac.compare_digest(proof, prove(token, b"server", theirs, ours)):
        raise RefusedError("it is not the gate of this job")


async def _read(reader: StreamReader, count: int) -> list[bytes]:
    try:
        found = await asyncio.wait_for(reader.readexactly(count * _SIZE), _HANDSHAKE_SECONDS)
    except (TimeoutError, asyncio.IncompleteReadError):
        raise RefusedError("the other side does not answer") from None
    return [found[place : place + _SIZE] for place in range(0, len(found), _SIZE)]


async def serve_gate(listener: socket.socket, port: int, token: bytes) -> asyncio.Server:
    """Hand on who knows the token to a port of this machine."""

    async def on_connection(reader: StreamReader, writer: StreamWriter) -> None:
        await let_in(reader, writer, token)
        inner = await _connect("127.0.0.1", port)
        await _hand_on((reader, writer), inner)

    return await asyncio.start_server(_closing(on_connection), sock=listener, backlog=_WAITING)


async def serve_way(listener: socket.socket, host: str, port: int, token: bytes) -> asyncio.Server:
    """Hand on processes of this machine to a gate on another one."""

    async def on_connection(reader: StreamReader, writer: StreamWriter) -> None:
        outer = await _connect(host, port)
        try:
            await ask_for_entry(*outer, token)
            await _hand_on((reader, writer), outer)
        finally:
            outer[1].close()

    return await asyncio.start_server(_closing(on_connection), sock=listener, backlog=_WAITING)


Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def _closing(handler: Handler) -> Handler:
    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (OSError, RefusedError):
            pass  # whoever waits at the other end is told by the end of the connection
        finally:
            writer.close()

    return handle


async def _connect(host: str, port: int) -> tuple[StreamReader, StreamWriter]:
    """Connect, again and again while nobody listens there yet.

    Raises:
        OSError: nobody does for ten minutes.
    """
    end = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.open_connection(host, port)
        except OSError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.1)


async def _hand_on(one: tuple[StreamReader, StreamWriter], other: tuple[StreamReader, StreamWriter]) -> None:
    """Copy bytes both ways until one side ends."""
    ways = [asyncio.create_task(_copy(one[0], other[1])), asyncio.create_task(_copy(other[0], one[1]))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    other[1].close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def open_gate(host: str, port: int, token: str) -> int:
    """Start the first node's gate; return the port of the loopback interface at which the store is to listen."""
    with _listen_at(host, port) as outer, socket.create_server(("127.0.0.1", 0)) as inner:
        inner_port: int = inner.getsockname()[1]
        _start(outer, token, f"--to={inner_port}")
        return inner_port


def open_way(host: str, port: int, token: str) -> int:
    """Start another node's way to the gate; return its port of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0), backlog=_WAITING) as inner:
        _start(inner, token, f"--gate={host}", f"--port={port}")
        inner_port: int = inner.getsockname()[1]
        return inner_port


def _listen_at(host: str, port: int) -> socket.socket:
    """Listen at an address of this machine that other nodes know by its name; at all where it is not known here.

    Where a distribution's /etc/hosts maps a machine's name to 127.0.1.1, it does not tell which address others use.
    """
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        named_only = str(address[0]).startswith("127.") and str(address[0]) != host
        try:
            if not named_only:
                return socket.create_server(address[:2], family=family, backlog=_WAITING)
        except OSError:
            continue
    return socket.create_server(("", port), backlog=_WAITING)


def _start(listener: socket.socket, token: str, *words: str) -> None:
    """Start this program for a socket; it ends with this process, or with what this process becomes."""
    with blocked_signals():  # Slurm signals all processes of a job, and ranks that save need the store until they end
        subprocess.Popen(
            [sys.executable, "-m", "launch.gate", f"--listener={listener.fileno()}", f"--parent={os.getpid()}", *words],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, TOKEN: token},
        )


async def _run(options: argparse.Namespace, token: bytes) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # each connection needs two, each rank has two connections, and the usual limit is 1,024
        with contextlib.suppress(OSError, ValueError):  # macOS caps it below the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket(fileno=options.listener)
    if options.gate is None:
        server = await serve_gate(listener, options.to, token)
    else:
        server = await serve_way(listener, options.gate, options.port, token)
    while server.is_serving() and os.getppid() == options.parent:
        await asyncio.sleep(0.5)


def main() -> None:
    """Serve until the process that has started this one is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener", type=int, required=True, help="the number of an open socket")
    parser.add_argument("--parent", type=int, required=True, help="the process that starts this one")
    parser.add_argument("--to", type=int, help="port of the store on this machine")
    parser.add_argument("--gate", help="address of another node's gate")
    parser.add_argument("--port", type=int, help="of that gate")
    asyncio.run(_run(parser.parse_args(), os.environ.pop(TOKEN).encode()))


if __name__ == "__main__":
    main()
