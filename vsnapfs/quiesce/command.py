"""``command``: anything that has programs to make it still and to let it go, also over ssh on another machine.

The programs get VSNAPFS_PROFILE, VSNAPFS_MEMBER, VSNAPFS_BOOKMARK, VSNAPFS_REPO, VSNAPFS_DEADLINE_S and VSNAPFS_PHASE in their
environment. ``thaw`` is run whenever ``prepare`` or ``freeze`` was begun, also when they failed or were killed half way, and may
be run twice: by the guard, if the freezer dies while it runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable

from vsnapfs.core.errors import QuiesceError, TimedOutError
from vsnapfs.core.model import MemberFile
from vsnapfs.policy.profiles import CommandSettings
from vsnapfs.quiesce import program
from vsnapfs.quiesce.member import THAW_S_MAX, CommandLifeline, Lifeline, Occasion

Remark = Callable[[str], None]


class CommandMember:
    """Member of kind command. watch: knows what runs. remark: told what is odd and no failure."""

    kind = "command"
    files: tuple[MemberFile, ...] = ()

    def __init__(self, settings: CommandSettings, occasion: Occasion, watch: program.Watch, remark: Remark) -> None:
        self.name = settings.name
        self.consistency = settings.consistency
        self._settings = settings
        self._occasion = occasion
        self._watch = watch
        self._remark = remark
        self._checked = False
        self._begun = False

    def prepare(self, until: float) -> None:
        """Raises: QuiesceError: a program is not there, or has failed. TimedOutError."""
        for argv in (self._settings.prepare, self._settings.freeze, self._settings.thaw):
            if argv and shutil.which(argv[0]) is None:
                raise QuiesceError(f"there is no program {argv[0]!r}")
        self._checked = True
        if self._settings.prepare:
            self._begun = True
            self._run("prepare", self._settings.prepare, until)

    def lifeline(self) -> Lifeline | None:
        if not self._checked and not self._settings.prepare:
            return None
        return CommandLifeline(self._settings.thaw, self._environment("thaw"))

    def freeze(self, until: float) -> None:
        if time.monotonic() >= until:
            raise TimedOutError(f"no time was left to run {self._settings.freeze[0]}")
        self._begun = True
        self._run("freeze", self._settings.freeze, until)

    def thaw(self) -> None:
        if not self._begun:
            return
        self._begun = False
        self._run("thaw", self._settings.thaw, time.monotonic() + THAW_S_MAX, bounded=False)

    def _run(self, phase: str, argv: tuple[str, ...], until: float, *, bounded: bool = True) -> None:
        what = f"{phase} command {argv[0]}"
        try:
            ended = program.run(argv, dict(os.environ) | self._environment(phase), until, self._watch, bounded=bounded)
        except OSError as error:
            raise QuiesceError(f"cannot run the {what}: {error.strerror}") from error
        said = f": {ended.said}" if ended.said else ""
        if ended.flooded:
            raise QuiesceError(f"the {what} printed more than {program.OUTPUT_BYTES_MAX >> 20} MiB and was killed")
        if ended.status is None:
            raise TimedOutError(f"the {what} did not end in time and was killed{said}")
        if ended.status != 0:
            raise QuiesceError(f"the {what} {_said(ended.status)}{said}")
        if ended.left:
            self._remark(f"{self.name}: the {what} has left processes behind, which nobody waits for")

    def _environment(self, phase: str) -> dict[str, str]:
        """What a program of ours has beside that of this process."""
        occasion = self._occasion
        return {
            "VSNAPFS_REPO": occasion.repository,
            "VSNAPFS_PROFILE": occasion.profile,
            "VSNAPFS_BOOKMARK": occasion.bookmark,
            "VSNAPFS_DEADLINE_S": f"{occasion.deadline_s:g}",
            "VSNAPFS_MEMBER": self.name,
            "VSNAPFS_PHASE": phase,
        }


def _said(status: int) -> str:
    if status > 0:
        return f"failed with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
