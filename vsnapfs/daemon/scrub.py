"""The thread of a server that reads everything, a little at a time.

It looks with a reader of its own, which knows nothing of what the server has in memory, so it finds what anybody who
opens the repository would find; at branches as the server has them, which alone may read what it writes to. A pass is spread
over the time that the settings give it. After each piece the thread rests at least as long as that took, and ten times as long
while volumes are written to. Its reads wait for those of others where the disk's scheduler knows such a thing. While a unit is
not due, for days perhaps, the reader is closed: it would keep the files that compactions have replaced.

What is read lies in the page cache where it was there before; damage of the medium below is found when it is not.

Concurrency: one thread, ended by ``stop``. It shares the repository's directory with the server and no lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from vsnapfs.binding import io_idle
from vsnapfs.core.errors import IntegrityError, StoreError, VsnapfsError
from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.daemon.client import open_repository
from vsnapfs.repository.scrub import START
from vsnapfs.repository.units import Kind, Unit, total_bytes

if TYPE_CHECKING:
    from vsnapfs.core.findings import Damage
    from vsnapfs.repository.repository import Repository

FIRST_S_MAX = 60.0
"""A server that has just started has other things to do."""
SAVE_EVERY_S = 10.0
AGAIN_S = 60.0
"""After a pass that could not go on."""
REST = 1.0
REST_BUSY = 10.0
WAIT_S_MAX = 3600.0

log = structlog.get_logger()


@asynccontextmanager
async def scrubbing(repository: Repository) -> AsyncIterator[None]:
    """Scrub while the block runs, if the settings say so."""
    every_s = repository.settings.check.scrub_s
    if every_s is None:
        yield
        return
    scrubber = Scrubber(repository, every_s)
    scrubber.start()
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(scrubber.stop)


class Scrubber:
    """Pass after pass, from ``start`` to ``stop``. repository: the owner's."""

    def __init__(self, repository: Repository, every_s: float) -> None:
        self._repository = repository
        self._every_s = every_s
        self._progress = repository.scrub_progress()
        self._saved_at = 0.0
        self._not_kept = ""
        self._reader: Repository | None = None
        self._looked_again = False
        self._waited = False
        self._piece = 0, 0.0
        """What the journal had when the piece under way was begun, and when that was."""
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vsnapfs-scrub", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended: within a batch's reading."""
        self._ending.set()
        with self._lock:
            if self._reader is not None:
                self._reader.scrub_end()
        self._thread.join()

    def _run(self) -> None:
        try:
            io_idle()
        except VsnapfsError as error:
            log.warning("the scrub reads with the priority of everybody", reason=str(error))
        self._rest(min(FIRST_S_MAX, self._every_s / 1000))
        reason = ""
        while not self._ending.is_set():
            try:
                self._pass()
            except VsnapfsError as error:
                if not self._ending.is_set():
                    if str(error) != reason:
                        log.error("the scrub cannot go on, and tries again", reason=str(error), **error.fields())
                    reason = str(error)
                    self._rest(min(AGAIN_S, self._every_s))
        self._save(at_once=True)

    def _pass(self) -> None:
        """From where the last one was left, or from the beginning, what is due; then wait until more is."""
        try:
            reader = open_repository(self._repository.path, owner=False, sound_part=True)
        except IntegrityError as error:
            self._found(START, START, self._repository.scrub_unopened(error))
            self._rest(min(AGAIN_S, self._every_s))
            return
        with reader:
            self._use(reader)
            try:
                due = self._read_all(reader)
            finally:
                self._use(None)
        self._wait_until(due)
        self._waited = True

    def _use(self, reader: Repository | None) -> None:
        with self._lock:
            self._reader = reader

    def _read_all(self, reader: Repository) -> float:
        """Of what is left, all that is due. Returns when to go on."""
        units = [START, *reader.scrub_units()]
        if self._progress.began is None:
            self._progress = msgspec.structs.replace(
                self._progress, began=iso(time.time_ns()), next=START, done_bytes=0, total_bytes=0
            )
        left = [unit for unit in units if unit[:3] >= self._progress.next[:3]]
        total = self._progress.done_bytes + total_bytes(left)
        self._progress = msgspec.structs.replace(self._progress, total_bytes=total)
        self._save(at_once=True)
        if not self._looked_again:
            self._look_again(reader, {unit[:3] for unit in units})
            self._looked_again = True
        for number, unit in enumerate(left):
            share = (self._progress.done_bytes + unit.held_bytes) / total if total else 1.0
            is_due = unit.kind == Kind.STRUCTURE or self._waited or self._due(share) <= time.time()
            self._waited = False
            if self._ending.is_set() or not is_due:
                return self._due(share)
            self._read(reader, unit, left[number + 1] if number + 1 < len(left) else unit)
        self._progress = msgspec.structs.replace(
            self._progress,
            began=None,
            last_began=self._progress.began,
            last_ended=iso(time.time_ns()),
            found=[found for found in self._progress.found if any(found.unit[:3] == unit[:3] for unit in units)],
        )
        self._looked_again = False
        self._save(at_once=True)
        self._repository.tell(
            "scrub_ended",
            began=self._progress.last_began,
            read_bytes=self._progress.done_bytes,
            damages=len(self._progress.found),
        )
        return self._due(1.0)

    def _look_again(self, reader: Repository, there: set[tuple[Kind, int, int]]) -> None:
        """At units in which damage is known, of those that are there. They count as nothing: it is not their turn."""
        for place in there & {found.unit[:3] for found in self._progress.found}:
            unit = Unit(*place)
            self._found(unit, self._progress.next, self._compared(reader, unit))

    def _read(self, reader: Repository, unit: Unit, following: Unit) -> None:
        self._found(unit, following, self._compared(reader, unit))
        self._rest_after_piece()

    def _compared(self, reader: Repository, unit: Unit) -> list[Damage]:
        self._piece = self._appended(), time.monotonic()
        if unit.kind != Kind.BRANCH:
            return reader.scrub_unit(unit)
        return self._repository.scrub_branch(unit, self._between_pieces)

    def _between_pieces(self) -> None:
        """Raises: StoreError: it has to end."""
        self._rest_after_piece()
        if self._ending.is_set():
            raise StoreError("the scrub ends")

    def _rest_after_piece(self) -> None:
        appended, began = self._piece
        self._rest((time.monotonic() - began) * (REST_BUSY if self._appended() != appended else REST))
        self._piece = self._appended(), time.monotonic()

    def _found(self, unit: Unit, following: Unit, damages: list[Damage]) -> None:
        known = self._progress.found
        for damage in damages:
            if all(found.damage != damage for found in known):
                self._repository.tell(
                    "damage_found",
                    file=damage.file,
                    offset_bytes=damage.offset_bytes,
                    what=damage.what,
                    costs=damage.costs,
                )
        self._progress = self._progress.took(unit, following, damages)
        self._save(at_once=known != self._progress.found)

    def _save(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if not at_once and now < self._saved_at + SAVE_EVERY_S:
            return
        self._saved_at = now
        try:
            self._repository.scrub_keep(self._progress)
            self._not_kept = ""
        except VsnapfsError as error:
            if str(error) != self._not_kept:
                log.warning("the scrub's progress is not kept", reason=str(error))
            self._not_kept = str(error)

    def _due(self, share: float) -> float:
        """Wall clock at which so much of the pass that is under way, or was the last, is to be done."""
        began = self._progress.began or self._progress.last_began
        return 0.0 if began is None else parse_iso(began) / NS_PER_S + self._every_s * share

    def _wait_until(self, wall_s: float) -> None:
        """Also when the clock is set: nobody waits longer than a pass."""
        give_up = time.monotonic() + self._every_s
        while not self._ending.is_set() and (left := min(wall_s - time.time(), give_up - time.monotonic())) > 0:
            self._rest(min(left, WAIT_S_MAX))

    def _rest(self, seconds: float) -> None:
        self._ending.wait(seconds)

    def _appended(self) -> int:
        return self._repository.journal.facts().last_seqno
