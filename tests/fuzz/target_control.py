"""Requests on the control socket: the application as the server runs it, without a socket and with nothing behind it.

The first line is the verb as it stands in the path, the rest the body, in one piece or, if the line ends in ``+``, in two. Every answer
has a status of HTTP that fits and ends in one line that is a result or an error; what
reaches a handler is a request of the verb's own type,
which is the same when it is written and read again; names and points in it are understood or refused as everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import atheris
import msgspec
import structlog
import trio

with atheris.instrument_imports(include=["vsnapfs"]):
    from vsnapfs.core import points
    from vsnapfs.core.errors import UsageError, VsnapfsError
    from vsnapfs.core.names import check_name
    from vsnapfs.core.rights import EVERY_RIGHT
    from vsnapfs.daemon import http, wire
    from vsnapfs.daemon.api import VERBS, Verb
    from vsnapfs.daemon.rights import Peer

from tests.fuzz.python_target import main, one_line

STATUSES = {200, 400, 404, 405, 413}
ROOT = Peer(pid=1, uid=0, gids=frozenset())
POINTS = ("point", "at", "since", "until", "text")


def answer(verb: Verb, asked: Any, _: Callable[[Any], None]) -> Any:
    assert type(asked) is verb.request
    assert msgspec.json.decode(msgspec.json.encode(asked), type=verb.request) == asked
    for field in POINTS:
        if isinstance(getattr(asked, field, None), str):
            points.parse_point(getattr(asked, field))
    name = getattr(asked, "name", None)
    if isinstance(name, str):
        check_name(name, "volume")
    if verb.name == "commit":
        raise UsageError("nothing is behind this")
    return asked


class Call:
    """One request as the server behind the socket hands it on, and what was answered."""

    def __init__(self, path: str, pieces: list[bytes]) -> None:
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
            "raw_path": path.encode(errors="replace"), "query_string": b"", "root_path": "", "headers": [],
            "state": {"peer": ROOT, "rights": EVERY_RIGHT},
        }  # fmt: skip
        self._pieces = pieces
        self.statuses: list[int] = []
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            await trio.sleep_forever()
        return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
        self.body += message.get("body", b"")


async def ask(app: Callable[..., Awaitable[None]], call: Call) -> None:
    with trio.fail_after(15):
        await app(call.scope, call.receive, call.send)


def run(content: bytes) -> None:
    verb, _, body = content.partition(b"\n")
    half = len(body) // 2
    pieces = [body[:half], body[half:]] if verb.endswith(b"+") else [body]
    call = Call("/v1/" + verb.removesuffix(b"+").decode(errors="replace"), pieces)
    trio.run(ask, APP, call)
    assert len(call.statuses) == 1, call.statuses
    assert call.statuses[0] in STATUSES, call.statuses
    lines = call.body.splitlines()
    last = wire.read_line(lines[-1])
    assert (last.error is None) == bool(last.result), lines[-1]
    assert (call.statuses[0] == 200) or last.error is not None
    if last.error is not None:
        error = wire.error_of(last.error)
        one_line(error)
        assert "broke in the server" not in str(error), error
        assert isinstance(error, VsnapfsError)


structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
APP = http.make_app(answer, lambda: {"protected": True})
WORDS = (
    *(name.encode() + b"\n" for name in VERBS),
    *(f'"{field}"'.encode() for field in ("name", "size_bytes", "primary", "block_size_bytes", "point", "removed", "at", "consistency",
      "application", "note", "images", "bookmark", "since", "until", "volume", "read_data", "text")),
    b'"db0"', b'"latest"', b'"crash"', b'"@1"', b"health", b"%2e%2e", b"+\n",
)  # fmt: skip

if __name__ == "__main__":
    main(run, WORDS)
