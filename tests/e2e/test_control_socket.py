"""The control socket against clients that are wrong, rude or broken: refused, logged, and the server lives."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.control import ask, connected
from tests.support.processes import Mounted, must
from tests.support.waiting import eventually

NOBODY = 65534
HEAD = "POST /v1/bookmark_list HTTP/1.1\r\nHost: localhost\r\n"

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture(autouse=True)
def lives(repository: Path, server: Mounted) -> Iterator[None]:
    """Whatever a test did, the same server goes on answering afterwards, and has no traceback in its log."""
    before = server.pid
    yield
    assert ask(repository, "status")[1]["result"]["pid"] == before
    must(repository, "bookmark", "add", "afterwards")
    assert "Traceback" not in server.log


def refusals(server: Mounted) -> list[dict[str, object]]:
    whole = [line for line in server.log.splitlines(keepends=True) if line.endswith("\n")]
    lines = [json.loads(line) for line in whole if line.startswith("{")]
    return [line for line in lines if "refused" in line["event"]]


def answer(sock: socket.socket) -> tuple[int, dict[str, dict[str, object]]]:
    """The HTTP status and the last line of what comes back."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, json.loads(response.read().splitlines()[-1])


def as_nobody(code: str, directory: Path) -> str:
    """Run Python as another user who has got into a directory; returns what it printed."""
    drop = f"import os, socket, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    done = subprocess.run(
        [sys.executable, "-c", drop + code], cwd=directory, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


KNOCK = """
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
try:
    sock.connect("vsnapfs.sock")
    sock.sendall(b"POST /v1/status HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    print(len(sock.recv(100)))
except OSError as error:
    print(type(error).__name__)
"""


def test_the_socket_is_its_owners_alone(repository: Path) -> None:
    found = (repository / "vsnapfs.sock").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(repository.stat().st_mode) == 0o700
    assert as_nobody(KNOCK, repository) == "PermissionError"


def test_another_user_who_gets_through_to_it_is_not_heard(repository: Path, server: Mounted) -> None:
    """Somebody has changed the modes; the peer's credentials still say who it is."""
    repository.chmod(0o711)
    (repository / "vsnapfs.sock").chmod(0o666)
    assert as_nobody(KNOCK, repository) in ("0", "ConnectionResetError", "BrokenPipeError")
    eventually(lambda: refusals(server), "a line in the log")
    assert [line["peer_uid"] for line in refusals(server)] == [NOBODY]


@pytest.mark.parametrize(
    "sent",
    ["", "PO", HEAD, HEAD + "Content-Length: 100\r\n\r\n", HEAD + "Content-Length: 100\r\n\r\n{"],
    ids=["nothing", "half a word", "half a head", "no body", "half a body"],
)
def test_half_a_request_holds_nobody_up(repository: Path, sent: str) -> None:
    with connected(repository) as waiting:
        waiting.sendall(sent.encode())
        assert ask(repository, "bookmark_list")[0] == 200
    with connected(repository) as gone:
        gone.sendall(sent.encode())
        gone.shutdown(socket.SHUT_WR)


def test_a_body_that_does_not_come_is_not_waited_for_long(repository: Path, server: Mounted) -> None:
    with connected(repository) as sock:
        sock.sendall(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())
        status, line = answer(sock)
    assert status == 408
    assert line["error"]["exit_status"] == 2
    assert [told["status"] for told in refusals(server)] == [408]


@pytest.mark.parametrize("length", [4 << 30, (1 << 20) + 1, 10**18])
def test_a_body_of_gigabytes_is_refused_by_its_length_alone(repository: Path, server: Mounted, length: int) -> None:
    with connected(repository) as sock:
        sock.sendall(f"{HEAD}Content-Length: {length}\r\n\r\n".encode())
        status, line = answer(sock)
    assert status == 413
    assert line["error"]["kind"] == "UsageError"
    assert [told["status"] for told in refusals(server)] == [413]


def test_a_body_without_a_length_is_refused_when_it_is_too_large(repository: Path) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with connected(repository) as sock:
        sock.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(64):
                sock.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            """It has heard enough."""
        assert answer(sock)[0] == 413


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"name": 1}',
    b'{"name": "x", "other": 1}',
    b'{"nam": "x"}',
    b'{"name": "\xff"}',
    b'{"name": "x", "consistency": "wishful"}',
    b"[" * 200_000,
    b'{"name": ' * 100_000,
]


def test_bad_json_is_refused_in_one_line(repository: Path, server: Mounted) -> None:
    for body in BAD_BODIES:
        status, line = ask(repository, "bookmark_add", body=body)
        assert (status, line["error"]["kind"], line["error"]["exit_status"]) == (400, "UsageError", 2), body[:40]
    assert [told["status"] for told in refusals(server)] == [400] * len(BAD_BODIES)
    assert ask(repository, "bookmark_list")[1]["result"]["bookmarks"] == []


def test_an_unknown_verb_is_said_with_the_one_that_was_meant(repository: Path) -> None:
    status, line = ask(repository, "bokmark_list")
    assert (status, line["error"]["kind"]) == (404, "NotFoundError")
    assert "bookmark_list" in line["error"]["fields"]["near"]


def test_errors_of_verbs_come_as_objects(repository: Path) -> None:
    status, line = ask(repository, "bookmark_add", {"name": "a/b"})
    assert (status, line["error"]["exit_status"]) == (200, 2)
    _, line = ask(repository, "bookmark_show", {"name": "afterward"})
    assert (line["error"]["kind"], line["error"]["exit_status"]) == ("NotFoundError", 3)


@pytest.mark.parametrize(
    "sent", [b"\x00" * 100, b"\x16\x03\x01" + os.urandom(200), b"GET / SPEAK/9\r\n\r\n", b"A" * 200_000]
)
def test_what_is_not_http_is_not_listened_to(repository: Path, sent: bytes) -> None:
    with connected(repository) as sock:
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 200" not in sock.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            """The other way to say so."""


def test_many_who_connect_and_say_nothing_leave_room(repository: Path) -> None:
    idle = [connected(repository) for _ in range(60)]
    try:
        assert ask(repository, "bookmark_list")[0] == 200
    finally:
        for sock in idle:
            sock.close()


def test_who_goes_away_before_the_answer_is_no_matter(repository: Path) -> None:
    for _ in range(20):
        with connected(repository) as sock:
            sock.sendall(f"{HEAD}Content-Length: 2\r\n\r\n{{}}".encode())


def test_the_sockets_example_in_the_documents_works(repository: Path) -> None:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--unix-socket", str(repository / "vsnapfs.sock"),
         "http://localhost/v1/bookmark_add", "-d", '{"name": "monday"}'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1])["result"]["name"] == "monday"
