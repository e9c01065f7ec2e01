"""Files on the tape in a drive: blocks, one after the other, until a file mark.

Source: docs/tape-format.md, section on drives; the driver's own words in Documentation/scsi/st of Linux.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from vsnapfs.core.errors import StoreError, VsnapfsError, from_os_error
from vsnapfs.media.ioctl import Device, Op
from vsnapfs.media.tape import DamagedBlockError, EndOfTapeError, Readable, Writable

BLOCK_BYTES_MIN = 512
"""There are drives that take no block of less than a few bytes, so no last one is shorter than this."""
READ_BYTES_MIN = 64 << 10
"""The buffer for blocks of a length that is not known."""
READ_BYTES_MAX = 16 << 20
"""Linux's driver has no longer ones."""
DAMAGED_MAX = 100
"""Blocks that cannot be read one after the other, after which it is the drive and not the tape."""


class DriveWriter:
    """See media.tape.TapeWriter."""

    def __init__(
        self,
        device: Device,
        number: int,
        tape: str,
        block_bytes: int,
        done: Callable[[int, int], None],
        *,
        fixed: bool,
        room_bytes: int | None,
    ) -> None:
        """The device is where the file begins. done: is told of its number and bytes when its mark is on the tape. room_bytes: what the
        tape may take of it; None: until the drive says that it ends."""
        self._device = device
        self._number = number
        self._tape = tape
        self._done = done
        self._fixed = fixed
        self._room = room_bytes
        self._buffer = bytearray(block_bytes)
        self._filled = 0
        self._blocks = 0
        self._written = 0
        self._begin = device.position()
        self._ended = False

    def write(self, block: Readable) -> None:
        assert not self._ended
        rest = memoryview(block).cast("B")
        size = len(self._buffer)
        if self._filled:
            count = min(size - self._filled, len(rest))
            self._buffer[self._filled : self._filled + count] = rest[:count]
            self._filled += count
            rest = rest[count:]
            if self._filled < size:
                return
            self._put(memoryview(self._buffer))
            self._filled = 0
        while len(rest) >= size:
            self._put(rest[:size])
            rest = rest[size:]
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)

    def finish(self) -> int:
        assert not self._ended
        least = len(self._buffer) if self._fixed else BLOCK_BYTES_MIN
        if 0 < self._filled < least:
            self._buffer[self._filled : least] = bytes(least - self._filled)
            self._filled = least
        if self._filled:
            self._put(memoryview(self._buffer)[: self._filled])
        self._ended = True
        try:
            self._device.operate(Op.WEOF, 1)
        except OSError as error:
            raise self._failed(error, "end") from error
        self._check_place()
        self._done(self._number, self._written)
        return self._number

    def abandon(self) -> None:
        """What stands on the tape of it is written over by the next file, or ended by the driver: without an index it does not count."""
        self._ended = True

    def _put(self, block: memoryview) -> None:
        if self._room is not None and self._written + len(block) > self._room:
            raise EndOfTapeError(f"{self._tape} is full")
        try:
            count = self._device.write(block)
        except OSError as error:
            raise self._failed(error, "write") from error
        if count != len(block):
            raise StoreError(f"{self._tape} took {count} bytes of a block of {len(block)}")
        self._blocks += 1
        self._written += count

    def _check_place(self) -> None:
        """The drive is where it has to be after so many blocks and a mark: no block was lost or written elsewhere."""
        file = self._device.status().file
        end = self._device.position()
        if file is not None and file != self._number + 1:
            raise StoreError(f"{self._tape}: the drive is in file {file} after it has written file {self._number}")
        if self._begin is not None and end is not None and end - self._begin != self._blocks + 1:
            what = f"went on by {end - self._begin} for {self._blocks} blocks and a mark"
            raise StoreError(f"{self._tape}: the drive {what}; file {self._number} is not to be trusted")

    def _failed(self, error: OSError, doing: str) -> VsnapfsError:
        at_end = error.errno == errno.EIO and self._device.status().at_end_of_tape
        if error.errno == errno.ENOSPC or at_end:
            return EndOfTapeError(f"{self._tape} is full")
        return from_os_error(error, f"{doing} file {self._number} of {self._tape}")


class DriveReader:
    """See media.tape.TapeReader.

    What was never written gives EIO with most drives. There are some that give as many bytes as were asked for, of nothing, so a block
    of another length than the others is asked about.
    """

    def __init__(self, device: Device, name: str, block_bytes: int, *, fixed: bool) -> None:
        """The device is where the file begins. block_bytes: of which its blocks are, but for the last; longer ones are read too unless
        they are of a fixed length."""
        self._device = device
        self._name = name
        self._block_bytes = block_bytes
        self._buffer = bytearray(block_bytes if fixed else max(block_bytes, READ_BYTES_MIN))
        self._waiting = memoryview(b"")
        """What was read of the tape and not asked for yet."""
        self._offset = 0
        """Of what comes from the tape next, in the file."""
        self._place = device.position()
        self._damaged = 0
        self._ended = False
        self.nothing_ahead = False
        """The file ended without a mark: it was broken off, or never was; or the drive reads nothing at all."""
        self._found: DamagedBlockError | None = None
        """Of the first block, and not told yet."""

    def begins(self) -> bool:
        """Read the first block, to be had by ``readinto``. Returns: whether there is one. Raises: StoreError."""
        try:
            return bool(self.fill())
        except DamagedBlockError as error:
            self._found = error
            return True

    def readinto(self, buffer: Writable) -> int:
        if self._found is not None:
            found, self._found = self._found, None
            raise found
        view = memoryview(buffer).cast("B")
        if not self._waiting and not self._ended:
            if len(view) >= len(self._buffer):
                return self._read(view[: len(self._buffer)])
            self.fill()
        count = min(len(view), len(self._waiting))
        view[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def fill(self) -> memoryview:
        """Read a block, to be had by ``readinto``; empty: the file has ended. Raises: as ``readinto``."""
        count = self._read(memoryview(self._buffer))
        self._waiting = memoryview(self._buffer)[:count]
        return self._waiting

    def close(self) -> None:
        """The tape stays where it is."""

    def _read(self, view: memoryview) -> int:
        if self._ended:
            return 0
        try:
            count = self._device.readinto(view)
        except OSError as error:
            if error.errno == errno.ENOMEM and len(self._buffer) < READ_BYTES_MAX:
                return self._read_long(view)
            self._passed_over(error)
            return 0
        self._ended = count == 0 or (count != self._block_bytes and self._device.status().at_end_of_data)
        if self._ended:
            return 0
        self._offset += count
        self._damaged = 0
        if self._place is not None:
            self._place += 1
        return count

    def _read_long(self, view: memoryview) -> int:
        """The block was passed over, since it is longer than the buffer: read it again with the longest one."""
        try:
            self._device.operate(Op.BSR, 1)
        except OSError as error:
            raise from_os_error(error, f"go back in {self._name}") from error
        self._buffer = bytearray(READ_BYTES_MAX)
        block = self.fill()
        count = min(len(view), len(block))
        view[:count] = block[:count]
        self._waiting = block[count:]
        return count

    def _passed_over(self, error: OSError) -> None:
        """Go on behind a block that cannot be read. Returns if it is not damage: nothing was recorded from here on.

        Raises: DamagedBlockError. StoreError: what follows cannot be reached.
        """
        if error.errno != errno.EIO:
            raise from_os_error(error, f"read {self._name}") from error
        if self._device.status().at_end_of_data or not self._skip(error):
            self._ended = self.nothing_ahead = True
            return
        self._damaged += 1
        if self._damaged > DAMAGED_MAX:
            raise StoreError(f"{self._name}: {DAMAGED_MAX} blocks cannot be read, one after the other") from error
        offset, length = self._offset, self._block_bytes
        self._offset += length
        what = f"{self._name} cannot be read at {offset}"
        raise DamagedBlockError(what, offset_bytes=offset, length_bytes=length) from error

    def _skip(self, error: OSError) -> bool:
        """Behind the block: a drive may stand before it or behind. Returns: False: neither a block nor a mark is ahead.

        Raises: StoreError: a mark is, and blocks before it cannot be passed over.
        """
        here = self._device.position()
        if (here is None or self._place is None or here <= self._place) and not self._moves(Op.FSR):
            if self._moves(Op.FSF):
                what = f"read {self._name} at {self._offset} or go on behind that"
                raise from_os_error(error, what) from error
            return False
        if self._place is not None:
            self._place += 1
        return True

    def _moves(self, op: Op) -> bool:
        try:
            self._device.operate(op, 1)
        except OSError:
            return False
        return True
