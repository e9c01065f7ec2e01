"""What has a name now: the bookmarks, live volumes and branches of one generation of the repository."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vsnapfs.core.branch import BranchPlace
from vsnapfs.core.model import Bookmark, Point, Volume
from vsnapfs.tree.inodes import Kind
from vsnapfs.tree.nodes import Attributes, BranchDirectory, Node, PointDirectory, Source


class Entry(NamedTuple):
    """What a listing says of one name. cookie: greater than 0, ascending, and the entry's for as long as it is there: a
    listing goes on behind it, whatever came or went meanwhile, and whoever answers."""

    cookie: int
    name: str
    node: Node
    attributes: Attributes


class Listing:
    """Immutable once made. Directories are made once, so that listing 10 000 of them again costs nothing."""

    def __init__(
        self,
        generation: int,
        bookmarks: Sequence[Bookmark],
        volumes: Sequence[Volume],
        branches: Sequence[BranchPlace] = (),
    ) -> None:
        self.generation = generation
        self.newest: Bookmark | None = max(bookmarks, key=_age, default=None)
        self.by_name: Mapping[str, Bookmark] = {bookmark.name: bookmark for bookmark in bookmarks}
        self.by_created: Mapping[int, Bookmark] = {bookmark.created_seqno: bookmark for bookmark in bookmarks}
        self.live: Mapping[str, Volume] = {
            volume.name: volume for volume in volumes if volume.primary != "none" and not volume.removed
        }
        self.directories: Mapping[str, PointDirectory] = {
            bookmark.name: directory_of(Kind.SNAP, bookmark) for bookmark in bookmarks
        }
        self.branches: Mapping[str, BranchDirectory] = {place.name: BranchDirectory(place) for place in branches}
        self.branches_by_id: Mapping[int, BranchDirectory] = {each.place.id: each for each in self.branches.values()}
        self._branch_ids: Sequence[int] = sorted(self.branches_by_id)
        self._created: Sequence[int] = sorted(self.by_created)
        self._snaps: Sequence[Entry] = [self._entry(created) for created in self._created]

    def _entry(self, created_seqno: int) -> Entry:
        name = self.by_created[created_seqno].name
        directory = self.directories[name]
        return Entry(created_seqno, name, directory, directory.attributes())

    def snaps(self, after: int, count_max: int) -> Sequence[Entry]:
        """Bookmarks behind a cookie, in the order in which they were made."""
        start = bisect_right(self._created, after)
        return self._snaps[start : start + count_max]

    def branch_entries(self, after: int, count_max: int) -> Sequence[Entry]:
        """Branches behind a cookie, in the order in which they were made."""
        start = bisect_right(self._branch_ids, after)
        found = [self.branches_by_id[branch] for branch in self._branch_ids[start : start + count_max]]
        return [Entry(each.place.id, each.place.name, each, each.attributes()) for each in found]

    @classmethod
    def of(cls, source: Source, *, live: bool) -> Listing:
        """Of the repository now. The generation is read first: what changes meanwhile is read again the next time.

        live: with branches, which only the owner shows.
        """
        generation = source.generation
        return cls(generation, source.bookmarks(), source.volumes(), source.branch_places() if live else ())


def point_of(bookmark: Bookmark) -> Point:
    """The point that a bookmark names."""
    return Point(seqno=bookmark.seqno, time=bookmark.time, time_ns=bookmark.time_ns, bookmark=bookmark.name)


def directory_of(kind: Kind, bookmark: Bookmark) -> PointDirectory:
    """The directory of a bookmark in snaps or at."""
    return PointDirectory(kind=kind, point=point_of(bookmark), bookmark=bookmark)


def _age(bookmark: Bookmark) -> tuple[int, int]:
    return bookmark.seqno, bookmark.created_seqno
