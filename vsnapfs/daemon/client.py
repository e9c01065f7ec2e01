"""Ask a repository something, whoever answers: its server, or this process if there is none.

The socket is tried at each call. A live server answers; without one, verbs that change open the repository as owner and
verbs that read open it as reader, so that a read-only copy works and nothing is locked without need. Errors of the
server are raised here as if they had happened here.

The server speaks plain HTTP over a unix socket; the standard library's client takes 15 ms to load, a larger one 150.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import NoSpaceError, PermissionDeniedError, StoreError, TimedOutError, from_os_error
from vsnapfs.core.model import Progress, Status
from vsnapfs.daemon import wire
from vsnapfs.daemon.api import Verb, verb_of
from vsnapfs.daemon.requests import Commit, Request
from vsnapfs.repository.layout import SOCKET

if TYPE_CHECKING:
    from vsnapfs.binding import Keep
    from vsnapfs.repository.repository import Repository

R = TypeVar("R")
Report = Callable[[Progress], None]
CONNECT_S_MAX = 5.0
LINE_BYTES_MAX = 2**28


class Client:
    """A repository that can be asked. Threads: one at a time. Nothing is held open between calls."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(self, request: Request[R], report: Report | None = None) -> R:
        """The answer to ``request``.

        Raises: VsnapfsError: whatever the verb raises. LockedError: it changes, no server answers, and another process
        has the repository. TimedOutError: a server is there and silent. StoreError: it went away before it answered.
        """
        verb = verb_of(request)
        if verb.place == "reader":
            with self.reading() as repository:
                return _run(verb, repository, request, report)
        with _connected(self.path) as sock:
            if sock is not None:
                return _asked(sock, verb, request, report or _ignore)
        with open_repository(self.path, owner=verb.place == "owner") as repository:
            answer: R = told_unserved(_run(verb, repository, request, report))
            return answer

    @contextmanager
    def reading(self) -> Iterator[Repository]:
        """The repository as reader in this process. A server commits first: nothing written before is missing.

        If it cannot commit, what is on stable storage is read all the same: a full disk must not hide it.
        """
        try:
            with _connected(self.path) as sock:
                if sock is not None:
                    _asked(sock, verb_of(Commit()), Commit(), _ignore)
        except (StoreError, NoSpaceError):
            pass
        with open_repository(self.path, owner=False) as repository:
            yield repository

    def is_served(self) -> bool:
        """True if a server answers."""
        with _connected(self.path) as sock:
            return sock is not None


def connect(path: Path) -> Client:
    """A client of the repository at ``path``; whether there is one shows at the first call."""
    return Client(path)


def create(path: Path) -> str:
    """Make a repository. Returns: its uuid. Raises: UsageError: the directory is not empty."""
    from vsnapfs.repository.repository import Repository

    Repository.create(path)
    with open_repository(path, owner=False) as repository:
        return repository.uuid


def open_repository(path: Path, *, owner: bool, keep: Keep | None = None, locked: bool = False) -> Repository:
    """Repository.open; loaded only here, so that a command with a server does not load the C library."""
    from vsnapfs.repository.repository import Repository

    return Repository.open(path, owner=owner, keep=keep, locked=locked)


def told_unserved(answer: Any) -> Any:
    """The answer; a Status says what it means that no server runs: volumes that are written to now are not protected."""
    if not isinstance(answer, Status) or all(volume.primary == "none" for volume in answer.volumes):
        return answer
    problem = "no server runs: what is written to the primaries now is not captured; start `vsnapfs serve`"
    return msgspec.structs.replace(answer, protected=False, problems=[*answer.problems, problem])


def _run(verb: Verb, repository: Repository, request: Request[R], report: Report | None) -> R:
    answer: R = verb.run(repository, request, report or _ignore)
    return answer


def _ignore(_: Progress) -> None:
    pass


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket | None]:
    """A socket to the server of the repository at ``path``; None if none listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_S_MAX)
    with sock:
        yield sock if _connects(sock, path) else None


def _connects(sock: socket.socket, path: Path) -> bool:
    try:
        directory_fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return False  # whoever opens the repository says what is wrong with it
    try:
        sock.connect(f"/proc/self/fd/{directory_fd}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except (TimeoutError, BlockingIOError) as error:
        raise TimedOutError(f"the server of {path} does not take connections", hint="is it stopped?") from error
    except PermissionError as error:
        raise PermissionDeniedError(f"not allowed to ask the server of {path}") from error
    except OSError as error:
        raise from_os_error(error, f"connect to the server of {path}") from error
    finally:
        os.close(directory_fd)
    return True


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("vsnapfs", timeout=wire.SILENCE_S_MAX)
        sock.settimeout(wire.SILENCE_S_MAX)
        self.sock = sock


def _asked(sock: socket.socket, verb: Verb, request: Request[R], report: Report) -> R:
    connection = _Connection(sock)
    try:
        connection.request("POST", f"/v1/{verb.name}", msgspec.json.encode(request))
        with connection.getresponse() as response:
            answer: R = _answer(response, verb, report)
            return answer
    except TimeoutError as error:
        raise TimedOutError(f"the server did not answer {verb.name} in {wire.SILENCE_S_MAX:g} s") from error
    except (http.client.HTTPException, OSError) as error:
        raise StoreError(f"the server ended before it had answered {verb.name}", hint="see its log") from error
    except msgspec.DecodeError as error:
        raise StoreError(
            f"cannot read the server's answer to {verb.name}: {error}", hint="is it another version?"
        ) from error


def _answer(response: http.client.HTTPResponse, verb: Verb, report: Report) -> Any:
    """Read lines to the last one. Returns: the verb's result."""
    while raw := response.readline(LINE_BYTES_MAX):
        if raw == wire.KEEPALIVE:
            continue
        line = wire.read_line(raw)
        if line.progress is not None:
            report(line.progress)
        elif line.error is not None:
            raise wire.error_of(line.error)
        else:
            return from_json(line.result, verb.result)
    raise http.client.IncompleteRead(b"")
