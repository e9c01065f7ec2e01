"""A command that takes a whole archive on its standard input, and perhaps one that gives it back: a medium of streams, not of tapes.

What one run of it took is a tape all the same, for the catalog: it has a label, can be retired, and holds one archive in one piece. Its
index stays in the catalog, since the command has no place for it.

Source: docs/tape.md, section on commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from vsnapfs.core.errors import NotFoundError, StoreError, from_os_error
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.program import Program, failure
from vsnapfs.media.read_only import ReadOnlyTape
from vsnapfs.media.tape import FileKind, Readable, TapeFile, TapeReader, Writable
from vsnapfs.media.waker import Waker
from vsnapfs.policy.media import COMMAND_WORDS, CommandSettings

PIECE = 1
INDEX = 2
PREFIX = "VSNAPFS_"
_WORD = re.compile("|".join(re.escape(f"{{{name}}}") for name in COMMAND_WORDS))


def filled(words: Sequence[str], told: Mapping[str, str]) -> list[str]:
    """told: what is known of the archive, by the names that a command can use."""
    return [_WORD.sub(lambda found: told.get(found[0][1:-1], ""), word) for word in words]


def environment(told: Mapping[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{name.upper()}": value for name, value in told.items()}


class CommandWriter:
    """See media.tape.TapeWriter. ``abandon`` kills the command before it can take what it has got for a whole archive."""

    def __init__(self, medium: str, settings: CommandSettings, told: Mapping[str, str]) -> None:
        """Starts it. told: see ``filled``. Raises: StoreError."""
        name = f"the command of {medium}"
        self._waker = Waker()
        try:
            self._program = Program(filled(settings.command, told), environment(told), "feed", name)
        except BaseException:
            self._waker.close()
            raise
        self._ended = False

    def write(self, block: Readable) -> None:
        """Raises: StoreError: the command has ended, or takes no more."""
        try:
            written = self._waker.write_all(self._program.fd, block)
        except BrokenPipeError as error:
            raise self._failed_early() from error
        except OSError as error:
            raise from_os_error(error, f"write to {self._program.name}") from error
        if not written:
            raise StoreError(f"{self._program.name} was given up")

    def finish(self) -> int:
        """The command has ended well, with all that was written. Raises: StoreError."""
        found = self._program.whole()
        self._end()
        if found.status or found.unread:
            raise failure(self._program, found, "ended before it had read everything")
        return PIECE

    def give_up(self) -> None:
        """A write that waits for the command ends. Threads: any."""
        self._waker.wake()

    def abandon(self) -> None:
        if not self._ended:
            self._program.kill()
            self._end()

    def _failed_early(self) -> StoreError:
        found = self._program.short()
        return failure(self._program, found, "ended before it had read everything")

    def _end(self) -> None:
        self._ended = True
        self._waker.close()


class CommandReader:
    """See media.tape.TapeReader. What ``read`` of the settings gives; its end counts if the command ends well."""

    def __init__(self, medium: str, settings: CommandSettings, told: Mapping[str, str]) -> None:
        """Starts it. Raises: StoreError."""
        name = f"the command that reads {medium}"
        self._waker = Waker()
        self._program: Program | None = None
        try:
            self._program = Program(filled(settings.read, told), environment(told), "read", name)
        except BaseException:
            self._waker.close()
            raise

    def readinto(self, buffer: Writable) -> int:
        """Raises: StoreError: the command failed."""
        if self._program is None:
            return 0
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            if not self._waker.wait_readable(self._program.fd):
                raise StoreError(f"{self._program.name} was given up")
            try:
                count = os.readv(self._program.fd, [view[done:]])
            except OSError as error:
                raise from_os_error(error, f"read from {self._program.name}") from error
            if not count:
                self._finish(self._program)
                break
            done += count
        return done

    def give_up(self) -> None:
        """See media.tape.Waiting."""
        self._waker.wake()

    def close(self) -> None:
        """Twice is allowed; a command that has not ended is killed."""
        if self._program is not None:
            self._program.kill()
            self._program = None
        self._waker.close()

    def _finish(self, program: Program) -> None:
        found = program.whole(self._waker)
        self._program = None
        if found.status:
            raise failure(program, found)


class _Kept:
    """An index that is in the catalog, as a tape file. See media.tape.TapeReader."""

    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    def readinto(self, buffer: Writable) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Nothing is open."""


class CommandTape(ReadOnlyTape):
    """What a run of a command took, to be read. See media.tape.Tape."""

    def __init__(
        self,
        medium: str,
        settings: CommandSettings,
        label: TapeLabel,
        told: Mapping[str, str],
        index: bytes,
        stored_bytes: int,
    ) -> None:
        """told: what it was told then. index: the tape file behind the piece. stored_bytes: of the piece."""
        super().__init__(f"tape {label.label} of {medium}", "was written by a command")
        self.label: TapeLabel | None = label
        self.used_bytes: int | None = stored_bytes + len(index)
        self._medium, self._settings, self._told = medium, settings, told
        self._index, self._stored_bytes = index, stored_bytes

    def files(self) -> list[TapeFile]:
        return [
            TapeFile(PIECE, FileKind.PIECE, self._stored_bytes, self._told["extension"]),
            TapeFile(INDEX, FileKind.INDEX, len(self._index), FileKind.INDEX),
        ]

    def open(self, number: int) -> TapeReader:
        if number == INDEX:
            return _Kept(self._index)
        if number != PIECE:
            raise NotFoundError(f"{self.name} has no file {number}")
        if not self._settings.read:
            what = f"{self.name} is where its command has put it, and nothing reads that back"
            raise NotFoundError(what, hint=f"`read` of [media.{self._medium}] would; or give the file with --from")
        return CommandReader(self._medium, self._settings, self._told)
