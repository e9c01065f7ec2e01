"""Who puts tapes into a drive: a robot that a program steers, a person at the terminal, or nobody.

Source: docs/tape.md, section on changers; mtx(1).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from vsnapfs.core.errors import NotFoundError, StoreError, TimedOutError
from vsnapfs.core.names import near
from vsnapfs.policy.media import DriveSettings

MTX_STATUS = ("mtx", "-f", "{device}", "status")
MTX_LOAD = ("mtx", "-f", "{device}", "load", "{slot}", "{drive}")
MTX_UNLOAD = ("mtx", "-f", "{device}", "unload", "{slot}", "{drive}")
CLEANING = "CLN"
"""Begins the barcodes of cartridges that clean drives."""
TIMEOUT_S = 900.0
"""Of one program: a robot with many drives may be busy with others."""
OUTPUT_LENGTH_MAX = 200

Ask = Callable[[str], None]
"""Says a line to a person, and returns when it was done. Raises: NotFoundError: nobody is there."""

_ELEMENT = re.compile(
    r"\s*(?P<kind>Data Transfer|Storage) Element (?P<number>[0-9]+)(?P<port> IMPORT/EXPORT)?\s*:"
    r"\s*(?P<state>Full|Empty)(?P<rest>.*)"
)
_TAG = re.compile(r"VolumeTag\s*=\s*(?P<tag>\S+)")
_FROM = re.compile(r"\(Storage Element (?P<slot>[0-9]+) Loaded\)")


class Slot(NamedTuple):
    """A place for a tape that has one. label: by its barcode, None: it has none. slot: where it is or belongs, None: not known. drive: in
    which it is, None: in its slot."""

    label: str | None
    slot: int | None
    drive: int | None

    @property
    def place(self) -> str:
        return f"slot {self.slot}" if self.drive is None else f"drive {self.drive}"


class Changer(Protocol):
    """Errors of all methods: StoreError, TimedOutError: the program failed, or nobody answered."""

    def slots(self) -> list[Slot]:
        """Tapes that it can bring, or has in a drive; empty: it does not know."""

    def bring(self, labels: Sequence[str], *, blank: bool = False) -> None:
        """Put the tape of one of these labels into the drive, the first one preferred, or a blank one. What is in the drive has been let
        go of, and is put away.

        Raises: NotFoundError: there is none; the message names what is wanted.
        """

    def bring_slot(self, slot: Slot) -> None:
        """Put the tape of that place into the drive."""


class Programs:
    """A robot, steered by programs; by mtx if the settings say no others."""

    def __init__(self, medium: str, settings: DriveSettings) -> None:
        self._medium = medium
        self._settings = settings
        is_mtx = settings.changer == "mtx"
        self._status = settings.status or (MTX_STATUS if is_mtx else ())
        self._load = settings.load or MTX_LOAD
        self._unload = settings.unload or (MTX_UNLOAD if is_mtx else ())

    def slots(self) -> list[Slot]:
        return parse_status(self._run(self._status, None)) if self._status else []

    def bring(self, labels: Sequence[str], *, blank: bool = False) -> None:
        slots = self.slots()
        if not self._status:
            self._bring_unseen(labels)
            return
        by_label = {slot.label: slot for slot in slots if slot.label is not None}
        for label in labels:
            if label in by_label:
                self.bring_slot(by_label[label])
                return
        known = near(labels[0], by_label) if labels else []
        raise NotFoundError(
            f"the changer of {self._medium} has no tape {' or '.join(labels) or 'that is blank'}", near=known
        )

    def bring_slot(self, slot: Slot) -> None:
        """Also of one that is in the drive: who asks for it has let the drive eject it."""
        drive = self._settings.changer_drive
        if slot.drive not in (None, drive) or slot.slot is None:
            raise StoreError(
                f"tape {slot.label} of {self._medium} is in {slot.place}, and cannot be put into drive {drive}"
            )
        loaded = next((each for each in self.slots() if each.drive == drive), None)
        if loaded is not None and self._unload:
            self._run(self._unload, loaded)
        self._run(self._load, slot)

    def _bring_unseen(self, labels: Sequence[str]) -> None:
        """By a program that finds tapes by their labels itself."""
        if not labels:
            raise NotFoundError(
                f"the changer of {self._medium} does not tell which tapes are blank", hint="`vsnapfs tape label` a tape"
            )
        if self._unload:
            self._run(self._unload, None)
        self._run(self._load, Slot(labels[0], None, None))

    def _run(self, template: Sequence[str], slot: Slot | None) -> str:
        words = {
            "{device}": self._settings.changer_device,
            "{label}": (slot.label or "") if slot is not None else "",
            "{slot}": str(slot.slot) if slot is not None and slot.slot is not None else "",
            "{drive}": str(self._settings.changer_drive),
        }
        command = [_filled(word, words) for word in template]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise StoreError(f"cannot run {command[0]}, the changer of {self._medium}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise TimedOutError(f"`{' '.join(command)}` did not end in {TIMEOUT_S:.0f} s") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[:OUTPUT_LENGTH_MAX]
            raise StoreError(f"`{' '.join(command)}` failed with status {done.returncode}: {said}")
        return done.stdout


class Person:
    """Somebody at the terminal."""

    def __init__(self, medium: str, device: str, ask: Ask) -> None:
        """ask: says a line and returns when it was done. Raises: NotFoundError: nobody is there."""
        self._medium = medium
        self._device = device
        self._ask = ask

    def slots(self) -> list[Slot]:
        return []

    def bring(self, labels: Sequence[str], *, blank: bool = False) -> None:
        self._ask(f"put {wanted(labels, blank=blank)} into {self._device} of {self._medium}")

    def bring_slot(self, slot: Slot) -> None:
        raise AssertionError(slot)


class Nobody:
    """The tape that is wanted is in the drive, or nothing is done."""

    def __init__(self, medium: str, device: str) -> None:
        self._medium = medium
        self._device = device

    def slots(self) -> list[Slot]:
        return []

    def bring(self, labels: Sequence[str], *, blank: bool = False) -> None:
        what = f"{self._medium} needs {wanted(labels, blank=blank)} in {self._device}"
        raise NotFoundError(what, hint="put it in, and run this again")

    def bring_slot(self, slot: Slot) -> None:
        raise AssertionError(slot)


def changer_of(medium: str, settings: DriveSettings, ask: Ask | None) -> Changer:
    """ask: as of Person; None: nobody is at a terminal."""
    if settings.changer in ("mtx", "command"):
        return Programs(medium, settings)
    if settings.changer == "prompt" and ask is not None:
        return Person(medium, settings.device, ask)
    return Nobody(medium, settings.device)


def wanted(labels: Sequence[str], *, blank: bool) -> str:
    """``tape A or tape B or a blank tape``."""
    return " or ".join([*(f"tape {label}" for label in labels), *(["a blank tape"] if blank else [])])


def parse_status(text: str) -> list[Slot]:
    """Tapes in ``mtx status``, but for those that clean drives. Raises: StoreError: it is none."""
    if "Element" not in text:
        raise StoreError("the changer's status names no elements, as that of mtx does")
    slots = []
    for line in text.splitlines():
        match = _ELEMENT.match(line)
        if match is None or match["state"] == "Empty":
            continue
        tag = _TAG.search(match["rest"])
        label = None if tag is None else tag["tag"]
        if label is not None and label.startswith(CLEANING):
            continue
        if match["kind"] == "Storage":
            slots.append(Slot(label, int(match["number"]), None))
        else:
            home = _FROM.search(match["rest"])
            slots.append(Slot(label, None if home is None else int(home["slot"]), int(match["number"])))
    return slots


def _filled(word: str, words: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], word)
