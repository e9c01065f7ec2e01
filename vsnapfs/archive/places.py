"""Where the tapes of a recall or a scan are: paths, media of a repository's settings, or all that its catalog of tapes knows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.archive.damage import Damage
from vsnapfs.archive.given import GivenTapes, Slot, slots_of_medium, slots_of_path
from vsnapfs.archive.inventory import Inventory, of_catalog
from vsnapfs.archive.scan import look
from vsnapfs.core.errors import NotFoundError, UsageError, from_os_error
from vsnapfs.core.names import near
from vsnapfs.media.kinds import open_medium
from vsnapfs.media.medium import Medium
from vsnapfs.policy.media import DriveSettings, MediumSettings, PoolSettings
from vsnapfs.repository.tapes import shelf


class Known(NamedTuple):
    """given: the tapes. inventory: what stands on them. damage: what was seen of that on the way."""

    given: GivenTapes
    inventory: Inventory
    damage: Damage


@contextmanager
def opened(places: Sequence[str], repository: Path | None, identities: Sequence[Path] = ()) -> Iterator[Known]:
    """Tapes at ``places``, which are looked at; none: those of the repository's media, as its catalog of tapes knows them.

    Args: places: a path, or the name of a medium. repository: None: there is none.
    Raises: NotFoundError: a place, or the catalog knows no archive. UsageError: neither was given. BusyError, StoreError, IntegrityError.
    """
    damage = Damage()
    with reached(places, repository) as (given, catalog):
        if not places and not catalog.archives:
            raise NotFoundError("the catalog of tapes knows no archive", hint="give --from where tapes are")
        inventory = look(given, damage, identities) if places else catalog
        yield Known(given, inventory, damage)


@contextmanager
def reached(places: Sequence[str], repository: Path | None) -> Iterator[tuple[GivenTapes, Inventory]]:
    """The tapes, none of which was loaded, and what the catalog of the repository knows. Raises: as ``opened``."""
    with ExitStack() as stack:
        media: dict[str, MediumSettings] = {}
        catalog = Inventory()
        if repository is not None:
            held = stack.enter_context(shelf(repository))
            media = dict(held.media)
            catalog = of_catalog(held.tapes)
        elif not places:
            raise UsageError("no tapes were named", hint="give --from where they are")
        slots, drives = _found(places or list(media), media, stack)
        given = GivenTapes(slots, drives)
        stack.callback(given.close)
        yield given, catalog


def _found(
    places: Sequence[str], media: dict[str, MediumSettings], stack: ExitStack
) -> tuple[list[Slot], list[Medium]]:
    slots: list[Slot] = []
    drives: list[Medium] = []
    for place in places:
        settings = media.get(place) or _drive_at(place)
        if isinstance(settings, PoolSettings):
            slots += slots_of_path(Path(settings.path), may_be_empty=True)
        elif settings is not None:
            medium = open_medium(place, settings)
            stack.callback(medium.close)
            drives.append(medium)
            slots += slots_of_medium(medium)
        elif os.path.lexists(place):
            slots += slots_of_path(Path(os.path.abspath(place)))
        else:
            raise NotFoundError(f"{place} is neither a medium of the settings nor a path", near=near(place, media))
    return slots, drives


def _drive_at(place: str) -> DriveSettings | None:
    """The settings of a drive that is named by its device; a person changes tapes."""
    try:
        is_drive = Path(place).is_char_device()
    except OSError as error:
        raise from_os_error(error, f"look at {place}") from error
    return DriveSettings(device=os.path.abspath(place)) if is_drive else None
