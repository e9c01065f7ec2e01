"""The client: who answers a call, and that errors are the same from either."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.daemon.socket_talk import answering
from vsnapfs.core.errors import (
    FormatUnknownError,
    LockedError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TimedOutError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.core.model import Bookmark, Point
from vsnapfs.core.state import Progress
from vsnapfs.daemon import client as client_module
from vsnapfs.daemon import requests as ask
from vsnapfs.daemon import wire
from vsnapfs.daemon.api import Report, Verb
from vsnapfs.daemon.client import connect, connect_socket, create
from vsnapfs.daemon.requests import Request
from vsnapfs.repository.layout import SOCKET
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit
in_thread = trio.to_thread.run_sync
MIB = 1 << 20


@pytest.fixture
def path(memory_path: Path) -> Path:
    """A repository with a thin volume ``db``."""
    path = memory_path / "repository"
    create(path)
    connect(path).call(ask.VolumeAdd(name="db", size_bytes=MIB))
    return path


def test_create_says_which_repository_it_made(memory_path: Path) -> None:
    uuid = create(memory_path / "new")
    with Repository.open(memory_path / "new", owner=False) as repository:
        assert repository.uuid == uuid


def test_without_a_server_the_command_does_it_itself(path: Path) -> None:
    made = connect(path).call(ask.BookmarkAdd(name="monday", note="x"))
    assert connect(path).call(ask.BookmarkList()).bookmarks == [made]
    assert not connect(path).is_served()


def test_reading_verbs_take_no_lock(path: Path) -> None:
    with Repository.open(path, owner=True):
        assert [volume.name for volume in connect(path).call(ask.VolumeList()).volumes] == ["db"]
        assert connect(path).call(ask.Verify()).damages == []


def test_changing_verbs_say_who_has_the_lock(path: Path) -> None:
    with Repository.open(path, owner=True), pytest.raises(LockedError) as caught:
        connect(path).call(ask.BookmarkAdd(name="monday"))
    assert caught.value.pid == os.getpid()


def test_status_without_a_server_is_not_protected(path: Path) -> None:
    status = connect(path).call(ask.GetStatus())
    assert (status.served, status.protected) == (False, False)
    assert "no server runs" in status.problems[0]


def test_status_without_a_server_and_without_primaries_is_fine(memory_path: Path) -> None:
    create(memory_path / "new")
    image = memory_path / "image"
    image.write_bytes(bytes(MIB))
    assert connect(memory_path / "new").call(ask.GetStatus()).protected
    connect(memory_path / "new").call(ask.Import(images={"db": str(image)}, bookmark="a"))
    assert connect(memory_path / "new").call(ask.GetStatus()).protected


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, NotFoundError),
        (lambda path: path.mkdir(), NotFoundError),
        (lambda path: path.write_text("x"), FormatUnknownError),
    ],
    ids=["missing", "empty", "a file"],
)
def test_what_is_no_repository(tmp_path: Path, make: Any, error: type[VsnapfsError]) -> None:
    make(tmp_path / "x")
    with pytest.raises(error):
        connect(tmp_path / "x").call(ask.BookmarkList())


class Recorder:
    """An answer that keeps what it was asked."""

    def __init__(self, result: Any) -> None:
        self.asked: list[Request[Any]] = []
        self._result = result

    def __call__(self, _verb: Verb, request: Request[Any], report: Report) -> Any:
        self.asked.append(request)
        if isinstance(self._result, VsnapfsError):
            raise self._result
        return self._result


MIDNIGHT = "2026-11-23T00:00:00.000000000Z"
MONDAY = Bookmark(
    name="monday",
    seqno=3,
    time=MIDNIGHT,
    time_ns=1,
    consistency="crash",
    created_seqno=3,
    created=MIDNIGHT,
    created_ns=1,
)


async def test_a_server_answers_if_there_is_one(tmp_path: Path) -> None:
    recorder = Recorder(MONDAY)
    async with answering(tmp_path, recorder):
        assert await in_thread(connect(tmp_path).call, ask.BookmarkAdd(name="monday")) == MONDAY
        assert await in_thread(connect(tmp_path).is_served)
    assert recorder.asked == [ask.BookmarkAdd(name="monday")]


async def test_the_server_s_errors_are_raised_here(tmp_path: Path) -> None:
    async with answering(tmp_path, Recorder(NotFoundError("no bookmark 'mondy'", near=["monday"]))):
        with pytest.raises(NotFoundError, match="no bookmark 'mondy'; did you mean monday"):
            await in_thread(connect(tmp_path).call, ask.BookmarkShow(name="mondy"))


async def test_the_server_s_progress_is_reported_here(tmp_path: Path) -> None:
    seen: list[Progress] = []

    def answer(_verb: Verb, _request: Request[Any], report: Report) -> Bookmark:
        report(Progress(what="copy", done=1, total=2))
        return MONDAY

    async with answering(tmp_path, answer):
        await in_thread(connect(tmp_path).call, ask.BookmarkAdd(name="monday"), seen.append)
    assert seen == [Progress(what="copy", done=1, total=2)]


async def test_what_reads_much_is_done_here_after_the_server_committed(path: Path) -> None:
    """The server is a recorder: a diff that went through it would not have come back as one."""
    recorder = Recorder(ask.Committed(seqno=1))
    async with answering(path, recorder):
        answer = await in_thread(connect(path).call, ask.Diff(since="@1", until="@1"))
    assert recorder.asked == [ask.Commit()]
    assert [diff.volume for diff in answer.diffs] == ["db"]


@pytest.mark.parametrize("failure", [NoSpaceError("full"), StoreError("the journal failed")])
async def test_a_server_that_cannot_commit_hides_nothing(path: Path, failure: VsnapfsError) -> None:
    async with answering(path, Recorder(failure)):
        assert (await in_thread(connect(path).call, ask.Verify())).damages == []


async def test_an_answer_that_is_not_understood(tmp_path: Path) -> None:
    async with answering(tmp_path, Recorder({"colour": "red"})):
        with pytest.raises(StoreError, match="cannot read the server's answer to resolve"):
            await in_thread(connect(tmp_path).call, ask.Resolve(text="latest"))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A server that is none: it listens, and does what a test makes it do."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / SOCKET))
        sock.listen(0)
        yield sock


@pytest.fixture
def answers(listener: socket.socket) -> Iterator[Callable[[bytes], None]]:
    """answers(bytes): the listener takes one connection, reads what comes, says that and hangs up."""
    threads: list[threading.Thread] = []

    def say(answer: bytes) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100_000)
            peer.sendall(answer)

    def begin(answer: bytes) -> None:
        threads.append(threading.Thread(target=say, args=(answer,)))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", OK[:20], OK, OK + wire.progress_line(Progress(what="x", done=1, total=2))])
def test_a_server_that_dies_before_it_has_answered(
    tmp_path: Path, answers: Callable[[bytes], None], answer: bytes
) -> None:
    answers(answer)
    with pytest.raises(StoreError, match="ended before it had answered resolve"):
        connect(tmp_path).call(ask.Resolve(text="latest"))


def test_a_server_that_is_silent(tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes the connection for it; nobody ever answers."""
    monkeypatch.setattr(wire, "SILENCE_S_MAX", 0.05)
    with pytest.raises(TimedOutError, match="did not answer resolve"):
        connect(tmp_path).call(ask.Resolve(text="latest"))


def test_a_server_that_takes_no_connections(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_S_MAX", 0.05)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(tmp_path / SOCKET))  # fills the queue of one
        with pytest.raises(TimedOutError, match="does not take connections"):
            connect(tmp_path).call(ask.Resolve(text="latest"))


@pytest.mark.requires_root
def test_a_server_of_somebody_else(memory_path: Path) -> None:
    memory_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(memory_path / SOCKET))
        sock.listen()
        (memory_path / SOCKET).chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionDeniedError, match="not allowed to ask the server"):
                connect(memory_path).call(ask.Resolve(text="latest"))
        finally:
            os.seteuid(0)


def test_a_socket_that_a_crash_left_counts_for_nothing(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / SOCKET))
    assert isinstance(connect(path).call(ask.Resolve(text="@1")), Point)


async def test_a_symlink_in_the_place_of_the_socket_is_not_followed(path: Path, tmp_path: Path) -> None:
    """Whoever made a repository could have us speak to any other socket of the machine."""
    recorder = Recorder(ask.Bookmarks(bookmarks=[]))
    async with answering(tmp_path, recorder) as elsewhere:
        (path / SOCKET).symlink_to(elsewhere)
        assert (await in_thread(connect(path).call, ask.BookmarkList())).bookmarks == []
        assert recorder.asked == []
        (tmp_path / "link").symlink_to(elsewhere)
        await in_thread(connect_socket(tmp_path / "link").call, ask.BookmarkList())
        assert len(recorder.asked) == 1, "who names it may name it so"


async def test_an_argument_that_is_no_text_is_wrong_usage(tmp_path: Path) -> None:
    """What the shell gave was not UTF-8; a server would have to guess."""
    recorder = Recorder(MONDAY)
    async with answering(tmp_path, recorder):
        with pytest.raises(UsageError, match="is not text"):
            await in_thread(connect(tmp_path).call, ask.BookmarkAdd(name=os.fsdecode(b"\xff")))
    assert recorder.asked == []


class TestASocketAlone:
    """A server's socket without its repository."""

    async def test_every_verb_is_asked_there(self, tmp_path: Path) -> None:
        recorder = Recorder(ask.Bookmarks(bookmarks=[]))
        async with answering(tmp_path, recorder) as elsewhere:
            client = connect_socket(elsewhere)
            assert await in_thread(client.is_served)
            await in_thread(client.call, ask.BookmarkList())
            await in_thread(client.call, ask.BookmarkList())
        assert len(recorder.asked) == 2

    def test_nobody_listens(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for name in ("missing", "file"):
            client = connect_socket(tmp_path / name)
            assert not client.is_served()
            with pytest.raises(NotFoundError, match="no server listens"):
                client.call(ask.BookmarkList())

    def test_nothing_is_opened_here(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="give -r REPO"):
            connect_socket(tmp_path / "any").reading()
