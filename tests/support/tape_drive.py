"""A tape drive that behaves as Linux's driver st says it does, over a cartridge that is a file: no kernel, no hardware.

What it does was compared with st itself over an emulated SSC device (tests/applications/tape_guest.py).
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from vsnapfs.media.ioctl import Device, DriveStatus, Op
from vsnapfs.media.tape import Readable, Writable

BLOCK_BYTES_MIN = 4
"""As that of READ BLOCK LIMITS."""

_LENGTH = struct.Struct("<I")
"""Before each block on the cartridge's file; 0: a file mark."""


class Cartridge:
    """Blocks and file marks, in a file that has what is on the tape."""

    def __init__(
        self, path: Path, *, capacity_bytes: int = 64 << 20, warning_bytes: int = 0, write_protected: bool = False
    ) -> None:
        """warning_bytes: so long before its end it is about to end."""
        self.path = path
        self.capacity_bytes = capacity_bytes
        self.warning_bytes = warning_bytes
        self.write_protected = write_protected
        self.damaged: set[int] = set()
        """Addresses of blocks that cannot be read."""
        path.touch()

    def load(self) -> list[bytes]:
        content = self.path.read_bytes()
        blocks = []
        at = 0
        while at < len(content):
            (length,) = _LENGTH.unpack_from(content, at)
            at += _LENGTH.size
            blocks.append(content[at : at + length])
            at += length
        return blocks

    def keep(self, blocks: list[bytes]) -> None:
        self.path.write_bytes(b"".join(_LENGTH.pack(len(block)) + block for block in blocks))


def refusal(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@dataclass
class EmulatedDrive:
    """Where a cartridge is put in. Called as StDevice is: it opens the drive."""

    cartridge: Cartridge | None = None
    polls_until_ready: int = 0
    """So often it is opened before it has loaded the tape."""
    tells_position: bool = True
    tells_files: bool = True
    """False: it does not know how many marks it went over on the way to the end."""
    stays_at_damage: bool = True
    """After a block that cannot be read it stands before it, else behind."""
    invents: bool = False
    """Reading what was never written gives bytes of nothing."""
    opened: EmulatedDevice | None = None
    operations: list[tuple[str, int]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    """Name of an operation, ``read`` or ``write``: the errno that the next one fails with."""

    def __call__(self, path: str, *, write: bool) -> Device:
        if self.opened is not None:
            raise refusal(errno.EBUSY)
        if write and self.cartridge is not None and self.cartridge.write_protected:
            raise refusal(errno.EROFS)
        if self.polls_until_ready:
            self.polls_until_ready -= 1
            self.opened = EmulatedDevice(self, None, write=write)
        else:
            self.opened = EmulatedDevice(self, self.cartridge, write=write)
        return self.opened


class EmulatedDevice:
    """See media.ioctl.Device."""

    def __init__(self, drive: EmulatedDrive, cartridge: Cartridge | None, *, write: bool) -> None:
        self._drive = drive
        self._cartridge = cartridge
        self._write = write
        self._blocks = [] if cartridge is None else cartridge.load()
        self._at = 0
        self._block_bytes = 0
        self._is_writing = False
        self._behind_mark = False
        self._at_end_of_data = False
        self._warned = False
        self._lost = False
        """It does not know in which file it is."""

    def readinto(self, buffer: Writable) -> int:
        self._begin("read")
        self._end_writing()
        view = memoryview(buffer)
        if self._at == len(self._blocks):
            return self._read_nothing(view)
        if self._at in self._loaded.damaged:
            self._at += 0 if self._drive.stays_at_damage else 1
            raise refusal(errno.EIO)
        block = self._blocks[self._at]
        self._at += 1
        self._behind_mark = not block
        if len(block) > len(view):
            raise refusal(errno.ENOMEM)
        view[: len(block)] = block
        return len(block)

    def write(self, block: Readable) -> int:
        self._begin("write")
        content = bytes(block)
        if not self._write:
            raise refusal(errno.EBADF)
        if len(content) < BLOCK_BYTES_MIN or (self._block_bytes and len(content) % self._block_bytes):
            raise refusal(errno.EINVAL)
        if not self._is_writing:
            del self._blocks[self._at :]
        self._is_writing = True
        room = self._loaded.capacity_bytes - sum(map(len, self._blocks)) - len(content)
        if room < 0 or (room < self._loaded.warning_bytes and not self._warned):
            self._warned = True
            raise refusal(errno.ENOSPC)
        self._warned = False
        size = self._block_bytes or len(content)
        self._blocks += [content[at : at + size] for at in range(0, len(content), size)]
        self._at = len(self._blocks)
        self._loaded.damaged -= set(range(self._at - 1, self._at + 1))
        return len(content)

    def operate(self, op: Op, count: int = 1) -> None:
        self._begin(op.name)
        self._drive.operations.append((op.name, count))
        self._at_end_of_data = False
        self._behind_mark = False
        if op is Op.WEOF:
            self._write_marks(count)
            return
        self._end_writing()
        if op is Op.SETBLK:
            self._block_bytes = count
        elif op in (Op.REW, Op.OFFL):
            self._at = 0
            self._lost = False
            if op is Op.OFFL:
                self._cartridge = self._drive.cartridge = None
        elif op is Op.EOM:
            self._at = len(self._blocks)
            self._lost = not self._drive.tells_files
        else:
            self._space(op, count)

    def status(self) -> DriveStatus:
        before = self._blocks[: self._at]
        marks = [place for place, block in enumerate(before) if not block]
        block = self._at - (marks[-1] + 1 if marks else 0)
        return DriveStatus(
            online=self._cartridge is not None,
            empty=self._cartridge is None and self._drive.cartridge is None,
            write_protected=self._cartridge is not None and self._cartridge.write_protected,
            at_beginning=self._at == 0,
            at_end_of_data=self._at_end_of_data,
            at_end_of_tape=self._warned,
            file=8388607 if self._lost else len(marks),
            block=None if self._lost else block,
        )

    def position(self) -> int | None:
        return self._at if self._drive.tells_position else None

    def close(self) -> None:
        if self._drive.opened is self:
            self._end_writing()
            self._drive.opened = None

    def cut_off(self) -> None:
        """The machine stops: what was written stays, without a mark."""
        self._is_writing = False
        self._loaded.keep(self._blocks)
        self._drive.opened = None

    @property
    def _loaded(self) -> Cartridge:
        if self._cartridge is None:
            raise refusal(errno.ENOMEDIUM)
        return self._cartridge

    def _begin(self, what: str) -> None:
        _ = self._loaded
        code = self._drive.faults.pop(what, 0)
        if code:
            raise refusal(code)

    def _write_marks(self, count: int) -> None:
        if not self._write:
            raise refusal(errno.EACCES)
        if not self._is_writing:
            del self._blocks[self._at :]
        self._blocks += [b""] * count
        self._at = len(self._blocks)
        self._is_writing = False
        self._behind_mark = True
        self._loaded.keep(self._blocks)

    def _end_writing(self) -> None:
        """The driver writes a mark before it goes elsewhere."""
        if self._is_writing:
            self._write_marks(1)

    def _read_nothing(self, view: memoryview) -> int:
        """Nothing behind a mark is the end of a file once more, before it is an error."""
        if self._drive.invents:
            self._at_end_of_data = True
            return len(view)
        if self._behind_mark:
            self._behind_mark = False
            self._at_end_of_data = True
            return 0
        raise refusal(errno.EIO)

    def _space(self, op: Op, count: int) -> None:
        for _ in range(count):
            if op is Op.BSR:
                self._at -= 1
                continue
            if op is Op.FSF:
                while self._at < len(self._blocks) and self._blocks[self._at]:
                    self._at += 1
            if self._at == len(self._blocks):
                raise refusal(errno.EIO)
            self._at += 1
