"""What a repository knows of tapes: where they come from, and the catalog of what is on them.

It is had without the journal, so that what is on tape can be asked when the journal is what was lost, and beside a server: the
catalog of tapes belongs to nobody, each change of it is a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.catalog.file import Place
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import NotFoundError, VsnapfsError
from vsnapfs.core.findings import Damage
from vsnapfs.core.names import near
from vsnapfs.policy.media import MediumSettings
from vsnapfs.repository import identity, settings, trust
from vsnapfs.repository.layout import TAPES, Layout


class Shelf(NamedTuple):
    """uuid: of the repository. media: of its settings, by name."""

    uuid: str
    media: Mapping[str, MediumSettings]
    tapes: Tapes

    def settings_of(self, name: str) -> MediumSettings:
        """Of ``[media.NAME]``. Raises: NotFoundError: with near names."""
        if name not in self.media:
            hint = None if self.media else "[media.NAME] in vsnapfs.toml says where tapes come from"
            raise NotFoundError(f"there is no medium {name!r}", near=near(name, self.media), hint=hint)
        return self.media[name]


@contextmanager
def shelf(path: Path, *, write: bool = False) -> Iterator[Shelf]:
    """That of the repository at ``path``.

    Raises: NotFoundError, FormatUnknownError, PermissionDeniedError: as to open the repository. UsageError: its settings. IntegrityError:
    its catalog of tapes is damaged.
    """
    layout = identity.find(path)
    try:
        trust.require(layout, owner=False)
        uuid = str(identity.read(layout))
        media = settings.load(layout).media
        with closing(_open(layout, uuid, write=write)) as tapes:
            yield Shelf(uuid, media, tapes)
    finally:
        layout.close()


def known_tapes(layout: Layout, uuid: str) -> Tapes:
    """The catalog of tapes, to be read; empty where there is none yet. The caller closes it. Raises: as ``Tapes``."""
    return _open(layout, uuid, write=False)


def faults(layout: Layout, uuid: str) -> list[Damage]:
    """What is wrong with the catalog of tapes, if there is one. It is not derived: tapes alone tell the same."""
    try:
        with closing(known_tapes(layout, uuid)) as tapes:
            found = tapes.faults()
    except VsnapfsError as error:
        found = [str(error)]
    return [Damage(file=TAPES, offset_bytes=0, what=what, derived=False, costs=[]) for what in found]


def _open(layout: Layout, uuid: str, *, write: bool) -> Tapes:
    return Tapes(Place(layout.fd, layout.absolute(TAPES)), uuid, write=write)
