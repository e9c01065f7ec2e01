"""What is no tape: a file, or a pipe. What is written to it is one tape file, without a label.

A file is called ``FILE.partial`` until it is complete, and keeps that name when it is broken off, so that it can be gone on with.

Source: docs/tape.md, section on plain files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vsnapfs.core.errors import BusyError, NameTakenError, NoSpaceError, StoreError, UsageError, from_os_error
from vsnapfs.media.file_reader import FileReader
from vsnapfs.media.tape import Readable, Writable
from vsnapfs.media.waker import Waker
from vsnapfs.media.writeback import Writeback

PARTIAL = ".partial"
INDEX = ".index"
"""Ends the name of what stands beside a file and says what it is."""
FILE_MODE = 0o600
PIPE_BYTES = 1 << 20


def index_of(path: Path) -> Path:
    return path.with_name(path.name + INDEX)


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def partial_bytes(path: Path) -> int:
    """How much of a file that was broken off is there; 0: nothing. Raises: StoreError."""
    try:
        return partial_of(path).lstat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise from_os_error(error, f"look at {partial_of(path)}") from error


def open_plain(path: Path) -> FileReader:
    """Raises: NotFoundError, StoreError."""
    try:
        return FileReader(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
    except OSError as error:
        raise from_os_error(error, f"open {path}") from error


class PlainWriter:
    """See media.tape.TapeWriter; ``abandon`` leaves ``FILE.partial``. No end of a tape is met: a full disk is an error.

    Resource handling: who has one is the only one who writes ``FILE.partial``.
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False) -> None:
        """force: a file that exists is replaced when this one is complete. resume: what is there of ``FILE.partial`` stays until
        ``keep`` is told how much of it is right; without either, something of it is in the way.

        Raises: NameTakenError: it, or something of it, is there. BusyError: somebody is writing it. UsageError: it is no regular file.
        NotFoundError: its directory is not there.
        """
        self._path = path
        self._partial = partial_of(path)
        self._force = force
        self._fd: int | None = None
        with self._told("make"):
            self._require_free()
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = os.open(self._partial, flags, FILE_MODE)
        try:
            with self._told("make"):
                self._take(self._fd, may_be_there=force or resume)
        except BaseException:
            os.close(self._fd)  # and no more: what is there is somebody else's
            raise
        try:
            if not resume:
                self.keep(0)
        except BaseException:
            self.abandon()
            raise

    def keep(self, keep_bytes: int) -> None:
        """So much of what is there is right, and is gone on with; the rest is not there any more."""
        assert self._fd is not None, "it has ended"
        with self._told("make"):
            os.ftruncate(self._fd, keep_bytes)
            os.lseek(self._fd, keep_bytes, os.SEEK_SET)
        self._writeback = Writeback(self._fd, keep_bytes)

    def _require_free(self) -> None:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode) and not os.path.isfile(self._path):
            raise UsageError(
                f"{self._path} is no regular file",
                hint="a tape drive is a medium, in vsnapfs.toml; - is standard output",
            )
        if not self._force:
            raise NameTakenError(f"{self._path} exists", hint="--force replaces it")

    def _take(self, fd: int, *, may_be_there: bool) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{self._partial} is being written", hint="wait until that has ended") from error
        found = os.fstat(fd)
        if not self._is_partial(found):
            raise BusyError(f"{self._path} was written by somebody else", hint="look at it, and try again")
        if found.st_size and not may_be_there:
            what = f"{self._partial} is there, from an earlier try"
            raise NameTakenError(what, hint="--resume goes on with it, --force begins anew")

    def _is_partial(self, opened: os.stat_result) -> bool:
        """What was opened has that name still, and was not finished or given up by who had the lock."""
        try:
            return os.path.samestat(opened, self._partial.lstat())
        except FileNotFoundError:
            return False

    def write(self, block: Readable) -> None:
        assert self._fd is not None, "it has ended"
        with self._told("write"):
            _write_all(self._fd, block)
            self._writeback.wrote(memoryview(block).nbytes)

    def sync(self) -> None:
        """Everything written is on the medium when it returns, and can be read as ``FILE.partial``."""
        assert self._fd is not None, "it has ended"
        with self._told("sync"):
            os.fsync(self._fd)

    def finish(self) -> int:
        self.sync()
        with self._told("finish"):
            self._require_free()  # somebody may have made it meanwhile
            os.rename(self._partial, self._path)
            _sync_directory(self._path.parent)
        self.abandon()
        return 0

    def abandon(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                if os.fstat(self._fd).st_size == 0:
                    os.unlink(self._partial)  # nobody can go on with nothing
            os.close(self._fd)
            self._fd = None

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"the disk is full: what there is of it is {self._partial}") from error
            raise from_os_error(error, f"{doing} {self._partial}") from error


class PipeWriter:
    """See media.tape.TapeWriter. A descriptor that is written to from its beginning to its end, such as standard output."""

    def __init__(self, fd: int, name: str) -> None:
        """fd: borrowed. name: for people."""
        self._fd = fd
        self._name = name
        self._waker = Waker()
        self._own_fd = _unblocked(fd)

    def write(self, block: Readable) -> None:
        """Raises: StoreError: nobody reads it any more, or it was given up."""
        try:
            if self._own_fd is None:
                _write_all(self._fd, block)
            elif not self._waker.write_all(self._own_fd, block):
                raise StoreError(f"{self._name} was given up")
        except BrokenPipeError as error:
            raise StoreError(f"{self._name} was closed before everything was written") from error
        except OSError as error:
            raise from_os_error(error, f"write {self._name}") from error

    def give_up(self) -> None:
        """A write that waits for who reads a pipe ends. Threads: any."""
        self._waker.wake()

    def finish(self) -> int:
        return 0

    def abandon(self) -> None:
        """What was written is written. Twice is allowed."""
        self._waker.close()
        if self._own_fd is not None:
            os.close(self._own_fd)
            self._own_fd = None


class PipeReader:
    """See media.tape.TapeReader. A descriptor that is read once, such as standard input."""

    def __init__(self, fd: int, name: str) -> None:
        """fd: taken over. name: for people."""
        self.name = name
        self._fd = fd
        with suppress(OSError):  # another kind of file, or more than a user may have
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def readinto(self, buffer: Writable) -> int:
        try:
            return os.readv(self._fd, [buffer])
        except OSError as error:
            raise from_os_error(error, f"read {self.name}") from error

    def close(self) -> None:
        """Twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _unblocked(fd: int) -> int | None:
    """The same pipe, opened again: that its writes do not block is not for others who have it too. None: it is no pipe, or not ours."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _write_all(fd: int, block: Readable) -> None:
    rest = memoryview(block).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
