"""The tape in a drive: files that end with a file mark, found by counting marks from the beginning.

A drive knows neither what stands on its tape nor where that ends to count: the first is read, the second is told to ``cut``. Blocks
are of a variable length unless the settings say otherwise; with a fixed one the last block of a file is filled up with zeros.

Source: docs/tape-format.md, section on drives.
"""

from __future__ import annotations

import errno

from vsnapfs.core.errors import (
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    UsageError,
    VsnapfsError,
    from_os_error,
)
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.drive_files import DriveReader, DriveWriter
from vsnapfs.media.ioctl import Device, Op
from vsnapfs.media.label import decode_label, encode_label
from vsnapfs.media.tape import PIECE_EXTENSION, FileKind


class DriveTape:
    """See media.tape.Tape."""

    def __init__(
        self,
        device: Device,
        place: str,
        *,
        block_bytes: int,
        write: bool,
        fixed: bool = False,
        capacity_bytes: int | None = None,
    ) -> None:
        """Takes the device over, rewinds the tape and reads its label. place: of the drive, for people.

        Raises: StoreError: the drive does not do what it is told.
        """
        self._device = device
        self._place = place
        self._block_bytes = block_bytes
        self._fixed = fixed
        self._write = write
        self._end: int | None = None
        """How many files count; None: as many as there are."""
        self.capacity_bytes = capacity_bytes
        self.used_bytes: int | None = None
        self.label: TapeLabel | None = None
        self.problem: VsnapfsError | None = None
        self.blank = False
        try:
            self._operate(Op.SETBLK, block_bytes if fixed else 0, "set the length of blocks of")
            self.protected = device.status().write_protected
            self._read_label()
        except OSError as error:
            device.close()
            raise from_os_error(error, f"look at the tape in {place}") from error
        except BaseException:
            device.close()
            raise

    @property
    def name(self) -> str:
        return f"the tape in {self._place}" if self.label is None else f"tape {self.label.label} in {self._place}"

    @property
    def read_only(self) -> bool:
        return not self._write or self.protected

    def files(self) -> None:
        return None

    def require_unread(self) -> None:
        """Nobody else has the drive."""

    def write_label(self, label: TapeLabel) -> None:
        self._require_writable()
        self._operate(Op.REW, 1, "rewind")
        self._end, self.used_bytes = 0, 0
        writer = self._writer(0)
        try:
            writer.write(encode_label(label))
            writer.finish()
        finally:
            writer.abandon()
        self.label, self.problem, self.blank = label, None, False

    def append(self, kind: FileKind, extension: str = PIECE_EXTENSION) -> DriveWriter:
        """A drive keeps neither: what a file is stands in its index."""
        self._require_writable()
        if self.label is None:
            raise UsageError(f"{self.name} has no label", hint="`vsnapfs tape label` gives it one")
        if self._end is None:
            self._end = self.recorded()
        self._go_to(self._end)
        return self._writer(self._end)

    def cut(self, after: int) -> None:
        """Nothing is written: the next ``append`` begins behind that file."""
        self._go_to(after + 1)
        self._end = after + 1

    def open(self, number: int) -> DriveReader:
        self._go_to(number)
        reader = DriveReader(self._device, f"file {number} of {self.name}", self._block_bytes, fixed=self._fixed)
        if not reader.begins():
            raise NotFoundError(f"{self.name} has no file {number}")
        return reader

    def eject(self) -> None:
        """Rewinds the tape and takes it out of the drive, then ``close``."""
        try:
            self._operate(Op.OFFL, 1, "eject")
        finally:
            self.close()

    def close(self) -> None:
        """The tape stays in the drive. Twice is allowed."""
        try:
            self._device.close()
        except OSError as error:
            raise from_os_error(error, f"let go of {self._place}") from error

    def _writer(self, number: int) -> DriveWriter:
        room = None
        if self.capacity_bytes is not None and self.used_bytes is not None:
            room = self.capacity_bytes - self.used_bytes
        block_bytes = self._block_bytes
        return DriveWriter(
            self._device, number, self.name, block_bytes, self._written, fixed=self._fixed, room_bytes=room
        )

    def _written(self, number: int, size_bytes: int) -> None:
        self._end = number + 1
        if self.used_bytes is not None:
            self.used_bytes += size_bytes

    def _read_label(self) -> None:
        self._operate(Op.REW, 1, "rewind")
        reader = DriveReader(self._device, self.name, self._block_bytes, fixed=self._fixed)
        problem: VsnapfsError | None = None
        try:
            first = bytes(reader.fill())
        except VsnapfsError as error:
            first, problem = b"", error
        found = self._device.status()
        # The latter of drives that give bytes of nothing.
        self.blank = found.at_end_of_data or found.at_end_of_tape or (not first and self._is_empty())
        if self.blank:
            return
        if problem is None and reader.nothing_ahead:
            problem = StoreError(f"the label of {self.name} cannot be read")
        try:
            self.label = decode_label(first, self.name) if problem is None else None
        except VsnapfsError as error:
            problem = error
        self.problem = problem
        if self.label is not None:
            self._block_bytes = self.label.block_bytes

    def _is_empty(self) -> bool:
        """A tape that was never written to reads as one that cannot be read; but its end is its beginning."""
        try:
            self._device.operate(Op.REW)
            self._device.operate(Op.EOM)
        except OSError:
            return False
        position = self._device.position()
        return position == 0 or (position is None and self._device.status().at_beginning)

    def recorded(self) -> int:
        """How many files there are that end with a file mark. Raises: StoreError."""
        self._operate(Op.EOM, 1, "find the end of")
        found = self._device.status()
        if found.file is not None and found.block is not None:
            return found.file
        self._operate(Op.REW, 1, "rewind")  # a drive that does not tell how far it went
        count = 0
        while True:
            try:
                self._forward(count + 1, 1)
            except NotFoundError:
                return count
            count += 1

    def _go_to(self, number: int) -> None:
        """To the beginning of a file. Raises: NotFoundError: there are not so many. StoreError."""
        here = self._device.status()
        if here.file == number and here.block == 0:
            return
        ahead = number
        if here.file is not None and here.file < number:
            ahead = number - here.file
        else:
            self._operate(Op.REW, 1, "rewind")
        if ahead:
            self._forward(number, ahead)
        found = self._device.status()
        if found.file is not None and (found.file, found.block or 0) != (number, 0):
            raise StoreError(f"{self._place} is at file {found.file} of the tape, not at {number}")

    def _forward(self, number: int, count: int) -> None:
        """Raises: NotFoundError: the tape ends before, or cannot be read on the way: drives do not tell these apart. StoreError."""
        try:
            self._device.operate(Op.FSF, count)
        except OSError as error:
            if error.errno == errno.EIO:
                raise NotFoundError(f"{self.name} has no file {number} that can be reached") from error
            raise from_os_error(error, f"go to file {number} of {self.name}") from error

    def _require_writable(self) -> None:
        if self.protected:
            raise PermissionDeniedError(f"{self.name} is write-protected", hint="there is a switch on the cartridge")
        if not self._write:
            raise PermissionDeniedError(f"{self.name} was loaded to be read")

    def _operate(self, op: Op, count: int, doing: str) -> None:
        try:
            self._device.operate(op, count)
        except OSError as error:
            raise from_os_error(error, f"{doing} {self.name}") from error
