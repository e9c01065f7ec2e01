"""The scrub: everything is read and compared in passes, spread out over days, by the server itself.

What is known of it stands in a small file, so that a pass goes on where it was, and ``status`` tells without a server
too. The file follows from nothing but can be lost: then a pass begins anew.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from vsnapfs.binding import SegmentFacts
from vsnapfs.core.errors import StoreError, VsnapfsError
from vsnapfs.core.findings import Damage, Scrub
from vsnapfs.repository import branch_check
from vsnapfs.repository.check import Checking
from vsnapfs.repository.layout import BRANCHES, SCRUB, Layout
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.units import Kind, Unit

FORMAT = 1
FILE_BYTES_MAX = 16 << 20
DAMAGES_MAX = 1000
COSTS_MAX = 100
"""So many are kept and told, of the costs for each damage; more tell nobody anything, and ``check`` lists them."""

START = Unit(Kind.STRUCTURE, 0)


class Found(msgspec.Struct, frozen=True):
    """A damage, and in which unit: it is gone when that is sound again."""

    unit: Unit
    damage: Damage


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content."""

    format: int = FORMAT
    began: str | None = None
    next: Unit = START
    """The unit that comes next, if a pass is under way."""
    done_bytes: int = 0
    total_bytes: int = 0
    last_began: str | None = None
    last_ended: str | None = None
    found: list[Found] = []

    def took(self, unit: Unit, following: Unit, damages: list[Damage]) -> Progress:
        """After ``unit`` was read. following: the one after it."""
        others = [found for found in self.found if _same(found.unit, unit) is False]
        found = [*others, *(Found(unit, damage) for damage in damages)][:DAMAGES_MAX]
        return msgspec.structs.replace(self, next=following, done_bytes=self.done_bytes + unit.held_bytes, found=found)


def load(layout: Layout) -> Progress:
    """What the file says; if it says nothing that can be understood, that nothing is known."""
    if not layout.exists(SCRUB):
        return Progress()
    try:
        fd = layout.open(SCRUB, os.O_RDONLY)
        try:
            found = msgspec.json.decode(os.read(fd, FILE_BYTES_MAX), type=Progress)
        finally:
            os.close(fd)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OSError, VsnapfsError):
        return Progress()
    return found if found.format == FORMAT else Progress()


def save(layout: Layout, progress: Progress) -> None:
    """Keep it. What was there and could not be understood is kept as ``*.bad``. Raises: StoreError."""
    if load(layout) == Progress():
        layout.set_aside(SCRUB)
    layout.write(SCRUB, msgspec.json.encode(progress))


def told(parts: Parts) -> Scrub:
    """The same for ``status``."""
    known = load(parts.layout)
    return Scrub(
        every_s=parts.settings.check.scrub_s,
        began=known.began,
        done_bytes=known.done_bytes,
        total_bytes=known.total_bytes,
        last_began=known.last_began,
        last_ended=known.last_ended,
        damages=_joined(found.damage for found in known.found if _matters(parts, found.damage)),
    )


def _joined(damages: Iterable[Damage]) -> list[Damage]:
    """One for each place: what branches share was read with each of them."""
    places: dict[tuple[str, int], Damage] = {}
    for damage in damages:
        place = damage.file, damage.offset_bytes
        before = places.get(place)
        costs = damage.costs if before is None else [*before.costs, *damage.costs]
        places[place] = damage if before is None else msgspec.structs.replace(before, costs=costs)
    return list(places.values())


def _matters(parts: Parts, damage: Damage) -> bool:
    """False of a branch that was removed since."""
    try:
        return not damage.file.startswith(f"{BRANCHES}/") or parts.layout.exists(damage.file)
    except VsnapfsError:
        return True


def read_unit(parts: Parts, unit: Unit) -> list[Damage]:
    """Compare one unit that is no branch. parts: of a reader that is used for nothing else. Raises: StoreError: it was told to end."""
    run = Checking(parts, None)
    if unit.kind == Kind.STRUCTURE:
        run.structure(repair=False)
        for entry in run.bases:
            run.base(entry, [])
        run.damages += branch_check.unknown(parts)
    elif unit.kind == Kind.BASE:
        for entry in run.bases:
            if entry.id == unit.number:  # it may be gone since the unit was listed
                run.base(entry, [unit])
    else:
        run.segment(_segment(run.segments, unit.number), read=True)
    return _shortened(run.damages)


def read_branch(parts: Parts, unit: Unit, rest: Callable[[], None]) -> list[Damage]:
    """Owner: the same of a branch. rest: is called after each piece, and may raise; no thread needs the branch meanwhile."""
    return _shortened(branch_check.scrub(parts, unit.number, rest))


def _shortened(damages: list[Damage]) -> list[Damage]:
    return [msgspec.structs.replace(damage, costs=damage.costs[:COSTS_MAX]) for damage in damages]


def _segment(segments: list[SegmentFacts], first_seqno: int) -> SegmentFacts:
    """The one that begins there; if that was compacted meanwhile, the next."""
    index = bisect_left(segments, first_seqno, key=lambda found: found.first_seqno)
    if index == len(segments):
        raise StoreError(f"the segment of @{first_seqno} is not there")
    return segments[index]


def _same(one: Unit, other: Unit) -> bool:
    return one[:3] == other[:3]
