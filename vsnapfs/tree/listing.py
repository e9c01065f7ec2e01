"""What has a name now: the bookmarks and live volumes of one generation of the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vsnapfs.core.model import Bookmark, Point, Volume
from vsnapfs.tree.inodes import Kind
from vsnapfs.tree.nodes import Attributes, PointDirectory, Source

Entry = tuple[str, PointDirectory, Attributes]


class Listing:
    """Immutable once made. Directories are made once, so that listing 10 000 of them again costs nothing."""

    def __init__(self, generation: int, bookmarks: Sequence[Bookmark], volumes: Sequence[Volume]) -> None:
        self.generation = generation
        self.newest: Bookmark | None = max(bookmarks, key=_age, default=None)
        self.by_name: Mapping[str, Bookmark] = {bookmark.name: bookmark for bookmark in bookmarks}
        self.by_created: Mapping[int, Bookmark] = {bookmark.created_seqno: bookmark for bookmark in bookmarks}
        self.live: Mapping[str, Volume] = {
            volume.name: volume for volume in volumes if volume.primary != "none" and not volume.removed
        }
        self.snaps: Sequence[Entry] = [_entry(bookmark) for bookmark in sorted(bookmarks, key=_age)]
        self.directories: Mapping[str, PointDirectory] = {name: directory for name, directory, _ in self.snaps}

    @classmethod
    def of(cls, source: Source) -> Listing:
        """Of the repository now. The generation is read first: what changes meanwhile is read again the next time."""
        generation = source.generation
        return cls(generation, source.bookmarks(), source.volumes())


def point_of(bookmark: Bookmark) -> Point:
    """The point that a bookmark names."""
    return Point(seqno=bookmark.seqno, time=bookmark.time, time_ns=bookmark.time_ns, bookmark=bookmark.name)


def directory_of(kind: Kind, bookmark: Bookmark) -> PointDirectory:
    """The directory of a bookmark in snaps or at."""
    return PointDirectory(kind=kind, point=point_of(bookmark), bookmark=bookmark, stable=False)


def _age(bookmark: Bookmark) -> tuple[int, int]:
    return bookmark.seqno, bookmark.created_seqno


def _entry(bookmark: Bookmark) -> Entry:
    directory = directory_of(Kind.SNAP, bookmark)
    return bookmark.name, directory, directory.attributes()
