"""What is read as a tape and is never written to, such as a file, or what a command took."""

from __future__ import annotations

from vsnapfs.core.errors import UsageError, VsnapfsError
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.tape import FileKind, TapeWriter


class ReadOnlyTape:
    """The part of media.tape.Tape that does not depend on what it is. what: it is, for people."""

    problem: VsnapfsError | None = None
    blank = False
    read_only = True
    capacity_bytes: int | None = None

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self._what = what

    def require_unread(self) -> None:
        """It is never written over."""

    def write_label(self, label: TapeLabel) -> None:
        raise self._never()

    def append(self, kind: FileKind, extension: str = "") -> TapeWriter:
        raise self._never()

    def cut(self, after: int) -> None:
        raise self._never()

    def close(self) -> None:
        """Nothing is open."""

    def _never(self) -> VsnapfsError:
        return UsageError(f"{self.name} {self._what}, and is read only")
