"""A tape of a pool: a directory of files, of a fixed capacity.

Each file is written beside, synced, and gets its name by a rename, after which the directory is synced: so a crash leaves whole files
and at most one ``*.part``, which the next writer removes. Nobody writes but who holds the directory's lock; who only reads takes none,
since a file that has its name never changes, but a shared one on the label: while somebody reads, nobody writes the tape over.

Source: docs/tape-format.md, section on pools.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
    VsnapfsError,
    from_os_error,
)
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.file_reader import FileReader
from vsnapfs.media.label import LABEL_BYTES_MAX, decode_label, encode_label
from vsnapfs.media.pool_directory import LABEL_FILE, PoolDirectory, is_tape_file, name_of
from vsnapfs.media.tape import PIECE_EXTENSION, EndOfTapeError, FileKind, Readable, TapeFile
from vsnapfs.media.writeback import Writeback

LABEL = TapeFile(0, FileKind.LABEL, 0, "label")


class PoolTape:
    """See media.tape.Tape. ``foreign``: names in the directory that are not ours."""

    def __init__(
        self, directory: PoolDirectory, capacity_bytes: int | None, *, write: bool, look: bool = False
    ) -> None:
        """Takes the directory over. look: only to say what it is, which keeps nobody from writing it over.

        Raises: BusyError: somebody else writes to it. StoreError.
        """
        self._directory = directory
        self._guard: int | None = None
        self.name = f"tape {directory.place}"
        self.capacity_bytes = capacity_bytes
        self._write = write
        self._holds = not look
        try:
            if write:
                directory.lock()
            self._files, self.foreign = directory.look(clean=write)
            self.label, self.problem = self._read_label()
            if self._holds and not write:  # it may have been written over until it was held
                self._files, self.foreign = directory.look(clean=False)
        except BaseException:
            self.close()
            raise

    @classmethod
    def at(cls, path: Path) -> Self:
        """The tape in a directory, to be read, of whatever pool. Raises: NotFoundError, StoreError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"open tape {path}") from error
        return cls(PoolDirectory(fd, str(path)), None, write=False)

    @property
    def blank(self) -> bool:
        return not self._files and not self.foreign

    @property
    def read_only(self) -> bool:
        return not self._write or self.protected

    @property
    def protected(self) -> bool:
        """Write-protected, whoever has loaded it."""
        return self._directory.is_protected()

    @property
    def used_bytes(self) -> int:
        return sum(file.size_bytes for file in self._files)

    @property
    def room_bytes(self) -> int | None:
        """None: there is no limit."""
        return None if self.capacity_bytes is None else self.capacity_bytes - self.used_bytes

    def files(self) -> list[TapeFile]:
        return list(self._files)

    def require_unread(self) -> None:
        if self._guard is not None:
            with self._alone():
                pass
            self._hold_label()

    def write_label(self, label: TapeLabel) -> None:
        self._require_writable()
        with self._alone():
            self._drop_behind(0)
            self._files = []  # the label takes the old one's place
            writer = self._writer(LABEL)
            try:
                writer.write(encode_label(label))
                writer.finish()
            finally:
                writer.abandon()
        self.label, self.problem = label, None
        self._hold_label()

    def append(self, kind: FileKind, extension: str = PIECE_EXTENSION) -> PoolWriter:
        self._require_writable()
        if self.label is None:
            raise UsageError(f"{self.name} has no label", hint="`vsnapfs tape label` gives it one")
        self._require_whole()
        file = TapeFile(len(self._files), kind, 0, extension if kind is FileKind.PIECE else kind.value)
        if not is_tape_file(name_of(file)):
            raise UsageError(f"{name_of(file)!r} is no name of a tape file")
        return self._writer(file)

    def cut(self, after: int) -> None:
        self._file(after)
        if self._files[-1].number > after:
            self._require_writable()
            self._drop_behind(after)

    def open(self, number: int) -> FileReader:
        name = name_of(self._file(number))
        with self._directory.told(f"open {name} of"):
            return FileReader(self._directory.open(name), f"{name} of {self.name}")

    def close(self) -> None:
        """Twice is allowed."""
        self._let_go_of_label()
        self._directory.close()

    def _writer(self, file: TapeFile) -> PoolWriter:
        return PoolWriter(self._directory, file, self.room_bytes, self._files.append)

    def _require_whole(self) -> None:
        """Raises: IntegrityError: one number twice, or one that is missing: then it is not known what counts."""
        for place, file in enumerate(self._files):
            if file.number != place:
                what = "stands there twice" if file.number < place else f"is missing, and {name_of(file)} is not"
                number = min(place, file.number)
                raise IntegrityError(f"file {number} of {self.name} {what}", hint="nothing is written to it")

    def _require_writable(self) -> None:
        if self.protected:
            raise PermissionDeniedError(
                f"{self.name} is write-protected: {LABEL_FILE} or its filesystem is not writable"
            )
        if not self._write:
            raise PermissionDeniedError(f"{self.name} was loaded to be read")

    def _read_label(self) -> tuple[TapeLabel | None, VsnapfsError | None]:
        if not self._files or self._files[0].kind is not FileKind.LABEL:
            return None, None
        with self._directory.told("read the label of"):
            self._hold_label()
            assert self._guard is not None
            content = os.pread(self._guard, LABEL_BYTES_MAX, 0)
        try:
            return decode_label(content, self.name), None
        except VsnapfsError as error:
            return None, error

    def _hold_label(self) -> None:
        """Whoever has the tape loaded has a shared lock on its label. Who has it alone has it for a moment, and may write another one."""
        while True:
            self._let_go_of_label()
            self._guard = self._directory.open(LABEL_FILE)
            if not self._holds:
                return
            fcntl.flock(self._guard, fcntl.LOCK_SH)
            if self._directory.is_named(self._guard, LABEL_FILE):
                return

    def _let_go_of_label(self) -> None:
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else reads the tape. Raises: BusyError."""
        if self._guard is None:
            yield
            return
        self._let_go_of_label()
        with self._directory.told("lock the label of"):
            fd = self._directory.open(LABEL_FILE, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                self._hold_label()
                raise BusyError(f"{self.name} is being read", hint="wait until that has ended") from error
        try:
            yield
        finally:
            os.close(fd)

    def _drop_behind(self, after: int) -> None:
        """The last one first: what is left at any moment has no gap."""
        behind = [file for file in self._files if file.number > after]
        self._directory.remove(behind[::-1])
        self._files = self._files[: len(self._files) - len(behind)]

    def _file(self, number: int) -> TapeFile:
        for file in self._files:
            if file.number == number:
                return file
        raise NotFoundError(f"{self.name} has no file {number}")


class PoolWriter:
    """See media.tape.TapeWriter. The end of the tape is where the capacity says; a full disk is an error."""

    def __init__(
        self, directory: PoolDirectory, file: TapeFile, room_bytes: int | None, done: Callable[[TapeFile], None]
    ) -> None:
        """room_bytes: what the tape takes of it. done: is told of the file when it has its name."""
        self._directory = directory
        self._file = file
        self._room = room_bytes
        self._done = done
        self._written = 0
        self._fd: int | None = None
        try:
            self._fd = directory.open_part(name_of(file))
        except OSError as error:
            raise self._failed(error, "make") from error
        self._writeback = Writeback(self._fd)

    def write(self, block: Readable) -> None:
        assert self._fd is not None, "it has ended"
        rest = memoryview(block).cast("B")
        if self._room is not None and len(rest) > self._room - self._written:
            raise EndOfTapeError(f"tape {self._directory.place} is full")
        try:
            while rest:
                count = os.write(self._fd, rest)
                self._written += count
                self._writeback.wrote(count)
                rest = rest[count:]
        except OSError as error:
            raise self._failed(error, "write") from error

    def finish(self) -> int:
        assert self._fd is not None, "it has ended"
        fd, self._fd = self._fd, None
        try:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._directory.take_part(name_of(self._file))
        except OSError as error:
            self._directory.drop_part(name_of(self._file))
            raise self._failed(error, "finish") from error
        self._done(self._file._replace(size_bytes=self._written))
        return self._file.number

    def abandon(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._directory.drop_part(name_of(self._file))

    def _failed(self, error: OSError, doing: str) -> VsnapfsError:
        place = self._directory.place
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpaceError(f"the disk under tape {place} is full", hint="make room, and resume")
        return from_os_error(error, f"{doing} {name_of(self._file)} of tape {place}")
