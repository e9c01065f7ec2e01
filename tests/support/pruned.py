"""A repository with a past that is worth pruning, and what has to hold afterwards."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.volumes import content_at
from vsnapfs.repository.repository import Repository

BLOCK = 4096
VOLUMES = ("db0", "db1")
SIZE_BYTES = 1 << 20


@contextmanager
def opened(path: Path, retention: str, segment_size: str = "256K", reserve: str = "0") -> Iterator[Repository]:
    """The repository at ``path``, with these lines under ``[retention]``."""
    text = (
        f'[journal]\nsegment_size = "{segment_size}"\nreserve = "{reserve}"\n[retention]\nprune = "off"\n{retention}\n'
    )
    (path / "vsnapfs.toml").write_text(text)
    with Repository.open(path, owner=True) as repository:
        yield repository


def write_some(repository: Repository, rng: random.Random, writes: int) -> None:
    """Blocks of chance at places of chance, some zeros and some discards among them. What was named before them lies behind
    a window of a millisecond, however fast the machine is."""
    time.sleep(0.002)
    ids = [repository.volume(name).id for name in VOLUMES]
    for _ in range(writes):
        offset_bytes = rng.randrange(SIZE_BYTES // BLOCK) * BLOCK
        if rng.random() < 0.1:
            repository.journal.zero(rng.choice(ids), offset_bytes, BLOCK)
        else:
            repository.journal.write(rng.choice(ids), offset_bytes, rng.randbytes(BLOCK))


def grow(repository: Repository, rng: random.Random, bookmarks: Iterable[str], writes: int) -> None:
    """Two volumes, and so many writes before each of the bookmarks."""
    for name in VOLUMES:
        if name not in [volume.name for volume in repository.volumes()]:
            repository.volume_add(name, size_bytes=SIZE_BYTES)
    for name in bookmarks:
        write_some(repository, rng, writes)
        repository.bookmark_add(name)


def sums(repository: Repository) -> dict[tuple[str, str], str]:
    """SHA-256 of every volume at every bookmark."""
    return {
        (bookmark.name, volume.name): hashlib.sha256(content_at(repository, volume.name, bookmark.name)).hexdigest()
        for bookmark in repository.bookmarks()
        for volume in repository.volumes(repository.resolve(bookmark.name))
    }


def held_bytes(repository: Repository) -> int:
    """By journal and bases, without the zeros ahead in the open segment."""
    status = repository.status()
    return status.journal_bytes + status.base_bytes


def unique_bytes(repository: Repository, bookmarks: Iterable[str]) -> int:
    """Of data, if what several points have in common at one place is counted once."""
    found = set()
    for bookmark in bookmarks:
        for name in VOLUMES:
            content = content_at(repository, name, bookmark)
            for at in range(0, len(content), BLOCK):
                block = content[at : at + BLOCK]
                if block.strip(b"\0"):
                    found.add((name, at, hashlib.sha256(block).digest()))
    return len(found) * BLOCK
