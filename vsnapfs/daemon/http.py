"""The verbs as an ASGI application: one POST a verb, answered in lines (wire.py).

What comes through the socket is not trusted to be well-formed, complete or small, and whoever asks may go away or stop
reading at any moment. So, outside of all routing, ``Bounded`` takes a request's body in, up to a limit and a time,
and goes on reading afterwards, so that a peer that sends more cannot hold anything up.

Concurrency: a handler runs in a worker thread. When the peer goes away the request is cancelled: the next progress
report of its handler raises there, which ends the work as any error would. Without a report it runs to its end.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import structlog
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import PermissionDeniedError, UsageError, VsnapfsError
from vsnapfs.core.rights import Right
from vsnapfs.core.state import Progress
from vsnapfs.daemon import wire
from vsnapfs.daemon.api import Verb, verb_named
from vsnapfs.daemon.requests import Request
from vsnapfs.daemon.rights import Peer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Report = Callable[[Progress], None]
Answer = Callable[[Verb, Request[Any], Report], Any]
"""Carries a verb out, blocking; raises VsnapfsError."""
Wait = Callable[[Request[Any]], Awaitable[None]]
"""Returns when there is something to answer. It holds no thread; raises VsnapfsError."""

BODY_S_MAX = 10.0
"""A body that is not complete by then never will be."""
WORKERS_MAX = 16
WORKERS_OF_OTHERS_MAX = 4
"""Requests of others than the server's user and root that run at once: they never keep those waiting."""
NDJSON = "application/x-ndjson"

log = structlog.get_logger()


async def _at_once(_: Request[Any]) -> None:
    await trio.lowlevel.checkpoint()


def make_app(answer: Answer, health: Callable[[], dict[str, Any]], wait: Wait = _at_once) -> App:
    """The application. health: what GET /v1/health tells, JSON values. wait: what comes before each answer."""
    workers, workers_of_others = trio.CapacityLimiter(WORKERS_MAX), trio.CapacityLimiter(WORKERS_OF_OTHERS_MAX)

    async def tell_health(_: HttpRequest) -> Response:
        return Response(msgspec.json.encode(health()), media_type="application/json")

    async def call(request: HttpRequest) -> Response:
        try:
            verb = verb_named(request.path_params["verb"])
        except VsnapfsError as error:
            return _refuse(request, 404, error)
        peer, rights = _peer(request)
        if verb.request.right not in rights:
            return _refuse(request, 403, _missing(verb, peer))
        try:
            asked = from_json(await request.body() or b"{}", verb.request)
        except msgspec.DecodeError as error:
            return _refuse(request, 400, UsageError(f"bad request for {verb.name}: {error}"))
        if verb.request.right != "read":
            log.info("asked", verb=verb.name, peer_pid=peer.pid, peer_uid=peer.uid)
        return LinesResponse(verb, asked, answer, wait, workers if peer.is_server else workers_of_others)

    async def refuse(request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = f"{request.method} {request.url.path}: {error.detail}"
        return _refuse(request, error.status_code, UsageError(text))

    routes = [Route("/v1/health", tell_health, methods=["GET"]), Route("/v1/{verb}", call, methods=["POST"])]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse})
    app.router.redirect_slashes = False  # a path that is not ours is refused in a line, like all that is not ours
    return Bounded(app)


def _peer(request: HttpRequest) -> tuple[Peer, frozenset[Right]]:
    """Who asks, and what they may; daemon.control has put it there."""
    state = request.scope["state"]
    return state["peer"], state["rights"]


def _missing(verb: Verb, peer: Peer) -> VsnapfsError:
    right = verb.request.right
    return PermissionDeniedError(
        f"user {peer.uid} may not ask for {verb.name}, which takes the right {right!r}",
        hint=f"[control] {right} in vsnapfs.toml says who has it",
    )


def _refuse(request: HttpRequest, status: int, error: VsnapfsError) -> Response:
    peer, _ = _peer(request)
    log.warning("request refused", status=status, reason=str(error), peer_pid=peer.pid, peer_uid=peer.uid)
    return Response(wire.error_line(error), status_code=status, media_type=NDJSON)


class LinesResponse(Response):
    """Runs a verb and streams its lines. A peer that reads slowly misses progress, and never slows the work."""

    def __init__(
        self, verb: Verb, asked: Request[Any], answer: Answer, wait: Wait, workers: trio.CapacityLimiter
    ) -> None:
        super().__init__(media_type=NDJSON)
        del self.headers["content-length"]
        self._verb = verb
        self._asked = asked
        self._answer = answer
        self._wait = wait
        self._workers = workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            line = await self._stream(send)
            nursery.cancel_scope.cancel()
        if line is not None:
            # outside of the nursery: our own last send counts as the peer's going too
            await send({"type": "http.response.body", "body": line})

    async def _stream(self, send: Send) -> bytes:
        """Send progress while the verb runs. Returns: the last line."""
        put, take = trio.open_memory_channel[Progress](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_relay, take, send)
            with put:
                try:
                    await self._wait(self._asked)
                except VsnapfsError as error:
                    return wire.error_line(error)
                return await trio.to_thread.run_sync(self._work, put, limiter=self._workers)

    def _work(self, put: trio.MemorySendChannel[Progress]) -> bytes:
        """In a worker thread. Returns: the last line."""

        def report(progress: Progress) -> None:
            trio.from_thread.check_cancelled()
            trio.from_thread.run_sync(_put_or_drop, put, progress)

        try:
            return wire.result_line(self._answer(self._verb, self._asked, report))
        except VsnapfsError as error:
            log.info("verb failed", verb=self._verb.name, reason=str(error))
            return wire.error_line(error)
        except Exception as error:
            log.exception("verb broke", verb=self._verb.name)
            broke = f"{self._verb.name} broke in the server: {error!r}"
            return wire.error_line(VsnapfsError(broke, hint="see its log"))


def _put_or_drop(put: trio.MemorySendChannel[Progress], progress: Progress) -> None:
    try:
        put.send_nowait(progress)
    except trio.WouldBlock:
        pass  # the reader is behind; a later line says more than this one


async def _relay(take: trio.MemoryReceiveChannel[Progress], send: Send) -> None:
    while True:
        line = wire.KEEPALIVE
        with trio.move_on_after(wire.HEARTBEAT_S):
            try:
                line = wire.progress_line(await take.receive())
            except trio.EndOfChannel:
                return
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class Bounded:
    """Gives the application whole, small requests; refuses what is larger (413) or stalls (408)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not spoken here")
        try:
            async with trio.open_nursery() as nursery:
                body = Body(_declared_bytes(scope))
                nursery.start_soon(body.pump, receive)
                await self._answer(body, scope, _closing(send))
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("request broke", path=scope["path"])
            raise

    async def _answer(self, body: Body, scope: Scope, send: Send) -> None:
        with trio.move_on_after(BODY_S_MAX):
            await body.settled.wait()
        if body.over:
            await self._refuse(413, f"a request is at most {wire.BODY_BYTES_MAX} bytes", scope, send)
        elif not body.settled.is_set():
            await self._refuse(408, f"the request was not complete after {BODY_S_MAX:g} s", scope, send)
        elif not body.gone.is_set():
            await self._app(scope, body.receive, send)

    async def _refuse(self, status: int, text: str, scope: Scope, send: Send) -> None:
        response = _refuse(HttpRequest(scope), status, UsageError(text))
        await response(scope, _never, send)


def _closing(send: Send) -> Send:
    """One request a connection: a peer that went while hypercorn waits for its next one would keep its place for long."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return closing


class Body:
    """The body of one request, taken in by ``pump`` whatever the application does.

    ``settled``: the body is whole, too large (``over``), or the peer went away (``gone``).
    """

    def __init__(self, declared_bytes: float) -> None:
        self.over = declared_bytes > wire.BODY_BYTES_MAX
        self.settled = trio.Event()
        self.gone = trio.Event()
        self._taken = bytearray()
        self._delivered = False
        if self.over:
            self.settled.set()

    async def pump(self, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            self._take(message)
        self.gone.set()
        self.settled.set()

    def _take(self, message: Message) -> None:
        if self.over:
            return
        self._taken += message.get("body", b"")
        self.over = len(self._taken) > wire.BODY_BYTES_MAX
        if self.over or not message.get("more_body", False):
            self.settled.set()

    async def receive(self) -> Message:
        """ASGI receive: the body in one piece, then the peer's going."""
        if not self._delivered:
            self._delivered = True
            return {"type": "http.request", "body": bytes(self._taken), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def _never() -> Message:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


def _declared_bytes(scope: Scope) -> float:
    """What Content-Length says; 0 without one, infinite for nonsense (h11 lets none through, other servers may)."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() and len(value) <= 20 else math.inf
    return 0
