"""One loaded tape: files from 0 on, each written once from its beginning to its end.

What implements ``Tape`` (pool.py, drive.py, plain.py) is used by one thread at a time and needs no catalog. Tape file 0 is the
label, then pieces and indexes take turns; who writes what in them is not this package's.

Source: docs/tape-format.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from vsnapfs.core.errors import IntegrityError, NoSpaceError, VsnapfsError
from vsnapfs.core.tapes import TapeLabel

PIECE_EXTENSION = "tar"

Readable: TypeAlias = bytes | bytearray | memoryview
Writable: TypeAlias = bytearray | memoryview
"""Contiguous bytes, borrowed until the call returns."""


class FileKind(StrEnum):
    """What a tape file is."""

    LABEL = "label"
    PIECE = "piece"
    INDEX = "index"


class TapeFile(NamedTuple):
    """A tape file that stands in a list. extension: of a piece, such as ``tar.zst.age``; else the kind."""

    number: int
    kind: FileKind
    size_bytes: int
    extension: str


class EndOfTapeError(NoSpaceError):
    """The tape has no room for what was to be written; the disk that it lies on has, or the tape is no disk.

    The file that was being written does not count: ``abandon`` it, and write it again on the next tape.
    """


class DamagedBlockError(IntegrityError):
    """Bytes of a tape file cannot be read. The next ``readinto`` goes on behind them.

    ``offset_bytes``: where in the tape file. ``length_bytes``: how many; 0: it is not known how many are missing (a drive with
    blocks of a variable length), and what follows has no certain place in the file.
    """

    def __init__(
        self, message: str, *, length_bytes: int = 0, offset_bytes: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, offset_bytes=offset_bytes, hint=hint)
        self.length_bytes = length_bytes


class TapeWriter(Protocol):
    """A tape file that is being written. Ends with ``finish`` or ``abandon``, whichever is first; the other then does nothing."""

    def write(self, block: Readable) -> None:
        """Any length; blocks of the tape are made of them here. Raises: EndOfTapeError, NoSpaceError, StoreError."""

    def finish(self) -> int:
        """Everything written is on the medium when it returns. Returns: the file's number. Raises: as ``write``."""

    def abandon(self) -> None:
        """The file never was: the next ``append`` writes it over. Never raises."""


class TapeReader(Protocol):
    """A tape file that is being read, from its beginning on."""

    def readinto(self, buffer: Writable) -> int:
        """Returns: bytes put at the beginning of ``buffer``, 0: the end of the file. Raises: DamagedBlockError, StoreError."""

    def close(self) -> None: ...


@runtime_checkable
class Waiting(Protocol):
    """A reader or a writer that may wait for something that never comes."""

    def give_up(self) -> None:
        """A read or write that waits ends with StoreError, and so does each one that would wait after it. Threads: any."""


class Tape(Protocol):
    """A tape that is loaded.

    Resource handling: holds the tape, alone if it was loaded to be written to; ``close`` ends it.
    """

    @property
    def name(self) -> str:
        """For people: where it is."""

    @property
    def label(self) -> TapeLabel | None:
        """None: nothing stands on it that is ours, or that can be read."""

    @property
    def problem(self) -> VsnapfsError | None:
        """Why a label that is ours is not to be had: it is damaged, or of a newer version."""

    @property
    def blank(self) -> bool:
        """Nothing at all stands on it. A tape with neither a label nor ``blank`` holds what somebody else wrote."""

    @property
    def read_only(self) -> bool:
        """Write-protected, or loaded to be read."""

    @property
    def capacity_bytes(self) -> int | None:
        """None: as much as the drive takes."""

    @property
    def used_bytes(self) -> int | None:
        """None: a drive does not know."""

    def require_unread(self) -> None:
        """Before something is told that what stands on it is given up. Raises: BusyError: somebody reads it."""

    def write_label(self, label: TapeLabel) -> None:
        """As the first file; everything behind it is gone. Raises: PermissionDeniedError: write-protected. As TapeWriter.write."""

    def files(self) -> Sequence[TapeFile] | None:
        """Those that stand on it, by number; None: it has to be read to know."""

    def append(self, kind: FileKind, extension: str = PIECE_EXTENSION) -> TapeWriter:
        """The next tape file, behind the last that counts. extension: of a piece, without its first dot.

        Raises: PermissionDeniedError: write-protected. UsageError: it has no label yet.
        """

    def cut(self, after: int) -> None:
        """Tape file ``after`` is the last that counts. Raises: NotFoundError: there is none of that number."""

    def open(self, number: int) -> TapeReader:
        """Raises: NotFoundError: there is none of that number. StoreError."""

    def close(self) -> None: ...
