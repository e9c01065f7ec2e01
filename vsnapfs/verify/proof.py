"""The steps of a proof, on any ground that volumes of a branch can be attached and looked at on.

1. each volume is mounted writable and let go again: its filesystem replays its journal, as it would after a restore
2. the filesystem of each is checked, while nothing has it mounted
3. all are mounted, and the program is run; it may write

The first step that fails ends the proof: the point is not shown to be good. What has nothing to do with the point (no right, no room,
somebody else is at work) is no verdict, but an error.

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
    PermissionDeniedError,
    ReadOnlyError,
    VsnapfsError,
)
from vsnapfs.core.model import Proved
from vsnapfs.policy.verification import Verification

NO_VERDICT = (PermissionDeniedError, ReadOnlyError, BusyError, LockedError, NameTakenError, NoSpaceError)
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
        """Its filesystem, mounted writable while the block runs: where. Raises: VsnapfsError: it cannot be."""

    def check(self, volume: str, timeout_s: float) -> Checked:
        """Its filesystem, which is not mounted."""

    def run(self, places: Mapping[str, Path], until: float) -> str:
        """The program, with the volumes at these places, until time.monotonic(). Returns: why it did not succeed; "": it did."""


class Proof(NamedTuple):
    """What a proof has come to. reason: why the point is not good; "": it is. proved: what was done, and went well."""

    reason: str
    proved: tuple[Proved, ...]
    took_s: float
    remarks: tuple[str, ...]
    """What could not be looked at."""

    @property
    def good(self) -> bool:
        return not self.reason


class _UnprovedError(Exception):
    """A step has failed."""


Say = Callable[[str], None]


def prove(verification: Verification, volumes: Sequence[str], ground: Ground, say: Say) -> Proof:
    """Prove a point as the profile says. say: is told each step as it begins.

    Raises: VsnapfsError of NO_VERDICT: it could not be tried.
    """
    began = time.monotonic()
    proved: list[Proved] = []
    remarks: list[str] = []
    try:
        _go(verification, volumes, ground, proved, remarks, say)
    except _UnprovedError as failed:
        return Proof(str(failed), tuple(proved), time.monotonic() - began, tuple(remarks))
    return Proof("", tuple(proved), time.monotonic() - began, tuple(remarks))


def _go(
    verification: Verification,
    volumes: Sequence[str],
    ground: Ground,
    proved: list[Proved],
    remarks: list[str],
    say: Say,
) -> None:
    """Step after step. proved: gets those that went well. Raises: _UnprovedError: one did not."""
    if verification.mount:
        for volume in volumes:
            say(f"mounting {volume}")
            with _judged(volume), ground.attached(volume):
                pass
        proved.append("mounted")
    if verification.check:
        say(f"checking the filesystems of {', '.join(volumes)}")
        unknown = [volume for volume in volumes if not _is_checked(ground, volume, verification.timeout_s)]
        remarks += [f"the filesystem of {volume} is of a kind that cannot be checked here" for volume in unknown]
        if len(unknown) < len(volumes):
            proved.append("checked")
    if verification.command:
        with ExitStack() as stack:
            places = {volume: _place(ground, volume, verification.mount, stack) for volume in volumes}
            say(f"running {verification.command[0]}")
            failure = ground.run(places, time.monotonic() + verification.timeout_s)
        if failure:
            raise _UnprovedError(failure)
        proved.append("command")


def _place(ground: Ground, volume: str, mount: bool, stack: ExitStack) -> Path:
    if not mount:
        return ground.file(volume)
    stack.enter_context(_judged(volume))  # also when it is let go: what was written may not come to be
    return stack.enter_context(ground.attached(volume))


def _is_checked(ground: Ground, volume: str, timeout_s: float) -> bool:
    """False: nobody knows how. Raises: _UnprovedError: it is not sound."""
    with _judged(volume):
        found = ground.check(volume, timeout_s)
    if found.ok is False:
        raise _UnprovedError(f"{volume}: {_in_a_line(found.text)}")
    return found.ok is not None


def _in_a_line(text: str) -> str:
    """What a checker has found, without the steps that all of them tell, and bounded."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(STEPS)]
    return " ".join(" ".join(lines).split())[:FINDINGS_LENGTH_MAX] or "its filesystem is not sound"


@contextmanager
def _judged(volume: str) -> Iterator[None]:
    """What fails in the block is the point's fault, but for NO_VERDICT."""
    try:
        yield
    except NO_VERDICT:
        raise
    except VsnapfsError as error:
        raise _UnprovedError(f"{volume}: {error}") from error
