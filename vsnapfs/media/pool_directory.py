"""The directory that a tape of a pool is: its files by number, opened beneath it and through no symlink.

Source: docs/tape-format.md, section on pools.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vsnapfs.core.errors import BusyError, from_os_error
from vsnapfs.media.tape import FileKind, TapeFile

LABEL_FILE = "00000.label"
LOCK_FILE = "lock"
PART = ".part"
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
WRITE_BITS = 0o222

_FILE = re.compile(r"(?P<number>[0-9]{5,9})\.(?P<extension>label|index|tar(?:\.zst)?(?:\.age)?)")


def is_tape_file(name: str) -> bool:
    return _FILE.fullmatch(name) is not None


def name_of(file: TapeFile) -> str:
    return f"{file.number:05d}.{file.extension}"


class PoolDirectory:
    """Resource handling: owns the descriptor; ``close`` ends it, and the lock. Error handling: OSError leaves from ``open``,
    ``open_part`` and ``take_part`` alone; of the others it is ours."""

    def __init__(self, fd: int, place: str) -> None:
        """Takes ``fd`` over. place: its path, for people."""
        self.fd = fd
        self.place = place
        self._lock_fd: int | None = None

    def close(self) -> None:
        """Twice is allowed."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self) -> None:
        """Raises: BusyError: somebody else writes to it. StoreError: the filesystem has no locks."""
        with self.told("lock"):
            try:
                self._lock_one(self.fd)
            except OSError:
                # A filesystem such as NFS locks what was opened to be written to, and that is no directory.
                self._lock_fd = self.open(LOCK_FILE, os.O_RDWR | os.O_CREAT)
                self._lock_one(self._lock_fd)

    def _lock_one(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"tape {self.place} is being written to", hint="wait until that has ended") from error

    def look(self, *, clean: bool) -> tuple[list[TapeFile], list[str]]:
        """The tape's files by number, and names that are not ours. clean: what a crash has left is removed."""
        files: list[TapeFile] = []
        foreign: list[str] = []
        with self.told("list"):
            for name in sorted(os.listdir(self.fd)):
                match = _FILE.fullmatch(name)
                if name == LOCK_FILE:
                    continue
                try:
                    found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue  # who writes to the tape has given it its name just now, or has removed it
                if match is not None and stat.S_ISREG(found.st_mode):
                    files.append(_tape_file(match, found.st_size))
                elif not is_tape_file(name.removesuffix(PART)) or match is not None:
                    foreign.append(name)
                elif clean:
                    os.unlink(name, dir_fd=self.fd)
        return sorted(files), foreign

    def is_protected(self) -> bool:
        """By its filesystem, or by a label that is not writable."""
        with self.told("look at"):
            if os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
                return True
            try:
                found = os.stat(LABEL_FILE, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
            return not found.st_mode & WRITE_BITS

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE, dir_fd=self.fd)

    def is_named(self, fd: int, name: str) -> bool:
        """What was opened by a name still has it."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=self.fd, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def open_part(self, name: str) -> int:
        """The file beside, empty."""
        with suppress(FileNotFoundError):
            os.unlink(name + PART, dir_fd=self.fd)
        return self.open(name + PART, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def take_part(self, name: str) -> None:
        """The file beside gets its name, durably."""
        os.rename(name + PART, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)

    def drop_part(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name + PART, dir_fd=self.fd)

    def remove(self, files: list[TapeFile]) -> None:
        """In the order given, durably."""
        with self.told("cut"):
            for file in files:
                os.unlink(name_of(file), dir_fd=self.fd)
            os.fsync(self.fd)

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{doing} tape {self.place}") from error


def _tape_file(match: re.Match[str], size_bytes: int) -> TapeFile:
    extension = match["extension"]
    kind = FileKind(extension) if extension in (FileKind.LABEL, FileKind.INDEX) else FileKind.PIECE
    return TapeFile(int(match["number"]), kind, size_bytes, extension)
