"""What a recall has made, read back from its disk and compared with the digests of an archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from vsnapfs.archive.contents import Contents
from vsnapfs.archive.damage import Damage, Lost


class Where(NamedTuple):
    """The tape and its file that are named for what does not match."""

    tape: str
    file: int


class Read(Protocol):
    """What was made. See layer.Target."""

    @property
    def damage(self) -> Damage: ...

    def wants(self, volume: str) -> bool: ...

    def forget_cache(self, volume: str) -> None: ...


def read_back(contents: Contents, landing: Read, said: Mapping[str, str], where: Where) -> None:
    """Compare each volume of which nothing became zeros. What was only in doubt is known then; what does not match is named.

    Args: said: digests, by the names of SHA256SUMS. Raises: as reading does.
    """
    for volume in contents.manifest.volumes:
        lost = landing.damage.lost(volume.name)
        if not landing.wants(volume.name) or any(one.zeros for one in lost):
            continue
        landing.forget_cache(volume.name)
        found = dict(contents.digests(volume.name))
        wrong = [name for name, digest in found.items() if said.get(name, digest) != digest]
        if not wrong and found.keys() <= said.keys():
            for offset_bytes, length_bytes in contents.read_of(volume.name):
                landing.damage.mend(volume.name, offset_bytes, length_bytes)
        elif wrong and not lost:
            landing.damage.lose(_doubt(volume.name, volume.size_bytes, wrong, where))


def _doubt(volume: str, size_bytes: int, wrong: list[str], where: Where) -> Lost:
    why = f"the digest of {' and '.join(wrong)} is another one than the archive says"
    return Lost(
        volume=volume, offset_bytes=0, length_bytes=size_bytes, tape=where.tape, file=where.file, why=why, zeros=False
    )
