"""Where the tapes of a recall or a scan are: paths, media of a repository's settings, or all that its catalog of tapes knows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.archive.chain import Plan, others
from vsnapfs.archive.chain import plan as plan_of
from vsnapfs.archive.damage import Damage, Flaw
from vsnapfs.archive.filling import Other
from vsnapfs.archive.given import GivenTapes, Slot, Unread, slots_of_medium, slots_of_path
from vsnapfs.archive.inventory import Inventory, of_catalog
from vsnapfs.archive.scan import look
from vsnapfs.archive.streams import slots_of_commands
from vsnapfs.catalog.tapes import Found
from vsnapfs.core.errors import NotFoundError, UsageError, VsnapfsError, from_os_error
from vsnapfs.core.names import near
from vsnapfs.media.kinds import open_medium
from vsnapfs.media.medium import Medium
from vsnapfs.policy.media import CommandSettings, DriveSettings, MediumSettings, PoolSettings
from vsnapfs.repository.tapes import Shelf, shelf


class How(NamedTuple):
    """labels: tapes that a drive without a changer is to be given, in this order. ask: says a line to a person and returns when it was
    done; None: nobody is there."""

    labels: tuple[str, ...] = ()
    ask: Callable[[str], None] | None = None


NOBODY = How()


class Known(NamedTuple):
    """given: the tapes. inventory: what stands on them, or what the catalog says of that. damage: what was seen of it on the way.
    is_looked: they were looked at, with these identities."""

    given: GivenTapes
    inventory: Inventory
    damage: Damage
    is_looked: bool = True
    identities: tuple[Path, ...] = ()

    def others(self, found: Plan) -> Iterator[Other]:
        """Other ways to make the point of a plan: by other archives, and by copies of tapes. Each is to be used before the next is asked
        for. Raises: as ``look``."""
        for plan in others(self.inventory, found):
            yield Other(plan, self.given)
        for given in self.given.copies():
            inventory = self.inventory
            if self.is_looked:
                inventory = look(given, Damage(), self.identities, [])
            if found.point.uuid not in inventory.archives:
                continue
            for plan in itertools.chain(_again(inventory, found), others(inventory, found)):
                yield Other(plan, given)


def _again(known: Inventory, found: Plan) -> list[Plan]:
    """The same from other copies of its tapes; none: not all of it is there."""
    try:
        return [plan_of(known, found.point)]
    except VsnapfsError:
        return []


@contextmanager
def opened(
    places: Sequence[str], repository: Path | None, how: How = NOBODY, identities: Sequence[Path] = ()
) -> Iterator[Known]:
    """Tapes at ``places``, which are looked at; none: those of the repository's media, as its catalog of tapes knows them.

    Args: places: a path, or the name of a medium. repository: None: there is none.
    Raises: NotFoundError: a place, or the catalog knows no archive. UsageError: neither was given. BusyError, StoreError, IntegrityError.
    """
    damage = Damage()
    with reached(places, repository, how, None if places else []) as (given, catalog):
        if not places and not catalog.archives:
            raise NotFoundError("the catalog of tapes knows no archive", hint="give --from where tapes are")
        inventory = look(given, damage, identities) if places else catalog
        yield Known(given, inventory, damage, bool(places), tuple(identities))


@contextmanager
def reached(
    places: Sequence[str], repository: Path | None, how: How = NOBODY, unread: list[Unread] | None = None
) -> Iterator[tuple[GivenTapes, Inventory]]:
    """The tapes, none of which was loaded, and what the catalog of the repository knows.

    Args: unread: gets the media that cannot say what they have, which are none to fail of then. Raises: as ``opened``.
    """
    with ExitStack() as stack:
        media: dict[str, MediumSettings] = {}
        catalog = Inventory()
        held: Shelf | None = None
        if repository is not None:
            held = stack.enter_context(shelf(repository))
            media = dict(held.media)
            catalog = of_catalog(held.tapes)
        elif not places:
            raise UsageError("no tapes were named", hint="give --from where they are")
        slots, drives = _found(places or list(media), media, how, stack, unread)
        if held is not None and repository is not None:
            for name, settings in media.items():
                if isinstance(settings, CommandSettings) and (name in places or not places):
                    slots += slots_of_commands(held.tapes, name, settings, repository)
        given = GivenTapes(slots, drives)
        stack.callback(given.close)
        yield given, catalog


class Rescanned(NamedTuple):
    """What was read from tapes, and what of it the catalog had not known."""

    found: Found
    new_archives: list[str]
    passed_over: list[str]
    """Labels of tapes that were not taken: others in the catalog have these labels."""
    flaws: list[Flaw]
    unread: list[Unread]


def rescan(repository: Path, places: Sequence[str], how: How, identities: Sequence[Path]) -> Rescanned:
    """Read what stands on tapes, and tell the catalog of a repository; ``places`` none: those of all media that answer.

    Raises: as ``reached``.
    """
    damage = Damage()
    unread: list[Unread] = []
    with reached(places, repository, how, None if places else unread) as (given, catalog):
        found = look(given, damage, identities, unread).found()
    with shelf(repository, write=True) as held:
        passed_over = held.tapes.merge(found)
        known = {archive.uuid for archive in held.tapes.archives()}
    new = [one.uuid for one in found.archives if one.uuid in known and one.uuid not in catalog.archives]
    return Rescanned(found, new, passed_over, damage.flaws, unread)


def _found(
    places: Sequence[str], media: dict[str, MediumSettings], how: How, stack: ExitStack, unread: list[Unread] | None
) -> tuple[list[Slot], list[Medium]]:
    slots: list[Slot] = []
    drives: list[Medium] = []
    for place in places:
        try:
            slots += _slots_at(place, media, how, stack, drives)
        except VsnapfsError as error:
            if unread is None:
                raise
            unread.append(Unread(place, error))
    return slots, drives


def _slots_at(
    place: str, media: dict[str, MediumSettings], how: How, stack: ExitStack, drives: list[Medium]
) -> list[Slot]:
    """Tapes of one place. drives: gets it, if it can be asked for tapes; it is closed with the stack."""
    settings = media.get(place) or _drive_at(place)
    if isinstance(settings, PoolSettings):
        return slots_of_path(Path(settings.path), may_be_empty=True)
    if isinstance(settings, CommandSettings):
        return []  # the catalog knows what it took
    if settings is not None:
        medium = open_medium(place, settings, how.ask)
        stack.callback(medium.close)
        drives.append(medium)
        return slots_of_medium(medium, how.labels)
    if os.path.lexists(place):
        return slots_of_path(Path(os.path.abspath(place)))
    raise NotFoundError(f"{place} is neither a medium of the settings nor a path", near=near(place, media))


def _drive_at(place: str) -> DriveSettings | None:
    """The settings of a drive that is named by its device; a person changes tapes."""
    try:
        is_drive = Path(place).is_char_device()
    except OSError as error:
        raise from_os_error(error, f"look at {place}") from error
    return DriveSettings(device=os.path.abspath(place)) if is_drive else None
