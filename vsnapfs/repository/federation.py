"""One repository's part in a bookmark over several.

==========  ==============  ====================================================================================
step        is kept in      what it does
==========  ==============  ====================================================================================
reserve     memory          the name is free, and nobody else takes it for so many seconds after each step
hold        memory          writes stand still; where the journal stands is this repository's position
let go      memory          they go on; refused where they had not stood still all the time
prepare     a file          the position is on stable storage; all but the first keep it, and the name, until the first says
                            what becomes of it
decide      the journal     the first: its bookmark, which names the positions of all, is the decision
finish      the journal     the others: the same bookmark at their own position; the file goes
drop        nothing         whatever there is of it before ``decide`` goes
==========  ==============  ====================================================================================

The first decides nothing that it has no reservation for. A reservation is dropped before it is told to anybody that there
is no decision (``verdict``), and no restart survives it: so who has heard that may drop its own part.

A position is a seqno with its time: after a crash its seqno may be another record's, and the time tells.

Concurrency: each call is made with ``Parts.change``; nothing here asks another repository. Source: docs/federation.md.
"""

from __future__ import annotations

import time
import uuid as uuids
from typing import Literal

import msgspec

from vsnapfs.binding import HoldPosition, RecordKind, hold, holds_end, let_go
from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.catalog.index import Changes, Index
from vsnapfs.core.errors import DegradedError, NotFoundError, StoreError, TimedOutError, UsageError
from vsnapfs.core.model import Bookmark, FederatedRepository, Federation, Undecided
from vsnapfs.core.names import check_name
from vsnapfs.repository import bookmarks, events, gaps
from vsnapfs.repository.layout import FEDERATED, federated_file
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reservations import Pending, Reservation, read_pending

SECONDS_MAX = 600


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the first repository knows of a federation. ``open``: it may still be decided. ``none``: it never will be."""

    state: Literal["decided", "open", "none"]
    bookmark: Bookmark | None = None
    """The first's own, where it was decided."""


class FederatedPart:
    """Of an open repository."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        parts.reservations.load(*read_pending(parts.layout))

    def undecided(self) -> list[Undecided]:
        """Bookmarks of which only the first of their repositories knows whether they were made."""
        if not self._parts.owner:
            self._parts.reservations.load(*read_pending(self._parts.layout))
        return self._parts.reservations.undecided()

    def note(self, federation: str, why: str) -> bool:
        """Keep for ``undecided`` why the first could not be asked; news are told. True: that is some."""
        reservations = self._parts.reservations
        with self._parts.change:
            pending = reservations.pending.get(federation)
            if pending is None or not reservations.note(federation, why):
                return False
            events.tell(self._parts, "bookmark_undecided", pending.name, first=pending.first_path, reason=why)
            return True

    def reserve(self, federation: str, name: str, seconds: float) -> tuple[str, str]:
        """Returns this repository's uuid and path. Raises: NameTakenError. UsageError: what cannot be a name, or an id."""
        parts = self._parts
        parts.require_owner()
        check_name(name, "bookmark")
        _check_id(federation)
        if not 0 < seconds <= SECONDS_MAX:
            raise UsageError(f"a name is reserved for at most {SECONDS_MAX} s")
        with parts.change:
            bookmarks.refuse_taken(parts, name)
            parts.reservations.put(federation, Reservation(name=name, seconds=seconds))
        return str(parts.uuid), str(parts.layout.path)

    def hold(self, federation: str, milliseconds: int) -> HoldPosition:
        """Waits for the end of another hold. Raises: what ``binding.hold`` raises. GapError. UsageError: an empty journal."""
        reservation = self._reservation(federation)
        gaps.refuse_now(self._parts, f"bookmark {reservation.name!r}")
        position = hold(self._parts.journal, milliseconds)
        if position.seqno == 0:
            let_go(self._parts.journal, position.hold)
            raise UsageError(f"{self._parts.layout.path} holds nothing yet", hint="leave it out, or add a volume")
        reservation.position, reservation.stood = position, False
        return position

    def let_go(self, federation: str) -> None:
        """Raises: TimedOutError: writes did not stand still all the time."""
        reservation = self._reservation(federation)
        if reservation.position is None:
            raise UsageError("nothing is held")
        let_go(self._parts.journal, reservation.position.hold)
        reservation.stood = True

    def prepare(self, federation: str, first: FederatedRepository) -> None:
        """Promise to name the position, or not, as ``first`` decides. Durable; whatever crashes, it is kept. The first itself
        only sees whether it could.

        Raises: StoreError, NoSpaceError, GapError: the position is not in the journal.
        """
        with self._parts.change:
            reservation = self._reservation(federation)
            position = self._position(reservation)
            if first.uuid == str(self._parts.uuid):
                return
            pending = Pending(
                id=federation,
                name=reservation.name,
                since_ns=time.time_ns(),
                first_uuid=first.uuid,
                first_path=first.path,
                seqno=position.seqno,
                time_ns=position.time_ns,
            )
            if not self._parts.layout.exists(FEDERATED):
                self._parts.layout.make_directory(FEDERATED)
                self._parts.layout.sync()
            self._parts.layout.write(federated_file(federation), msgspec.json.encode(pending))
            self._parts.reservations.pending[federation] = pending

    def decide(self, body: BookmarkAdded) -> Bookmark:
        """Make the bookmark here, and with it everywhere. ``body`` names the federation.

        Raises: NotFoundError: there is no reservation (any more): then it will never be decided. Others: ask for the
        ``verdict``.
        """
        federation = _federation(body)
        with self._parts.change:
            reservation = self._reservation(federation.id)
            position = self._position(reservation)
            self._require_named(federation, position.seqno)
            if body.name != reservation.name:
                raise UsageError(f"the name {reservation.name!r} was reserved, not {body.name!r}")
            self._parts.record(RecordKind.BOOKMARK_ADD, body, a=position.seqno)
            self._parts.reservations.pop(federation.id)
            bookmarks.tell_made(self._parts, body.name)
            return bookmarks.find(self._parts, body.name)

    def finish(self, decided: Bookmark) -> None:
        """Make here the bookmark that the first has made. Twice is allowed.

        Raises: NotFoundError: nothing is pending and nothing was made. StoreError, NoSpaceError: it stays pending.
        """
        federation = decided.federation
        if federation is None:
            raise UsageError(f"bookmark {decided.name!r} is of one repository alone")
        with self._parts.change:
            pending, made = self._parts.reservations.pending.get(federation.id), self._made(federation.id)
            if pending is None and made is None:
                raise NotFoundError(f"no bookmark over several repositories with the id {federation.id} is known here")
            if pending is not None and made is None:
                self._require_named(federation, pending.seqno)
                body = bookmarks.body_of(decided, pending.name)
                self._parts.record(RecordKind.BOOKMARK_ADD, body, a=pending.seqno)
                bookmarks.tell_made(self._parts, body.name)
            self._forget(federation.id)

    def drop(self, federation: str, why: str = "") -> None:
        """Nothing comes of it: let go, and forget. Nothing happens where nothing is known of it. why: told as a failure."""
        with self._parts.change:
            reservation = self._parts.reservations.get(federation)
            known = reservation or self._parts.reservations.pending.get(federation)
            if reservation is not None and reservation.position is not None and not reservation.stood:
                try:
                    let_go(self._parts.journal, reservation.position.hold)
                except TimedOutError:
                    pass  # it has ended by itself
            self._forget(federation)
            if why and known is not None:
                events.tell(self._parts, "bookmark_failed", known.name, reason=why, schedule="")

    def verdict(self, federation: str) -> Verdict:
        """The first's answer to the others.

        Raises: DegradedError: its journal failed, so that nobody can tell what is in it.
        """
        parts = self._parts
        parts.require_owner()
        with parts.change:
            parts.catch_up()
            made = self._made(federation)
            if made is not None:
                return Verdict(state="decided", bookmark=made)
            if parts.reservations.get(federation) is not None:
                return Verdict(state="open")
            facts = parts.journal.facts()
            if facts.failed:
                raise DegradedError(f"the journal of {parts.layout.path} failed: what it decided last is not known")
            return Verdict(state="none")

    def end_holds(self) -> None:
        """Nobody is kept waiting any more, and nothing new is held: the owner is about to close."""
        holds_end(self._parts.journal)

    def _reservation(self, federation: str) -> Reservation:
        found = self._parts.reservations.get(federation)
        if found is None:
            raise NotFoundError(
                f"{self._parts.layout.path} knows of no bookmark with the id {federation} that is being made",
                hint="its server was started again, or it took too long; make it anew",
            )
        self._parts.reservations.renew(found)
        return found

    def _position(self, reservation: Reservation) -> HoldPosition:
        """The position, which is in the journal to stay. Raises: UsageError: a step was left out. StoreError, GapError."""
        position = reservation.position
        if position is None or not reservation.stood:
            raise UsageError("the writes did not stand still, or do still", hint="hold them, and let go")
        self._parts.journal.commit()
        gaps.refuse_seqno(self._parts, f"bookmark {reservation.name!r}", position.seqno)
        if self._parts.journal.time_of(position.seqno) != position.time_ns:
            raise StoreError(f"{self._parts.layout.path} has lost what was to be named {reservation.name!r}")
        return position

    def _require_named(self, federation: Federation, seqno: int) -> None:
        mine = [member.seqno for member in federation.repositories if member.uuid == str(self._parts.uuid)]
        if mine != [seqno]:
            raise UsageError(f"it names @{mine[0] if mine else '-'} of {self._parts.layout.path}, not @{seqno}")

    def _made(self, federation: str) -> Bookmark | None:
        """The bookmark that was made of it, also if it was removed since."""
        with self._parts.names:
            for bookmark in self._parts.index.bookmarks():
                if bookmark.federation is not None and bookmark.federation.id == federation:
                    return bookmark
        for event in self._parts.journal.events():
            if event.kind == RecordKind.BOOKMARK_ADD and federation.encode() in event.body:
                index = Index()
                index.apply(event, self._parts.journal.time_of, Changes())
                found = index.latest()
                if found is not None and found.federation is not None and found.federation.id == federation:
                    return found
        return None

    def _forget(self, federation: str) -> None:
        self._parts.reservations.pop(federation)
        if federation in self._parts.reservations.pending:
            self._parts.layout.remove(federated_file(federation))
            del self._parts.reservations.pending[federation]


def _federation(body: BookmarkAdded) -> Federation:
    if body.federation is msgspec.UNSET:
        raise UsageError(f"bookmark {body.name!r} is of one repository alone")
    return body.federation


def _check_id(text: str) -> None:
    """It becomes the name of a file."""
    try:
        if str(uuids.UUID(text)) == text:
            return
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no id of a bookmark over several repositories")
