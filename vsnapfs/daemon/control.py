"""Control sockets: who may connect, and the HTTP server behind them.

The one in the repository is for the server's user and root, who also alone can get at it. One elsewhere is for whom
``[control]`` of the settings names. Each peer is known by the credentials that the kernel gives (daemon.rights), and its
rights go along with its requests; who has none is told so, and not listened to.

hypercorn's own ``serve`` neither tells who connected nor ends when a peer stops reading, so connections are accepted
here and each is given to hypercorn's protocol with a bounded send. No more are accepted than are served: those who wait
do so in the kernel, where they take no descriptor of ours.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from vsnapfs.core.errors import PermissionDeniedError, VsnapfsError
from vsnapfs.daemon import listening, wire
from vsnapfs.daemon.http import App
from vsnapfs.daemon.rights import Peer, Rights, peer_of

CONNECTIONS_MAX = 64
"""Of one socket; others wait."""
CONNECTIONS_OF_USER_MAX = 16
"""Of one user on the socket for others, so that each leaves room for the next."""
SEND_S_MAX = 30.0
"""A peer that takes nothing for so long is gone."""
IDLE_S_MAX = 5
"""So long a connection may be open without a whole request head."""
GRACE_S = 2.0
"""At the end, requests under way have so long before they are cancelled."""
REFUSAL_S_MAX = 1.0
"""So long who has no right is given to read that."""
REFUSALS_MAX = 8
"""So many are told at once; others are left without a word, so that they take no places of who is heard."""
FULL_S = 0.1
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""The system has no room for a connection; there may be some in FULL_S."""

log = structlog.get_logger()


@asynccontextmanager
async def control_sockets(
    directory_fd: int, app: App, rights: Rights, others: Path | None = None
) -> AsyncIterator[None]:
    """Answer on the repository's control socket while the block runs, and on ``others``, if that is given.

    Args: directory_fd: the repository, whose lock the caller holds, so that a socket found there is a dead one.
    Resource handling: the names are removed at the end. Error handling: what daemon.listening raises.
    """
    context = WorkerContext(None)
    with ExitStack() as stack:
        name = listening.in_repository(directory_fd)
        stack.callback(name.close)
        doors = [_Door(name, app, context, rights, for_others=False)]
        if others is not None:
            others_fd = listening.open_directory(others)
            stack.callback(os.close, others_fd)
            name = listening.for_others(others_fd, others, rights.only_group)
            stack.callback(name.close)
            doors.append(_Door(name, app, context, rights, for_others=True))
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            for door in doors:
                accepting.start_soon(door.accept, connections)
            try:
                yield
            finally:
                accepting.cancel_scope.cancel()
                await context.terminated.set()
                connections.cancel_scope.deadline = trio.current_time() + GRACE_S


class _Door:
    """One listening socket."""

    def __init__(
        self, name: listening.Name, app: App, context: WorkerContext, rights: Rights, *, for_others: bool
    ) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(name.socket))
        self._app = app
        self._context = context
        self._rights = rights
        self._for_others = for_others
        self._places = trio.Semaphore(CONNECTIONS_MAX)
        self._connected: Counter[int] = Counter()
        """Connections by user."""
        self._refusing = 0

    async def accept(self, connections: trio.Nursery) -> None:
        """Until cancelled."""
        while True:
            await self._places.acquire()
            try:
                stream = await self._listener.accept()
            except OSError as error:
                self._places.release()
                if error.errno not in FULL:
                    raise
                log.warning("no connection can be taken", reason=os.strerror(error.errno))
                await trio.sleep(FULL_S)
            else:
                connections.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, to its end. Whatever breaks in it stays in it."""
        peer = peer_of(cast("Any", stream.socket))
        self._connected[peer.uid] += 1
        try:
            reason = self._reason_against(peer)
            if reason is None:
                await self._talk(stream, peer)
            else:
                log.warning("connection refused", peer_pid=peer.pid, peer_uid=peer.uid, reason=reason)
                await self._refuse(stream, peer, reason)
        finally:
            self._connected[peer.uid] -= 1
            self._connected += Counter()  # forgets who has none
            self._places.release()

    def _reason_against(self, peer: Peer) -> str | None:
        if not self._for_others:
            return None if peer.is_server else "not the server's user"
        if not self._rights.of(peer):
            return "[control] in vsnapfs.toml gives it no right"
        if self._connected[peer.uid] > CONNECTIONS_OF_USER_MAX and not peer.is_server:
            return f"it has {CONNECTIONS_OF_USER_MAX} connections already"
        return None

    async def _refuse(self, stream: trio.SocketStream, peer: Peer, reason: str) -> None:
        """Not heard at all on the repository's own socket, where it cannot come by itself; else told why."""
        if self._for_others and self._refusing < REFUSALS_MAX:
            self._refusing += 1
            with trio.move_on_after(REFUSAL_S_MAX):
                await _tell(stream, PermissionDeniedError(f"user {peer.uid} is not heard: {reason}"))
            self._refusing -= 1
        await trio.aclose_forcefully(stream)

    async def _talk(self, stream: trio.SocketStream, peer: Peer) -> None:
        state = ConnectionState({"peer": peer, "rights": self._rights.of(peer)})
        bounded = BoundedStream(stream)
        app = wrap_app(cast("Any", self._app), 0, "asgi")
        server = TCPServer(app, _config(), self._context, state, cast("Any", bounded))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_when_cancelled, stream)
                nursery.start_soon(_cancel_when_gone, bounded.gone, nursery.cancel_scope)
                await server
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("connection broke", peer_pid=peer.pid)


async def _tell(stream: trio.SocketStream, error: VsnapfsError) -> None:
    """Answer whatever is asked, and wait until the peer has gone: what it has sent and nobody has read would, when we
    close, take the answer with it."""
    line = wire.error_line(error)
    head = f"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {len(line)}\r\n\r\n"
    try:
        await stream.send_all(head.encode() + line)
        await stream.send_eof()
        while await stream.receive_some(65536):
            """Nothing of it is looked at."""
    except trio.BrokenResourceError:
        """It did not want to know."""


async def _close_when_cancelled(stream: trio.SocketStream) -> None:
    """hypercorn shields its sends, so that only closing the socket ends one whose peer does not read."""
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()


async def _cancel_when_gone(gone: trio.Event, scope: trio.CancelScope) -> None:
    """hypercorn would keep the place of a peer that has gone for as long as it may be idle."""
    await gone.wait()
    scope.cancel()


def _config() -> Config:
    config = Config()
    config.keep_alive_timeout = IDLE_S_MAX
    config.errorlog = None
    config.include_server_header = False
    return config


class BoundedStream:
    """A socket stream whose sends end after a time. The end of the stream waits for them: when the peer goes away,
    hypercorn ends it from another task than the one that sends. ``gone``: the peer sends nothing any more."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.gone = trio.Event()
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
        try:
            piece = await self._stream.receive_some(bytes_max)
        except trio.BrokenResourceError:
            self.gone.set()
            raise
        if not piece:
            self.gone.set()
        return bytes(piece)

    async def send_eof(self) -> None:
        async with self._sending:
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
