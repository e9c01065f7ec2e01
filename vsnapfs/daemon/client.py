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
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import (
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ServerGoneError,
    StoreError,
    TimedOutError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.state import Progress, Status
from vsnapfs.daemon import wire
from vsnapfs.daemon.api import Verb, carried_out, verb_of
from vsnapfs.daemon.requests import Commit, Request
from vsnapfs.repository.layout import SOCKET

if TYPE_CHECKING:
    from vsnapfs.binding import Keep
    from vsnapfs.policy.verification import Verification
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
        if verb.place == "sound":
            return self._sound(verb, request, report)
        with _connected(self.path / SOCKET) as sock:
            if sock is not None:
                return _asked(sock, verb, request, report or _ignore)
        with open_repository(self.path, owner=verb.place == "owner") as repository:
            answer: R = told_unserved(_run(verb, repository, request, report))
            return answer

    @contextmanager
    def reading(self, *, sound_part: bool = False) -> Iterator[Repository]:
        """The repository as reader in this process. A server commits first: nothing written before is missing.

        If it cannot commit, what is on stable storage is read all the same: a full disk must not hide it. sound_part: as for
        ``Repository.open``.
        """
        try:
            with _connected(self.path / SOCKET) as sock:
                if sock is not None:
                    _asked(sock, verb_of(Commit()), Commit(), _ignore)
        except (StoreError, NoSpaceError):
            pass
        with open_repository(self.path, owner=False, sound_part=sound_part) as repository:
            yield repository

    def _sound(self, verb: Verb, request: Request[R], report: Report | None) -> R:
        """The answer of what is left of a repository; if nothing is, what was lost."""
        with ExitStack() as stack:
            try:
                repository = stack.enter_context(self.reading(sound_part=True))
            except IntegrityError as error:
                from vsnapfs.repository.repository import unopened

                answer: Any = unopened(self.path, error)
                return cast("R", answer)
            return _run(verb, repository, request, report)

    def is_served(self) -> bool:
        """True if a server answers."""
        with _connected(self.path / SOCKET) as sock:
            return sock is not None

    def is_held(self) -> bool:
        """True if a process has the right to change the repository: a server, a keeper without a worker, a command."""
        from vsnapfs.repository.lock import is_held

        return is_held(self.path)


class SocketClient(Client):
    """A repository of which only its server's socket at ``path`` is known: all is asked there, nothing is opened here."""

    def call(self, request: Request[R], report: Report | None = None) -> R:
        with _connected(self.path, follow=True) as sock:
            if sock is None:
                raise NotFoundError(
                    f"no server listens on {self.path}", hint="start `vsnapfs serve`, or see its settings"
                )
            return _asked(sock, verb_of(request), request, report or _ignore)

    def reading(self, *, sound_part: bool = False) -> NoReturn:
        raise UsageError("volumes are read from the repository itself, not through its server", hint="give -r REPO")

    def is_served(self) -> bool:
        with _connected(self.path, follow=True) as sock:
            return sock is not None

    def is_held(self) -> bool:
        return self.is_served()


def connect(path: Path) -> Client:
    """A client of the repository at ``path``; whether there is one shows at the first call."""
    return Client(path)


def connect_socket(path: Path) -> Client:
    """A client of the server that listens on ``path``; whether there is one shows at the first call."""
    return SocketClient(path)


def create(path: Path) -> str:
    """Make a repository. Returns: its uuid. Raises: UsageError: the directory is not empty."""
    from vsnapfs.repository.repository import Repository

    Repository.create(path)
    with open_repository(path, owner=False) as repository:
        return repository.uuid


def read_key(path: Path, repository: Path) -> bytes:
    """The key of anchors in a file. Raises: UsageError, PermissionDeniedError, NotFoundError."""
    from vsnapfs.repository import anchors

    return anchors.read_key(path, repository)


def verification_in(path: Path, profile: str) -> Verification:
    """How a profile of a repository's settings verifies; "": as by default. Raises: NotFoundError with names that look like it."""
    from vsnapfs.core.names import near
    from vsnapfs.policy.verification import Verification
    from vsnapfs.repository import identity, settings, trust

    if not profile:
        return Verification()
    layout = identity.find(path)
    try:
        trust.require(layout, owner=True)
        known = settings.load(layout).verify
    finally:
        layout.close()
    if profile not in known:
        raise NotFoundError(f"there is no [verify.{profile}] in {path}/vsnapfs.toml", near=near(profile, known))
    return known[profile]


def open_repository(
    path: Path, *, owner: bool, keep: Keep | None = None, locked: bool = False, sound_part: bool = False
) -> Repository:
    """Repository.open; loaded only here, so that a command with a server does not load the C library."""
    from vsnapfs.repository.repository import Repository

    return Repository.open(path, owner=owner, keep=keep, locked=locked, sound_part=sound_part)


def told_unserved(answer: Any) -> Any:
    """The answer; a Status says what it means that no server runs: volumes that are written to now are not protected."""
    if not isinstance(answer, Status) or all(volume.primary == "none" for volume in answer.volumes):
        return answer
    problem = "no server runs: what is written to the primaries now is not captured; start `vsnapfs serve`"
    return msgspec.structs.replace(answer, protected=False, problems=[*answer.problems, problem])


def _run(verb: Verb, repository: Repository, request: Request[R], report: Report | None) -> R:
    answer: R = carried_out(repository, verb, request, report or _ignore)
    return answer


def _ignore(_: Progress) -> None:
    pass


@contextmanager
def _connected(path: Path, *, follow: bool = False) -> Iterator[socket.socket | None]:
    """A socket to the server that listens on ``path``; None if none does. follow: it may be a symlink, since it was
    named by who asks; one in a repository is not, since whoever made that could have led us anywhere."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_S_MAX)
    with sock:
        yield sock if _connects(sock, path, follow) else None


def _connects(sock: socket.socket, path: Path, follow: bool) -> bool:
    try:
        found = os.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except PermissionError as error:
        raise _not_allowed(path) from error
    except OSError:
        return False  # there is none; or whoever opens the repository says what is wrong with it
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            return False
        sock.connect(f"/proc/self/fd/{found}")
    except ConnectionRefusedError:
        return False
    except (TimeoutError, BlockingIOError) as error:
        raise TimedOutError(f"the server at {path} does not take connections", hint="is it stopped?") from error
    except PermissionError as error:
        raise _not_allowed(path) from error
    except OSError as error:
        raise from_os_error(error, f"connect to the server at {path}") from error
    finally:
        os.close(found)
    return True


def _not_allowed(path: Path) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"not allowed to ask the server at {path}", hint="--socket PATH, if it has one for you"
    )


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("vsnapfs", timeout=wire.SILENCE_S_MAX)
        sock.settimeout(wire.SILENCE_S_MAX)
        self.sock = sock


def _encoded(verb: Verb, request: Request[Any]) -> bytes:
    """Raises: UsageError: an argument of the command that is not UTF-8, which no name and no text is."""
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not text", hint=f"{verb.name} takes UTF-8") from error


def _asked(sock: socket.socket, verb: Verb, request: Request[R], report: Report) -> R:
    connection = _Connection(sock)
    body = _encoded(verb, request)
    try:
        connection.request("POST", f"/v1/{verb.name}", body)
        with connection.getresponse() as response:
            answer: R = _answer(response, verb, report)
            return answer
    except TimeoutError as error:
        raise TimedOutError(f"the server did not answer {verb.name} in {wire.SILENCE_S_MAX:g} s") from error
    except (http.client.HTTPException, OSError) as error:
        raise ServerGoneError(f"the server ended before it had answered {verb.name}", hint="see its log") from error
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
