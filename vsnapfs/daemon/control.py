"""The control socket: who may connect, and the HTTP server behind it.

The socket is a path in the repository, mode 0600, made through a descriptor of the directory, so that a long path of
the repository does not meet the 108 bytes of a socket address. Each peer is also checked by its credentials: only the
server's user and root are heard.

hypercorn's own ``serve`` neither tells who connected nor ends when a peer stops reading, so connections are accepted
here and each is given to hypercorn's protocol with a bounded send.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from vsnapfs.core.errors import from_os_error
from vsnapfs.daemon.http import App
from vsnapfs.repository.layout import SOCKET

CONNECTIONS_MAX = 64
BACKLOG = 64
SEND_S_MAX = 30.0
"""A peer that takes nothing for so long is gone."""
IDLE_S_MAX = 5
"""So long a connection may be open without a whole request head."""
GRACE_S = 2.0
"""At the end, requests under way have so long before they are cancelled."""

_UCRED = struct.Struct("3i")

log = structlog.get_logger()


@asynccontextmanager
async def control_socket(directory_fd: int, app: App) -> AsyncIterator[None]:
    """Answer on REPO/control socket while the block runs.

    Args: directory_fd: the repository, whose lock the caller holds, so that a socket found there is a dead one.
    Resource handling: the socket's name is removed at the end. Error handling: StoreError and its kin from bind.
    """
    listener = _listen(directory_fd)
    context = WorkerContext(None)
    try:
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            handler = partial(_serve_peer, app, context, trio.Semaphore(CONNECTIONS_MAX))
            accepting.start_soon(partial(trio.serve_listeners, handler, [listener], handler_nursery=connections))
            try:
                yield
            finally:
                accepting.cancel_scope.cancel()
                await context.terminated.set()
                connections.cancel_scope.deadline = trio.current_time() + GRACE_S
    finally:
        _unlink(directory_fd)


def _listen(directory_fd: int) -> trio.SocketListener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _unlink(directory_fd)
        os.fchmod(sock.fileno(), 0o600)  # bind gives the name this mode, there is no moment with another
        sock.bind(f"/proc/self/fd/{directory_fd}/{SOCKET}")
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise from_os_error(error, "make the control socket") from error
    sock.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _unlink(directory_fd: int) -> None:
    try:
        os.unlink(SOCKET, dir_fd=directory_fd)
    except FileNotFoundError:
        pass


async def _serve_peer(app: App, context: WorkerContext, places: trio.Semaphore, stream: trio.SocketStream) -> None:
    """One connection, to its end. Whatever breaks in it stays in it."""
    pid, uid, _ = _UCRED.unpack(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in (0, os.geteuid()):
        log.warning("connection refused", peer_pid=pid, peer_uid=uid, reason="not the server's user")
        await trio.aclose_forcefully(stream)
        return
    async with places:
        state = ConnectionState({"peer_pid": pid, "peer_uid": uid})
        bounded: Any = BoundedStream(stream)
        server = TCPServer(wrap_app(cast("Any", app), 0, "asgi"), _config(), context, state, bounded)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_when_cancelled, stream)
                await server
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("connection broke", peer_pid=pid)


async def _close_when_cancelled(stream: trio.SocketStream) -> None:
    """hypercorn shields its sends, so that only closing the socket ends one whose peer does not read."""
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()


def _config() -> Config:
    config = Config()
    config.keep_alive_timeout = IDLE_S_MAX
    config.errorlog = None
    config.include_server_header = False
    return config


class BoundedStream:
    """A socket stream whose sends end after a time. The end of the stream waits for them: when the peer goes away,
    hypercorn ends it from another task than the one that sends."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

    @property
    def socket(self) -> Any:
        return self._stream.socket

    async def send_all(self, piece: bytes) -> None:
        with trio.move_on_after(SEND_S_MAX) as scope:
            async with self._sending:
                await self._stream.send_all(piece)
        if scope.cancelled_caught:
            self._stream.socket.close()
            raise trio.BrokenResourceError("the peer does not read")

    async def receive_some(self, bytes_max: int) -> bytes:
        return await self._stream.receive_some(bytes_max)

    async def send_eof(self) -> None:
        async with self._sending:
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
