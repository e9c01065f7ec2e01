"""A control socket with an answer of the test's own, and clients that speak to it byte by byte."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from vsnapfs.daemon.control import control_sockets
from vsnapfs.daemon.http import Answer, make_app
from vsnapfs.daemon.rights import Rights
from vsnapfs.repository.layout import SOCKET
from vsnapfs.repository.settings import ControlSettings

HEALTH = {"pid": 1}


@asynccontextmanager
async def answering(directory: Path, answer: Answer) -> AsyncIterator[Path]:
    """A control socket in ``directory`` whose verbs ``answer`` carries out. Yields the socket's path."""
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        async with control_sockets(directory_fd, make_app(answer, lambda: HEALTH), Rights(ControlSettings())):
            yield directory / SOCKET
    finally:
        os.close(directory_fd)


@asynccontextmanager
async def door(directory: Path, answer: Answer, rights: Rights) -> AsyncIterator[Path]:
    """As ``answering``, with a second socket for those who have ``rights``. Yields its path."""
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    others = directory / "others.sock"
    try:
        async with control_sockets(directory_fd, make_app(answer, lambda: HEALTH), rights, others):
            yield others
    finally:
        os.close(directory_fd)


async def talk(path: Path, *pieces: bytes) -> bytes:
    """Send the pieces, read until the server closes."""
    async with await trio.open_unix_socket(str(path)) as stream:
        for piece in pieces:
            await stream.send_all(piece)
        return await read_all(stream)


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the peer is gone, however it goes."""
    read = b""
    try:
        async for piece in stream:
            read += piece
    except trio.BrokenResourceError:
        pass
    return read


def head(verb: str, length: int | str, *, method: str = "POST") -> bytes:
    """The head of a request, which asks the server to close afterwards."""
    return f"{method} /v1/{verb} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()


async def ask(path: Path, verb: str, body: bytes) -> tuple[int, list[dict[str, Any]]]:
    """One whole request. Returns: the HTTP status, and the lines of the answer that are not empty."""
    return parsed(await talk(path, head(verb, len(body)), body))


def parsed(answer: bytes) -> tuple[int, list[dict[str, Any]]]:
    start, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in start.lower():
        body = unchunked(body)
    return int(start.split()[1]), [json.loads(line) for line in body.splitlines() if line]


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        body = rest[length + 2 :] if length else b""
    return whole
