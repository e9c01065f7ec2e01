"""Names that bookmarks over several repositories will bear here, or not: reserved in memory, or kept in a file until the
first of the repositories has said which.

Threads: whoever changes something holds ``Parts.change``.
"""

from __future__ import annotations

import time

import msgspec

from vsnapfs.binding import HoldPosition
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError
from vsnapfs.core.model import Undecided
from vsnapfs.core.names import check_name
from vsnapfs.core.times import iso
from vsnapfs.repository.layout import FEDERATED, Layout, federated_file

FILE_BYTES_MAX = 65536


class Reservation(msgspec.Struct, kw_only=True):
    """What is known of a federation before it is decided, for as long as this process lives and ``until_s`` allows."""

    name: str
    seconds: float
    """It lasts so long after each step."""
    until_s: float = 0.0
    """time.monotonic()."""
    position: HoldPosition | None = None
    stood: bool = False
    """The hold was let go before it ended by itself."""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A position that will be a bookmark if the first repository says so. The content of a file below ``federated/``."""

    id: str
    name: str
    since_ns: int
    first_uuid: str
    first_path: str
    seqno: int
    time_ns: int
    """Of the record ``seqno``."""

    def undecided(self, why: str) -> Undecided:
        return Undecided(
            id=self.id,
            name=self.name,
            since=iso(self.since_ns),
            first_path=self.first_path,
            first_uuid=self.first_uuid,
            why=why,
        )


class Reservations:
    """By the id of the federation."""

    def __init__(self) -> None:
        self._reserved: dict[str, Reservation] = {}
        self._why: dict[str, str] = {}
        self.pending: dict[str, Pending] = {}
        self.strange: list[str] = []
        """What is wrong with files that cannot be understood."""

    def load(self, pending: dict[str, Pending], strange: list[str]) -> None:
        """What the files say."""
        self.pending, self.strange = pending, strange

    def put(self, federation: str, reservation: Reservation) -> None:
        self._reserved[federation] = reservation
        self.renew(reservation)

    def renew(self, reservation: Reservation) -> None:
        """Another step was made."""
        reservation.until_s = time.monotonic() + reservation.seconds

    def get(self, federation: str) -> Reservation | None:
        """None: there is none, or its time is over; then it never comes back."""
        found = self._reserved.get(federation)
        if found is not None and time.monotonic() >= found.until_s:
            self._reserved.pop(federation, None)
            return None
        return found

    def pop(self, federation: str) -> Reservation | None:
        return self._reserved.pop(federation, None)

    def has(self, name: str) -> bool:
        """True if a federation has that name."""
        reserved = [self.get(federation) for federation in list(self._reserved)]
        names = {reservation.name for reservation in reserved if reservation is not None}
        return name in names or any(pending.name == name for pending in self.pending.values())

    def positions(self) -> list[int]:
        """Points that may get a name yet: nobody may forget them. In order."""
        held = [
            reservation.position.seqno
            for reservation in list(self._reserved.values())
            if reservation.position is not None
        ]
        return sorted({*held, *(pending.seqno for pending in list(self.pending.values()))})

    def note(self, federation: str, why: str) -> bool:
        """Why it cannot be decided. True: that is news."""
        before, self._why[federation] = self._why.get(federation), why
        return before != why

    def undecided(self) -> list[Undecided]:
        """Those that only the first repository can decide, the oldest first."""
        found = sorted(self.pending.values(), key=lambda pending: pending.since_ns)
        return [pending.undecided(self._why.get(pending.id, "")) for pending in found]


def read_pending(layout: Layout) -> tuple[dict[str, Pending], list[str]]:
    """What lies in the files, and what is wrong with those that no program of ours wrote: they stay as they are."""
    found: dict[str, Pending] = {}
    strange: list[str] = []
    for name in layout.names(FEDERATED):
        if not name.endswith(".json"):
            continue
        try:
            pending = decode_pending(layout.read(f"{FEDERATED}/{name}", FILE_BYTES_MAX))
        except NotFoundError:
            continue  # decided meanwhile
        except (msgspec.DecodeError, UsageError, IntegrityError) as error:
            strange.append(f"{layout.absolute(f'{FEDERATED}/{name}')} cannot be understood: {error}")
            continue
        if federated_file(pending.id) == f"{FEDERATED}/{name}":
            found[pending.id] = pending
    return found, strange


def decode_pending(content: bytes) -> Pending:
    """Raises: msgspec.DecodeError, UsageError: no program of ours wrote it."""
    pending = from_json(content, Pending)
    check_name(pending.name, "bookmark")
    if not pending.first_path.startswith("/") or "\0" in pending.first_path:
        raise UsageError(f"{pending.first_path!r} is not an absolute path")
    return pending
