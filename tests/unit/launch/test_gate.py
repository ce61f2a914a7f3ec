"""Who knows the job's token reaches the store behind the gate, and nobody else does."""

import asyncio
import os
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

import pytest

from launch import gate

TOKEN = b"of this job"
Visitor = Callable[[int], Awaitable[bytes]]


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def visit(visitor: Visitor, *, token: bytes = TOKEN) -> tuple[bytes, list[bytes]]:
    """Let somebody talk to a gate; return what they were answered, and what came through to the store."""
    came: list[bytes] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        came.append(await reader.read(1024))
        writer.write(b"the store")
        await writer.drain()
        writer.close()

    async def run() -> bytes:
        store, outer = listener(), listener()
        async with (
            await asyncio.start_server(answer, sock=store),
            await gate.serve_gate(outer, port_of(store), token),
        ):
            return await asyncio.wait_for(visitor(port_of(outer)), 5)

    return asyncio.run(run()), came


async def through_a_way(port: int, token: bytes) -> bytes:
    inner = listener()
    async with await gate.serve_way(inner, "127.0.0.1", port, token):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(inner))
        writer.write(b"hello")
        said = await reader.read(1024)
        writer.close()
        return said


async def said_to_the_gate(port: int, words: bytes) -> bytes:
    """Say something of one's own to the gate; return its answer after its number."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readexactly(32)
    writer.write(words)
    writer.write_eof()
    try:
        said = await reader.read()
    except ConnectionResetError:
        said = b""
    writer.close()
    return said


def test_who_knows_the_token_reaches_the_store() -> None:
    assert visit(lambda port: through_a_way(port, TOKEN)) == (b"the store", [b"hello"])


def test_a_wrong_token_does_not() -> None:
    assert visit(lambda port: through_a_way(port, b"of another job")) == (b"", [])


@pytest.mark.parametrize("words", [b"", b"hello", bytes(64), os.urandom(4096)])
def test_who_says_something_else_does_not(words: bytes) -> None:
    assert visit(lambda port: said_to_the_gate(port, words)) == (b"", [])


def test_what_was_overheard_does_not_open_the_gate_again() -> None:
    overheard: list[bytes] = []

    async def twice(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number, ours = await reader.readexactly(32), bytes(32)
        overheard.append(ours + gate.prove(TOKEN, b"client", number, ours))
        writer.write(overheard[0] + b"hello")
        assert (await reader.readexactly(32 + len("the store")))[32:] == b"the store"
        writer.close()
        return await said_to_the_gate(port, overheard[0] + b"again")

    assert visit(twice) == (b"", [b"hello"])


def test_a_stranger_who_listens_in_the_gates_place_is_told_nothing() -> None:
    told: list[bytes] = []

    async def stranger(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(bytes(32))
        await reader.readexactly(64)
        writer.write(bytes(32))
        told.append(await reader.read(1024))
        writer.close()

    async def run() -> bytes:
        outer = listener()
        async with await asyncio.start_server(stranger, sock=outer):
            return await through_a_way(port_of(outer), TOKEN)

    assert asyncio.run(run()) == b""
    assert told == [b""]
