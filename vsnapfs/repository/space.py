"""What each bookmark takes: what would be given back without it, and what it shares with others."""

from __future__ import annotations

from collections import Counter

from vsnapfs.binding.compact import space
from vsnapfs.core.errors import IntegrityError, PointGoneError
from vsnapfs.core.keeping import Space
from vsnapfs.core.model import Bookmark
from vsnapfs.repository import base, reading, roots
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.resolve import of_bookmark, window

TRIES = 3


def spaces(parts: Parts) -> list[Space]:
    """Of all bookmarks, the oldest point first. Raises: IntegrityError, StoreError."""
    for _ in range(TRIES - 1):
        standing = _standing(parts)
        try:
            return _spaces(parts, standing)
        except (IntegrityError, PointGoneError):
            base.look_again(parts)
            if _standing(parts) == standing:
                raise
            # a prune has dropped some since
    return _spaces(parts, _standing(parts))


def _standing(parts: Parts) -> tuple[Bookmark, ...]:
    with parts.names:
        return parts.index.bookmarks()


def _spaces(parts: Parts, bookmarks: tuple[Bookmark, ...]) -> list[Space]:
    if window(parts) is None:
        return []
    points = roots.kept(parts, bookmarks, roots.window_seqno(parts)).points
    exclusive_bytes, _ = space(parts.journal, points)
    alone = dict(zip(points[:-1], exclusive_bytes[:-1], strict=True))
    names = Counter(bookmark.seqno for bookmark in bookmarks)
    return [
        _space(parts, bookmark, alone.get(bookmark.seqno, 0) if names[bookmark.seqno] == 1 else 0)
        for bookmark in bookmarks
    ]


def _space(parts: Parts, bookmark: Bookmark, freed_bytes: int) -> Space:
    point = of_bookmark(bookmark)
    volumes = [reading.volume_at(parts, entry.name, point) for entry in parts.entries(point.seqno)]
    needed_bytes = sum(volume.data_bytes for volume in volumes)
    return Space(bookmark=bookmark.name, freed_bytes=freed_bytes, shared_bytes=max(0, needed_bytes - freed_bytes))
