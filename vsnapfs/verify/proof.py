"""The steps of a proof, on any ground that volumes of a branch can be attached and looked at on.

1. each volume is mounted writable and let go again: its filesystem replays its journal, as it would after a restore
2. the filesystem of each is checked, while nothing has it mounted
3. a volume without a filesystem that could be mounted or checked here is read whole: each block is compared with its checksum
4. all are mounted, and the program is run; it may write

The first step that fails ends the proof: the point is not shown to be good. What has nothing to do with the point (no right, no room,
no program to do it with, somebody else is at work) is no verdict, but an error; and what nobody here can make out is not bad for that.

Source: docs/verify.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from vsnapfs.core.errors import (
    BusyError,
    LockedError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    TimedOutError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.core.model import Proved
from vsnapfs.policy.verification import Verification

NO_VERDICT = (
    PermissionDeniedError,
    ReadOnlyError,
    BusyError,
    LockedError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    TimedOutError,
)
"""What says nothing of a point: it is not the point's fault."""

STEPS = ("Pass ", "Phase ", "- ", "e2fsck ")
FINDINGS_LENGTH_MAX = 240


class Checked(NamedTuple):
    """What a check has found. ok: None: nobody here knows how to check such a filesystem."""

    ok: bool | None
    text: str


class Ground(Protocol):
    """A throw-away branch on the point; each call may block. Volumes are named by their names."""

    def file(self, volume: str) -> Path:
        """Its bytes, writable."""

    def attached(self, volume: str) -> AbstractContextManager[Path]:
        """Its filesystem, mounted writable while the block runs: where. Raises: UsageError: it holds none that can be mounted here; other
        VsnapfsError: it cannot be."""

    def shown(self, volume: str) -> AbstractContextManager[Path]:
        """Its file, while the block runs, where the others are mounted."""

    def check(self, volume: str, timeout_s: float) -> Checked:
        """Its filesystem, which is not mounted. Raises: UsageError: nobody can tell which that is."""

    def read(self, volume: str) -> None:
        """Every block of it, compared with its checksum. Raises: VsnapfsError: one cannot be had."""

    def run(self, places: Mapping[str, Path], until: float) -> str:
        """The program, with the volumes at these places, until time.monotonic(). Returns: why it did not succeed; "": it did. Raises:
        VsnapfsError: it could not be run."""


class Proof(NamedTuple):
    """What a proof has come to. reason: why the point is not good; "": it is. proved: what was done, and went well."""

    reason: str
    proved: tuple[Proved, ...]
    took_s: float
    remarks: tuple[str, ...]
    """Which volumes were not looked at as the others, and why."""

    @property
    def good(self) -> bool:
        return not self.reason


class _UnprovedError(Exception):
    """A step has failed."""


Say = Callable[[str], None]


def prove(verification: Verification, volumes: Sequence[str], ground: Ground, say: Say) -> Proof:
    """Prove a point as the profile says. say: is told each step as it begins.

    Raises: VsnapfsError of NO_VERDICT, or of what kept the program from being run: it could not be tried.
    """
    began = time.monotonic()
    steps = _Steps(verification, volumes, ground, say)
    reason = ""
    try:
        steps.go()
    except _UnprovedError as failed:
        reason = str(failed)
    return Proof(reason, tuple(steps.proved), time.monotonic() - began, tuple(steps.remarks))


class _Steps:
    """One after the other. ``proved``: those that went well, as far as it has come."""

    def __init__(self, verification: Verification, volumes: Sequence[str], ground: Ground, say: Say) -> None:
        self._verification, self._volumes, self._ground, self._say = verification, volumes, ground, say
        self._unmounted: dict[str, str] = {}
        """Volumes without a filesystem that can be mounted here, and why."""
        self._unchecked: dict[str, str] = {}
        self.proved: list[Proved] = []
        self.remarks: list[str] = []

    def go(self) -> None:
        """Raises: _UnprovedError: one of them did not go well."""
        if self._verification.mount:
            self._mount()
        if self._verification.check:
            self._check()
        if self._verification.mount or self._verification.check:
            self._read()
        if self._verification.command:
            self._run()

    def _mount(self) -> None:
        for volume in self._volumes:
            self._say(f"mounting {volume}")
            try:
                with _judged(volume), self._ground.attached(volume):
                    pass
            except UsageError as error:
                self._unmounted[volume] = self._of_it(volume, error)
        if len(self._unmounted) < len(self._volumes):
            self.proved.append("mounted")

    def _check(self) -> None:
        self._say(f"checking the filesystems of {', '.join(self._volumes)}")
        for volume in self._volumes:
            try:
                with _judged(volume):
                    found = self._ground.check(volume, self._verification.timeout_s)
            except UsageError as error:
                found = Checked(None, self._of_it(volume, error))
            if found.ok is False:
                raise _UnprovedError(f"{volume}: {_in_a_line(found.text)}")
            if found.ok is None:
                self._unchecked[volume] = found.text
        if len(self._unchecked) < len(self._volumes):
            self.proved.append("checked")

    def _read(self) -> None:
        """What there was nothing else to do with; and tell what was not done."""
        for volume in self._volumes:
            mounted = self._verification.mount and volume not in self._unmounted
            checked = self._verification.check and volume not in self._unchecked
            why = _in_a_line(self._unmounted.get(volume) or self._unchecked.get(volume, ""))
            if not mounted and not checked:
                self._say(f"reading {volume}")
                with _judged(volume):
                    self._ground.read(volume)
                if "read" not in self.proved:
                    self.proved.append("read")
                self.remarks.append(f"{volume} was read whole, and that is all: {why}")
            elif volume in self._unmounted or volume in self._unchecked:
                self.remarks.append(f"{volume} was not {'checked' if mounted else 'mounted'}: {why}")

    def _of_it(self, volume: str, error: VsnapfsError) -> str:
        """Without the name of the file, which goes with the branch."""
        return error.message.replace(str(self._ground.file(volume)), "it")

    def _run(self) -> None:
        command = self._verification.command
        with ExitStack() as stack:
            places = {volume: self._place(volume, stack) for volume in self._volumes}
            self._say(f"running {command[0]}")
            failure = self._outcome(places)
        if isinstance(failure, VsnapfsError):
            raise failure
        if failure:
            raise _UnprovedError(failure)
        self.proved.append("command")

    def _outcome(self, places: Mapping[str, Path]) -> str | VsnapfsError:
        """Of the program; an error says that it could not be run, which is no fault of the volumes that are mounted for it."""
        try:
            return self._ground.run(places, time.monotonic() + self._verification.timeout_s)
        except VsnapfsError as error:
            return error

    def _place(self, volume: str, stack: ExitStack) -> Path:
        if not self._verification.mount:
            return self._ground.file(volume)
        stack.enter_context(_judged(volume))  # also when it is let go: what was written may not come to be
        if volume in self._unmounted:
            return stack.enter_context(self._ground.shown(volume))
        return stack.enter_context(self._ground.attached(volume))


def _in_a_line(text: str) -> str:
    """What a checker has found, without the steps that all of them tell, and bounded."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(STEPS)]
    return " ".join(" ".join(lines).split())[:FINDINGS_LENGTH_MAX] or "its filesystem is not sound"


@contextmanager
def _judged(volume: str) -> Iterator[None]:
    """What fails in the block is the point's fault, but for NO_VERDICT, and for what is in a volume that nobody here knows."""
    try:
        yield
    except (*NO_VERDICT, UsageError):
        raise
    except VsnapfsError as error:
        raise _UnprovedError(f"{volume}: {error}") from error
