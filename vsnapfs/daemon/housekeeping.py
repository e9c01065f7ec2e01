"""What a server does by itself once a second: commit what lies about, merge maps, take up again a journal that failed, and tell
of what became worse.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

import structlog

from vsnapfs.core.errors import NoSpaceError, VsnapfsError
from vsnapfs.core.events import EventKind
from vsnapfs.core.times import iso
from vsnapfs.repository.promise import WARNING_PERCENT

if TYPE_CHECKING:
    from vsnapfs.binding import JournalFacts
    from vsnapfs.repository.repository import Repository

TEND_EVERY_S = 1.0
"""How long a write without fsync may stay uncommitted."""
WINDOW_EVERY_S = 60.0
"""Between two looks at whether the window is as long as promised."""
TRY_S_MAX = 60.0
"""Between two tries to use a journal that fails."""

log = structlog.get_logger()


class GapCloser:
    """One try at a time; remembers how often it was in vain, and what it has told."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._tries = 0
        self._since = 0

    def once(self) -> float:
        """Returns when to look again, in seconds. A disk that is full is asked every time, since that costs nothing; one that
        fails is left in peace for longer and longer."""
        facts = self._repository.journal.facts()
        if not facts.gap:
            self._tries = 0
            return TEND_EVERY_S
        if self._since != facts.gap_since_ns:
            self._since = facts.gap_since_ns
            since, reason = iso(facts.gap_since_ns), os.strerror(-facts.gap_reason)
            self._repository.tell("gap_begun", since=since, since_seqno=facts.gap_since_seqno, reason=reason)
        try:
            self._repository.gap_close()
        except VsnapfsError as error:
            self._tries += 1
            if self._tries == 1:
                log.warning("the gap cannot be closed yet", reason=str(error))
            return TEND_EVERY_S if isinstance(error, NoSpaceError) else min(TRY_S_MAX, 2.0**self._tries)
        return TEND_EVERY_S


class Housekeeping:
    """One round at a time; remembers what it has told."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._journal = repository.journal
        self._segments = 0
        self._clock_jumps = 0
        self._failed = 0
        self._failed_volume = 0
        self._reason = ""
        self._window_looked_s = -math.inf
        self._window_is_short = False

    def once(self) -> None:
        facts = self._journal.facts()
        self._tell(facts)
        try:
            self._look_at_window()
            if facts.pending and not facts.failed:
                self._journal.commit()
            if facts.segments != self._segments:
                self._merge()
                self._segments = facts.segments
        except VsnapfsError as error:
            self._tell(self._journal.facts())
            if str(error) != self._reason:
                self._reason = str(error)
                self._repository.tell("housekeeping_failed", reason=self._reason, **error.fields())
        self._repository.save_left()

    def _merge(self) -> None:
        while self._journal.merge_maps():
            pass

    def _tell(self, facts: JournalFacts) -> None:
        """What is worse than when it was told last."""
        if facts.clock_jumps > self._clock_jumps:
            self._clock_jumps = facts.clock_jumps
            self._repository.tell("clock_jumped", clock_jumps=facts.clock_jumps)
        if facts.failed != self._failed:
            self._failed = facts.failed
            if facts.failed:
                self._repository.tell("journal_failed", reason=os.strerror(abs(facts.failed)))
        if facts.failed_volume != self._failed_volume:
            self._failed_volume = facts.failed_volume
            if facts.failed_volume:
                self._repository.tell("primary_failed", _name_of(self._repository, facts.failed_volume))

    def _look_at_window(self) -> None:
        if time.monotonic() < self._window_looked_s + WINDOW_EVERY_S:
            return
        self._window_looked_s = time.monotonic()
        percent = self._repository.window_percent()
        if percent is None or (percent < WARNING_PERCENT) == self._window_is_short:
            return
        self._window_is_short = percent < WARNING_PERCENT
        kind: EventKind = "window_short" if self._window_is_short else "window_well"
        promised = self._repository.settings.retention.protection_window
        self._repository.tell(kind, percent=percent, promised=promised)


def _name_of(repository: Repository, volume: int) -> str:
    return next((known.name for known in repository.volumes() if known.id == volume), str(volume))
