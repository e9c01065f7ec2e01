"""A tape drive as a medium: which tape is in it, and having another one put in.

Source: docs/tape.md.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NoSpaceError,
    TimedOutError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.names import check_name
from vsnapfs.core.tapes import TapeEntry
from vsnapfs.media.changer import Changer, Slot
from vsnapfs.media.choice import appendable, next_label, reusable
from vsnapfs.media.drive_tape import DriveTape
from vsnapfs.media.ioctl import Device
from vsnapfs.media.label import new_label
from vsnapfs.media.medium import Begun, TapeSeen
from vsnapfs.media.whole import is_whole_index
from vsnapfs.policy.media import DriveSettings

LOOK_EVERY_S = 1.0
ASKED_MAX = 10
"""So often a tape is asked for that is not the one that comes."""
NO_TAPE = (errno.ENOMEDIUM, errno.EIO)
"""What opening, and using, a drive without a tape gives."""


class OpenDevice(Protocol):
    """Opens the drive; see media.ioctl.StDevice."""

    def __call__(self, path: str, *, write: bool) -> Device: ...


class _Choice(NamedTuple):
    """open, spent: those of ``known`` that may be appended to, and that may be written over."""

    known: Sequence[TapeEntry]
    open: Sequence[TapeEntry]
    spent: Sequence[TapeEntry]
    begun: Begun


class Drive:
    """See media.medium.Medium."""

    kind = "drive"

    def __init__(
        self,
        name: str,
        settings: DriveSettings,
        changer: Changer,
        open_device: OpenDevice,
        clock: Callable[[], int] = time.time_ns,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.settings = settings
        self._changer = changer
        self._open_device = open_device
        self._clock = clock
        self._wait = wait

    def close(self) -> None:
        """The tape stays in the drive."""

    def tapes(self) -> list[TapeSeen]:
        """Those of the changer; without one that tells, the one in the drive."""
        slots = self._changer.slots()
        if slots:
            return [TapeSeen(slot.label, slot.place, None, None, read_only=False, blank=False) for slot in slots]
        tape = self._loaded(write=False)
        if tape is None:
            return []
        tape.close()
        label, uuid = (None, None) if tape.label is None else (tape.label.label, tape.label.uuid)
        place = self.settings.device
        return [TapeSeen(label, place, None, None, read_only=tape.protected, blank=tape.blank, uuid=uuid)]

    def foreign(self) -> list[str]:
        return []

    def load(self, label: str, *, write: bool = False) -> DriveTape:
        tape = self._loaded(write=write)
        found = "no tape"
        for _ in range(ASKED_MAX if self.settings.changer == "prompt" else 1):
            if tape is not None and self._has_label(tape, label):
                return tape
            self._put_away(tape)
            self._changer.bring([label])
            tape = self._ready(write=write)
            found = self._what(tape)
        if tape is not None and self._has_label(tape, label):
            return tape
        self._put_away(tape)
        raise IntegrityError(f"{self.name} needs tape {label}, and was given {found}")

    def load_blank(self, label: str) -> DriveTape:
        check_name(label, "tape")
        slots = self._changer.slots()
        if any(slot.label == label for slot in slots):
            self._put_away(self._loaded(write=True))
            self._changer.bring([label])
            return self._ready(write=True)
        tape = self._loaded(write=True)
        if tape is not None:
            return tape
        self._changer.bring([], blank=True)
        return self._ready(write=True)

    def next(self, known: Sequence[TapeEntry], begun: Begun, *, fresh: bool = False) -> DriveTape:
        spent = reusable(known, self._clock(), self.settings.retention_ns)
        choice = _Choice(known, appendable(known, fresh=fresh), spent, begun)
        tape = self._loaded(write=True)
        if tape is not None and (ready := self._to_write(tape, choice, None)) is not None:
            return ready
        slots = self._changer.slots()
        if slots:
            return self._next_of(slots, choice)
        for _ in range(ASKED_MAX):
            self._changer.bring([entry.label for entry in [*choice.open[:1], *spent[:1]]], blank=True)
            if (ready := self._to_write(self._ready(write=True), choice, None)) is not None:
                return ready
        raise self._none_left()

    def _next_of(self, slots: Sequence[Slot], choice: _Choice) -> DriveTape:
        """The robot's: those to append to, then those that nobody knows, if they are blank, then those on which nothing counts."""
        slots = [slot for slot in slots if slot.drive in (None, self.settings.changer_drive)]  # others are in use
        by_label = {slot.label: slot for slot in slots if slot.label is not None}
        taken = {entry.label for entry in choice.known}
        strange = [slot for slot in slots if slot.label not in taken]
        wanted = [by_label[entry.label] for entry in choice.open if entry.label in by_label]
        last = [by_label[entry.label] for entry in choice.spent if entry.label in by_label]
        for slot in [*wanted, *strange, *last]:
            self._changer.bring_slot(slot)
            if (ready := self._to_write(self._ready(write=True), choice, slot.label)) is not None:
                return ready
        raise self._none_left()

    def _to_write(self, tape: DriveTape, choice: _Choice, barcode: str | None) -> DriveTape | None:
        """The tape, ready to be appended to; None: it is not one that may be written to, and was put away."""
        try:
            entry = self._entry_of(tape, choice)
            if tape.read_only or tape.problem is not None:
                pass
            elif entry is None:
                label = self._label_for(barcode, choice.known) if tape.blank else None
                if label is not None and not _counts(label, self.name, choice.known):
                    return self._labelled(tape, label, _generation(label, choice.known), choice.begun)
            elif entry in choice.open and self._is_labelled(tape, entry):
                self._cut(tape, entry)
                return tape
            elif entry in choice.open:
                return self._labelled(tape, entry.label, entry.generation, choice.begun)
            elif entry in choice.spent:
                return self._labelled(tape, entry.label, entry.generation + 1, choice.begun)
        except BaseException:
            tape.close()
            raise
        self._put_away(tape)
        return None

    def _entry_of(self, tape: DriveTape, choice: _Choice) -> TapeEntry | None:
        """What the catalog knows of the tape. Also if a crash was between what it was told of a new label and the label."""
        label = tape.label
        if label is None:
            return None
        return next(
            (
                entry
                for entry in choice.known
                if entry.uuid == label.uuid
                or (entry.label == label.label and entry.files == 1 and entry.generation > label.generation)
            ),
            None,
        )

    def _is_labelled(self, tape: DriveTape, entry: TapeEntry) -> bool:
        return tape.label is not None and tape.label.uuid == entry.uuid

    def _cut(self, tape: DriveTape, entry: TapeEntry) -> None:
        """What stands behind the files that the catalog knows and has its index is not written over: an older copy of the catalog may
        have been put back. Pieces have odd numbers, their indexes the next ones."""
        recorded = tape.recorded()
        if recorded < entry.files:
            what = f"{tape.name} has {recorded} files of the {entry.files} that the catalog knows"
            raise IntegrityError(what, hint=f"`vsnapfs tape verify {entry.label}`, and retire it")
        last = recorded - 1 if recorded % 2 else recorded - 2
        if last >= entry.files and not is_whole_index(tape.open(last)):
            last -= 2  # the driver has ended it, and not who wrote it
        tape.cut(last)
        tape.used_bytes = entry.used_bytes

    def _labelled(self, tape: DriveTape, label: str, generation: int, begun: Begun) -> DriveTape:
        wanted = new_label(label, self.name, self.settings.block_bytes, self._clock(), generation=generation)
        begun(wanted)
        tape.write_label(wanted)
        return tape

    def _label_for(self, barcode: str | None, known: Sequence[TapeEntry]) -> str:
        if barcode is None:
            loaded = [slot.label for slot in self._changer.slots() if slot.drive == self.settings.changer_drive]
            barcode = loaded[0] if loaded else None
        try:
            return check_name(barcode or "", "tape")
        except UsageError:
            return next_label(self.settings.labels, [entry.label for entry in known])

    def _has_label(self, tape: DriveTape, label: str) -> bool:
        return tape.label is not None and tape.label.label == label

    def _what(self, tape: DriveTape) -> str:
        """For people."""
        return tape.name if tape.label is not None else "a blank tape" if tape.blank else "a tape that is not ours"

    def _put_away(self, tape: DriveTape | None) -> None:
        """Out of the drive."""
        if tape is not None:
            tape.eject()

    def _loaded(self, *, write: bool) -> DriveTape | None:
        """What is in the drive now; None: nothing is."""
        device = self._opened(write=write)
        if device is None:
            return None
        return self._tape(device, write=write)

    def _ready(self, *, write: bool) -> DriveTape:
        """What is in the drive when it has loaded it. Raises: TimedOutError."""
        end_s = self.settings.ready_s
        waited_s = 0.0
        while (device := self._opened(write=write)) is None:
            if waited_s >= end_s:
                raise TimedOutError(f"{self.settings.device} has no tape that is ready after {self.settings.ready}")
            self._wait(LOOK_EVERY_S)
            waited_s += LOOK_EVERY_S
        return self._tape(device, write=write)

    def _opened(self, *, write: bool) -> Device | None:
        """None: no tape is in it, or it is not ready yet. Raises: BusyError, NotFoundError, StoreError."""
        try:
            try:
                device = self._open_device(self.settings.device, write=write)
            except OSError as error:
                if error.errno != errno.EROFS or not write:
                    raise
                device = self._open_device(self.settings.device, write=False)  # write-protected
            if device.status().online:
                return device
            device.close()
        except OSError as error:
            if error.errno in NO_TAPE:
                return None
            if error.errno == errno.EBUSY:
                raise BusyError(f"{self.settings.device} is in use by another process") from error
            raise from_os_error(error, f"open {self.settings.device}") from error
        return None

    def _tape(self, device: Device, *, write: bool) -> DriveTape:
        settings = self.settings
        return DriveTape(
            device,
            settings.device,
            block_bytes=settings.block_bytes,
            write=write,
            fixed=settings.fixed,
            capacity_bytes=settings.capacity_bytes,
        )

    def _none_left(self) -> NoSpaceError:
        return NoSpaceError(f"no tape of {self.name} can be written to: they are full, protected, or hold what counts")


def _counts(label: str, medium: str, known: Sequence[TapeEntry]) -> bool:
    """A tape of that label holds something, is protected or another medium's, whatever the one with that barcode looks like."""
    return any(
        entry.medium != medium or entry.protected or (entry.files > 1 and entry.state != "retired")
        for entry in known
        if entry.label == label
    )


def _generation(label: str, known: Sequence[TapeEntry]) -> int:
    """Of a tape that gets this label now: a later one than of any that had it."""
    return 1 + max((entry.generation for entry in known if entry.label == label), default=0)
