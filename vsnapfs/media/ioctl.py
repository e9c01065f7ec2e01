"""A tape drive as Linux's driver st has it: the one place that opens ``/dev/nst*`` and does its ioctls.

OSError leaves as it is: what a code means depends on what was done (ENOSPC of a write is the end of the tape), and that is known to
who asked. Everything else here follows linux/mtio.h and the driver's documentation; structures are those of the machine's ABI.
"""

from __future__ import annotations

import fcntl
import os
import struct
from enum import IntEnum
from typing import NamedTuple, Protocol

from vsnapfs.media.tape import Readable, Writable

_OPERATION = struct.Struct("@hi")
"""struct mtop: mt_op, mt_count."""
_STATUS = struct.Struct("@lllllii")
"""struct mtget: mt_type, mt_resid, mt_dsreg, mt_gstat, mt_erreg, mt_fileno, mt_blkno."""
_POSITION = struct.Struct("@l")
"""struct mtpos: mt_blkno."""

_WRITE, _READ = 1, 2
_GROUP = ord("m")


def _request(direction: int, number: int, size: int) -> int:
    """As the macros _IOW and _IOR make it."""
    return direction << 30 | size << 16 | _GROUP << 8 | number


MTIOCTOP = _request(_WRITE, 1, _OPERATION.size)
MTIOCGET = _request(_READ, 2, _STATUS.size)
MTIOCPOS = _request(_READ, 3, _POSITION.size)

GMT_BOT = 0x40000000
GMT_EOT = 0x20000000
GMT_EOD = 0x08000000
GMT_WR_PROT = 0x04000000
GMT_ONLINE = 0x01000000
GMT_DR_OPEN = 0x00040000


class Op(IntEnum):
    """What MTIOCTOP does."""

    FSF = 1
    """Forward over so many file marks."""
    FSR = 3
    """Forward over so many blocks."""
    BSR = 4
    WEOF = 5
    """Write so many file marks, and have everything before them on the tape: 0 does the latter alone."""
    REW = 6
    OFFL = 7
    """Rewind and eject."""
    EOM = 12
    """To the end of what is recorded."""
    SETBLK = 20
    """Blocks of this length; 0: of any."""


class DriveStatus(NamedTuple):
    """What MTIOCGET tells. file, block: where it is, block in the file; None: it is not known."""

    online: bool
    empty: bool
    write_protected: bool
    at_beginning: bool
    at_end_of_data: bool
    at_end_of_tape: bool
    file: int | None
    block: int | None


class Device(Protocol):
    """An open drive, as st behaves. All methods raise OSError."""

    def readinto(self, buffer: Writable) -> int:
        """One block, 0 at a file mark, which it then is behind. ENOMEM: the block is longer than the buffer, and was passed over. EIO:
        it cannot be read, or nothing was ever written there."""

    def write(self, block: Readable) -> int:
        """One block. ENOSPC: the tape is about to end; after it a few more can be written."""

    def operate(self, op: Op, count: int = 1) -> None: ...

    def status(self) -> DriveStatus: ...

    def position(self) -> int | None:
        """Blocks and file marks from the beginning; None: the drive does not tell."""

    def close(self) -> None:
        """What was written to last gets its file mark, if it has none."""


class StDevice:
    """See Device. Resource handling: holds the drive, which one process alone can have open."""

    def __init__(self, path: str, *, write: bool) -> None:
        """Does not wait for a tape. Raises: OSError: EROFS: write-protected; EBUSY: another process has it open."""
        access = os.O_RDWR if write else os.O_RDONLY
        self._fd = os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC)

    def readinto(self, buffer: Writable) -> int:
        return os.readv(self._fd, [buffer])

    def write(self, block: Readable) -> int:
        return os.write(self._fd, block)

    def operate(self, op: Op, count: int = 1) -> None:
        fcntl.ioctl(self._fd, MTIOCTOP, _OPERATION.pack(op, count))

    def status(self) -> DriveStatus:
        found = _STATUS.unpack(fcntl.ioctl(self._fd, MTIOCGET, bytes(_STATUS.size)))
        flags, file, block = found[3], found[5], found[6]
        return DriveStatus(
            online=bool(flags & GMT_ONLINE),
            empty=bool(flags & GMT_DR_OPEN),
            write_protected=bool(flags & GMT_WR_PROT),
            at_beginning=bool(flags & GMT_BOT),
            at_end_of_data=bool(flags & GMT_EOD),
            at_end_of_tape=bool(flags & GMT_EOT),
            file=file if file >= 0 else None,
            block=block if block >= 0 else None,
        )

    def position(self) -> int | None:
        try:
            found: int = _POSITION.unpack(fcntl.ioctl(self._fd, MTIOCPOS, bytes(_POSITION.size)))[0]
        except OSError:
            return None
        return found

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
