"""The control socket with clients that are right, wrong, rude or broken: what they get; and the server lives on."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.unit.daemon.socket_talk import HEALTH, answering, ask, head, parsed, read_all, talk
from vsnapfs.core.errors import BusyError, NotFoundError
from vsnapfs.core.state import Progress
from vsnapfs.daemon import control, http, wire
from vsnapfs.daemon.api import Report, Verb
from vsnapfs.daemon.requests import BookmarkRemove, Committed, Request
from vsnapfs.daemon.rights import Peer

pytestmark = pytest.mark.unit


def committed(_verb: Verb, _request: Request[Any], _report: Report) -> Committed:
    return Committed(seqno=7)


OK = (200, [{"result": {"seqno": 7}}])


async def assert_alive(path: Path) -> None:
    assert await ask(path, "commit", b"{}") == OK


async def test_a_verb_is_answered(tmp_path: Path) -> None:
    async with answering(tmp_path, committed) as path:
        assert await ask(path, "commit", b"{}") == OK
        assert await ask(path, "commit", b"") == OK


async def test_health(tmp_path: Path) -> None:
    async with answering(tmp_path, committed) as path:
        assert parsed(await talk(path, head("health", 0, method="GET"))) == (200, [HEALTH])


async def test_the_request_reaches_the_handler_typed(tmp_path: Path) -> None:
    asked = []

    def answer(verb: Verb, request: Request[Any], _: Report) -> Committed:
        asked.append((verb.name, request))
        return Committed(seqno=1)

    async with answering(tmp_path, answer) as path:
        await ask(path, "bookmark_remove", b'{"name": "monday"}')
    assert asked == [("bookmark_remove", BookmarkRemove(name="monday"))]


async def test_progress_comes_before_the_result(tmp_path: Path) -> None:
    """Each report waits until the one before has been read, so none is dropped."""
    seen = threading.Semaphore(0)

    def answer(_verb: Verb, _request: Request[Any], report: Report) -> Committed:
        for done in range(3):
            report(Progress(what="copy", done=done, total=3))
            assert seen.acquire(timeout=10)
        return Committed(seqno=1)

    async with answering(tmp_path, answer) as path, await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(head("commit", 0))
        read = b""
        async for piece in stream:
            read += piece
            for _ in range(piece.count(b"progress")):
                seen.release()
    lines = parsed(read)[1]
    assert [line["progress"]["done"] for line in lines[:-1]] == [0, 1, 2]
    assert lines[-1] == {"result": {"seqno": 1}}


async def test_a_reader_that_is_slow_does_not_slow_the_work(tmp_path: Path) -> None:
    finished = trio.Event()

    def answer(_verb: Verb, _request: Request[Any], report: Report) -> Committed:
        for done in range(20_000):
            report(Progress(what="x" * 400, done=done, total=20_000))
        trio.from_thread.run_sync(finished.set)
        return Committed(seqno=1)

    async with answering(tmp_path, answer) as path, await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(head("commit", 0))
        with trio.fail_after(30):
            await finished.wait()
        assert parsed(await read_all(stream))[1][-1] == {"result": {"seqno": 1}}


async def test_silence_is_broken_by_empty_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEARTBEAT_S", 0.01)
    goes_on = threading.Event()

    def answer(_verb: Verb, _request: Request[Any], _report: Report) -> Committed:
        assert goes_on.wait(10)
        return Committed(seqno=1)

    async with answering(tmp_path, answer) as path, await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(head("commit", 0))
        read = b""
        while read.count(b"1\r\n\n\r\n") < 3:
            read += await stream.receive_some()
        goes_on.set()
        assert parsed(read + await read_all(stream)) == (200, [{"result": {"seqno": 1}}])


async def test_an_error_of_a_verb_keeps_its_kind_and_fields(tmp_path: Path) -> None:
    def answer(_verb: Verb, _request: Request[Any], _report: Report) -> Committed:
        raise BusyError("bookmark 'a' is held", hint="release it")

    async with answering(tmp_path, answer) as path:
        status, [line] = await ask(path, "commit", b"{}")
    assert status == 200
    assert line["error"] == {
        "kind": "BusyError",
        "exit_status": 5,
        "message": "bookmark 'a' is held",
        "fields": {"hint": "release it"},
    }


async def test_a_defect_in_a_verb_is_one_error_and_a_traceback_in_the_log(tmp_path: Path) -> None:
    def answer(_verb: Verb, request: Request[Any], _report: Report) -> Committed:
        if isinstance(request, BookmarkRemove):
            raise ZeroDivisionError("oops")
        return Committed(seqno=7)

    with capture_logs() as logs:
        async with answering(tmp_path, answer) as path:
            _, [line] = await ask(path, "bookmark_remove", b'{"name": "a"}')
            await assert_alive(path)
    assert (line["error"]["exit_status"], "oops" in line["error"]["message"]) == (1, True)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["verb broke"]


@pytest.mark.parametrize(
    ("verb", "body", "status", "text"),
    [
        ("bookmark_ad", b"{}", 404, "no verb 'bookmark_ad'"),
        ("commit", b"{", 400, "bad request for commit"),
        ("commit", b"\xff\xfe", 400, "bad request for commit"),
        ("commit", b"[" * 100_000, 400, "bad request for commit"),
        ("commit", b"{" + b'"a":{' * 100_000, 400, "bad request for commit"),
        ("commit", b"[]", 400, "bad request for commit"),
        ("commit", b'{"colour": 1}', 400, "unknown field `colour`"),
        ("bookmark_remove", b"{}", 400, "missing required field `name`"),
        ("bookmark_remove", b'{"name": 7}', 400, "Expected `str`, got `int`"),
        ("volume_resize", b'{"name": "a", "size_bytes": 1e400}', 400, "bad request for volume_resize"),
        ("", b"{}", 404, "Not Found"),
        ("../../etc/passwd", b"{}", 404, "Not Found"),
    ],
)
async def test_a_bad_request_gets_one_line(tmp_path: Path, verb: str, body: bytes, status: int, text: str) -> None:
    with capture_logs() as logs:
        async with answering(tmp_path, committed) as path:
            got, [line] = await ask(path, verb, body)
            await assert_alive(path)
    assert (got, text in line["error"]["message"]) == (status, True), line
    told = [(entry["event"], entry["peer_pid"]) for entry in logs if entry["log_level"] == "warning"]
    assert told == [("request refused", os.getpid())]


async def test_the_wrong_method_gets_405(tmp_path: Path) -> None:
    async with answering(tmp_path, committed) as path:
        status, [line] = parsed(await talk(path, head("commit", 0, method="GET")))
        assert (status, line["error"]["exit_status"]) == (405, 2)


@pytest.mark.parametrize("length", [wire.BODY_BYTES_MAX + 1, 4 << 30, 10**19])
async def test_a_length_over_the_limit_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(5):
            answer = await talk(path, head("commit", length))
        assert answer.startswith(b"HTTP/1.1 413")
        await assert_alive(path)


async def test_the_largest_body_is_taken(tmp_path: Path) -> None:
    async with answering(tmp_path, committed) as path:
        assert await ask(path, "commit", b"{}" + b" " * (wire.BODY_BYTES_MAX - 2)) == OK


async def test_an_endless_chunked_body_is_refused_and_holds_nothing_up(tmp_path: Path) -> None:
    chunked = b"POST /v1/commit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(10):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(chunked)
                with pytest.raises(trio.BrokenResourceError):
                    await send_for_ever(stream, chunk)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 413")
        await assert_alive(path)


async def send_for_ever(stream: trio.SocketStream, piece: bytes) -> None:
    while True:
        await stream.send_all(piece)


async def test_a_body_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(tmp_path, committed) as path:
        with monkeypatch.context() as quick, trio.fail_after(20):
            quick.setattr(http, "BODY_S_MAX", 0.05)
            assert (await talk(path, head("commit", 100), b"{")).startswith(b"HTTP/1.1 408")
        await assert_alive(path)


async def test_a_head_that_stalls_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(tmp_path, committed) as path:
        with monkeypatch.context() as quick, trio.fail_after(20):
            quick.setattr(control, "IDLE_S_MAX", 0.05)
            assert await talk(path, b"POST /v1/comm") == b""
            assert await talk(path) == b""
        await assert_alive(path)


@pytest.mark.parametrize(
    "noise",
    [b"\0" * 100, b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000, b"PRI * HTTP/2.0\r\n\r\nxxxx"],
)
async def test_noise_is_closed(tmp_path: Path, noise: bytes) -> None:
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(10):
            try:
                answer = await talk(path, noise + b"\r\n\r\n")
            except trio.BrokenResourceError:
                answer = b""
        assert not answer.startswith((b"HTTP/1.1 1", b"HTTP/1.1 2"))
        await assert_alive(path)


async def test_websockets_are_not_spoken(tmp_path: Path) -> None:
    upgrade = (
        b"GET /v1/commit HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(10):
            assert not (await talk(path, upgrade)).startswith(b"HTTP/1.1 101")
        await assert_alive(path)


async def test_the_work_ends_when_the_peer_goes(tmp_path: Path) -> None:
    """At its next report; what the verb undoes then is its own business."""
    undone = threading.Event()

    def answer(_verb: Verb, request: Request[Any], report: Report) -> Committed:
        if not isinstance(request, BookmarkRemove):
            return Committed(seqno=7)
        try:
            while True:
                report(Progress(what="x", done=0, total=1))
        finally:
            undone.set()

    async with answering(tmp_path, answer) as path:
        body = b'{"name": "a"}'
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(head("bookmark_remove", len(body)) + body)
            await stream.receive_some()
        assert await trio.to_thread.run_sync(undone.wait, 10)
        await assert_alive(path)


async def test_at_the_end_work_is_cancelled_after_a_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRACE_S", 0.05)
    started = trio.Event()

    def answer(_verb: Verb, _request: Request[Any], report: Report) -> Committed:
        trio.from_thread.run_sync(started.set)
        while True:
            report(Progress(what="x", done=0, total=1))

    with trio.fail_after(10):
        async with answering(tmp_path, answer) as path:
            stream = await trio.open_unix_socket(str(path))
            await stream.send_all(head("commit", 0))
            await started.wait()
        await stream.aclose()


async def test_at_the_end_a_peer_that_does_not_read_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "GRACE_S", 0.05)
    answered = trio.Event()

    def answer(_verb: Verb, _request: Request[Any], _report: Report) -> str:
        trio.from_thread.run_sync(answered.set)
        return "x" * 10_000_000

    with trio.fail_after(10):
        async with answering(tmp_path, answer) as path:
            stream = await trio.open_unix_socket(str(path))
            await stream.send_all(head("commit", 0))
            await answered.wait()
            await stream.receive_some(1)
        await stream.aclose()


async def test_a_peer_that_does_not_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one place, so that another peer is heard only when this one was given up; its own answer has that time too."""
    monkeypatch.setattr(control, "SEND_S_MAX", 1.0)
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 1)

    def answer(_verb: Verb, request: Request[Any], _report: Report) -> object:
        return "x" * 10_000_000 if isinstance(request, BookmarkRemove) else Committed(seqno=7)

    async with answering(tmp_path, answer) as path:
        body = b'{"name": "a"}'
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(head("bookmark_remove", len(body)) + body)
            await stream.receive_some(1)
            with trio.fail_after(20):
                await assert_alive(path)
                assert len(await read_all(stream)) < 10_000_000


async def test_a_connection_is_for_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the peer wants to keep it, and goes without a word: it must not keep its place."""
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 1)
    keeping = b"POST /v1/commit HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(control.IDLE_S_MAX):
            for _ in range(5):
                assert parsed(await talk(path, keeping)) == OK


async def test_more_peers_than_places_wait_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 2)
    async with answering(tmp_path, committed) as path:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(assert_alive, path)


async def test_another_user_is_refused_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials are the kernel's; the test makes the server another user's."""
    monkeypatch.setattr(control, "peer_of", lambda _: Peer(99, 12345, frozenset({12345})))
    with capture_logs() as logs:
        async with answering(tmp_path, committed) as path:
            with trio.fail_after(5):
                assert await talk(path) == b""
    assert logs == [
        {
            "event": "connection refused",
            "log_level": "warning",
            "peer_pid": 99,
            "peer_uid": 12345,
            "reason": "not the server's user",
        }
    ]


async def test_the_socket_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with answering(tmp_path, committed) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()
    finally:
        os.umask(old)


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    async with answering(tmp_path, committed) as path:
        os.link(path, tmp_path / "kept")
    (tmp_path / "kept").rename(path)
    async with answering(tmp_path, committed):
        await assert_alive(path)


async def test_a_repository_with_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    directory_fd = os.open(deep, os.O_PATH)
    try:
        async with answering(deep, committed):
            await assert_alive(Path(f"/proc/self/fd/{directory_fd}") / "vsnapfs.sock")
    finally:
        os.close(directory_fd)


async def test_a_directory_where_the_socket_should_be_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "vsnapfs.sock").mkdir()
    with pytest.raises(Exception, match="control socket") as caught:
        async with answering(tmp_path, committed):
            pass
    assert not isinstance(caught.value, NotFoundError)
