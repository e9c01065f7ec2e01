"""The tree: names to nodes, nodes to attributes and bytes. Pure but for what its Source does; knows nothing of FUSE.

``lookup``, ``entries``, ``attributes``, ``content``, ``open`` and ``node`` may block and may run on any thread,
several at once; ``lookup_nowait`` never does. State is one Listing, replaced as a whole when the repository's
generation moves.

Whoever follows another process's journal (a tree without live volumes) looks for news before it answers, at most every
FRESH_FOR_S, and always before it says that a name is not there: a new bookmark can be opened at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from errno import ESTALE
from functools import partial
from typing import Any, TypeVar, assert_never

import msgspec

from vsnapfs.core.errors import NameTooLongError, NotFoundError, VsnapfsError
from vsnapfs.core.model import Point, Volume
from vsnapfs.core.names import MANIFEST
from vsnapfs.tree import inodes
from vsnapfs.tree.content import ContentCache, json_text
from vsnapfs.tree.inodes import DIRECTORY_OF, Kind
from vsnapfs.tree.listing import Entry, Listing, directory_of
from vsnapfs.tree.nodes import (
    DIRECTORY_MODE,
    LINK_MODE,
    ROOT_MODE,
    STABLE_TIMEOUT_S,
    Attributes,
    BranchDirectory,
    BranchFile,
    BranchManifest,
    DiffFile,
    DiffPair,
    Directory,
    Fixed,
    LiveFile,
    ManifestFile,
    Node,
    PointDirectory,
    Source,
    Text,
    ViewFile,
    Writable,
)
from vsnapfs.tree.remembered import Remembered

FRESH_FOR_S = 0.25
NAME_BYTES_MAX = 255
PRIVATE_BYTES = 1 << 16
SUFFIX = ".json"
TOP = {
    "snaps": inodes.SNAPS,
    "at": inodes.AT,
    "diff": inodes.DIFF,
    "live": inodes.LIVE,
    "branches": inodes.BRANCHES,
}
WRITABLE = frozenset({inodes.LIVE, inodes.BRANCHES})
"""What is in these can be written to: there for the owner of the repository alone."""

LATEST_COOKIE = inodes.VALUE_MAX + 1
"""Behind every bookmark's."""

T = TypeVar("T")


class StaleError(VsnapfsError):
    """An inode number that cannot be turned into its node any more; the kernel looks the path up again."""

    errno = ESTALE


class Tree:
    """What a mount of ``source`` shows. live: with ``live/`` and ``branches/``, for the owner of the repository. memory: outlives this
    process, for what no number tells; None: nothing has to outlive it."""

    def __init__(
        self,
        source: Source,
        *,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
        memory: memoryview | None = None,
    ) -> None:
        self._remembered = Remembered(memoryview(bytearray(PRIVATE_BYTES)) if memory is None else memory)
        self._source = source
        self._live = live
        self._clock = clock
        self._made_ns = time.time_ns()
        self._fresh_until = 0.0
        self._listing = Listing.of(source, live=live)
        self._contents = ContentCache()
        self._top = {name: ino for name, ino in TOP.items() if live or ino not in WRITABLE}

    # Names

    def lookup_nowait(self, parent: Node, name: str) -> PointDirectory | None:
        """The directory of a bookmark, if what is known of snaps/ is fresh; None: ask ``lookup``."""
        listing = self._listing
        return listing.directories.get(name) if parent.ino == inodes.SNAPS and self._is_fresh(listing) else None

    def lookup(self, parent: Node, name: str) -> Node:
        """The node of ``name`` in ``parent``.

        Raises: NotFoundError: no such entry, or a point outside the window. NameTooLongError. UsageError: in at and
        diff, a name that is not a point. What the repository raises.
        """
        if len(name.encode(errors="surrogateescape")) > NAME_BYTES_MAX:
            raise NameTooLongError(f"a name of over {NAME_BYTES_MAX} bytes")
        if name.startswith("."):
            raise _missing(name)
        match parent:
            case Fixed(ino=ino):
                return self._lookup_fixed(ino, name)
            case PointDirectory():
                return self._in_point(parent, name)
            case DiffPair():
                return self._in_pair(parent, name)
            case BranchDirectory():
                found = parent.node(name)
                if found is not None:
                    return found
        raise _missing(name)

    def _lookup_fixed(self, ino: int, name: str) -> Node:
        found: Node | None = None
        match ino:
            case inodes.ROOT:
                found = Fixed(self._top[name]) if name in self._top else None
            case inodes.SNAPS:
                found = self._with_news(lambda listing: _snap(listing, name))
            case inodes.AT:
                return self._with_news(lambda listing: self._at(listing, name))
            case inodes.DIFF:
                return self._with_news(lambda _: self._pair(name))
            case inodes.LIVE:
                volume = self._now().live.get(name)
                found = LiveFile(volume.id) if volume else None
            case inodes.BRANCHES:
                found = self._now().branches.get(name)
        if found is None:
            raise _missing(name)
        return found

    def _at(self, listing: Listing, text: str) -> PointDirectory:
        point = self._source.resolve(text)
        bookmark = listing.by_name.get(point.bookmark) if point.bookmark else None
        if bookmark is not None:
            return directory_of(Kind.AT_BOOKMARK, bookmark)
        return PointDirectory(kind=Kind.AT_POINT, point=_nameless(point), bookmark=None)

    def _pair(self, name: str) -> DiffPair:
        texts = name.split("..")
        if len(texts) != 2 or "" in texts:
            raise _missing(name)
        since, until = map(self._source.resolve, texts)
        pair = DiffPair(name=name, since=since, until=until)
        self._remembered.add(pair)
        return pair

    def _in_point(self, directory: PointDirectory, name: str) -> Node:
        if name == MANIFEST:
            return ManifestFile(directory)
        return ViewFile(volume=self._source.volume_at(name, directory.point), point=directory.point)

    def _in_pair(self, pair: DiffPair, name: str) -> DiffFile:
        for volume in self._source.volumes(pair.until):
            if name == volume.name + SUFFIX:
                return DiffFile(pair=pair, volume_id=volume.id, volume=volume.name)
        raise _missing(name)

    # Directories

    def entries(self, directory: Directory, after: int = 0, count_max: int = sys.maxsize) -> Sequence[Entry]:
        """What ``ls`` shows, behind a cookie and so many at most; at/ and diff/ list nothing, their names are endless.

        Raises: what the repository raises for any of the entries: a listing with a gap would pass for complete.
        """
        nodes: list[tuple[str, Callable[[], Node]]] = []
        match directory:
            case PointDirectory():
                names = sorted([*(volume.name for volume in self._source.volumes(directory.point)), MANIFEST])
                nodes = [(name, partial(self._in_point, directory, name)) for name in names]
            case DiffPair() as pair:
                volumes = self._source.volumes(pair.until)
                nodes = [(volume.name + SUFFIX, partial(_diff_file, pair, volume)) for volume in volumes]
            case BranchDirectory():
                nodes = [(name, partial(_itself, node)) for name, node in directory.nodes().items()]
            case Fixed(ino=inodes.BRANCHES):
                return self._now().branch_entries(after, count_max)
            case Fixed(ino=inodes.SNAPS):
                return self._snaps(after, count_max)
            case Fixed(ino=inodes.LIVE):
                return self._lives(after, count_max)
            case Fixed(ino=inodes.ROOT):
                nodes = [(name, partial(Fixed, ino)) for name, ino in self._top.items()]
        chosen = list(enumerate(nodes, 1))[after:][:count_max]
        return [self._entry(cookie, name, make()) for cookie, (name, make) in chosen]

    def _entry(self, cookie: int, name: str, node: Node) -> Entry:
        return Entry(cookie, name, node, self.attributes(node))

    def _snaps(self, after: int, count_max: int) -> Sequence[Entry]:
        listing = self._now()
        found = list(listing.snaps(after, count_max))
        if listing.newest is not None and len(found) < count_max and after < LATEST_COOKIE:
            found.append(self._entry(LATEST_COOKIE, "latest", Fixed(inodes.LATEST)))
        return found

    def _lives(self, after: int, count_max: int) -> Sequence[Entry]:
        volumes = sorted(self._now().live.values(), key=lambda volume: volume.id)
        behind = [volume for volume in volumes if volume.id > after][:count_max]
        return [self._entry(volume.id, volume.name, LiveFile(volume.id)) for volume in behind]

    # Nodes

    def attributes(self, node: Node) -> Attributes:
        """What ``stat`` shows. Raises: NotFoundError: a live volume that is gone. What the repository raises."""
        match node:
            case Fixed():
                return self._fixed_attributes(node.ino)
            case ManifestFile():
                bookmark = self._today(node.directory).bookmark
                return node.attributes(len(self.content(node)), bookmark.verdicts if bookmark else ())
            case DiffFile() | BranchManifest():
                return node.attributes(len(self.content(node)))
            case LiveFile():
                return self._live_attributes(node)
            case BranchFile():
                place = self._branch(node.place.id).place
                return node.attributes(self._source.branch_changed_ns(place.name, node.volume.name))
            case PointDirectory() | DiffPair() | ViewFile() | BranchDirectory():
                return node.attributes()
        assert_never(node)

    def _fixed_attributes(self, ino: int) -> Attributes:
        listing = self._now()
        newest_ns = listing.newest.time_ns if listing.newest else self._made_ns
        match ino:
            case inodes.LATEST:
                return Attributes(ino=ino, mode=LINK_MODE, size_bytes=len(self.latest()), mtime_ns=newest_ns)
            case inodes.SNAPS:
                return _directory(ino, 2 + len(listing.by_name), newest_ns)
            case inodes.BRANCHES:
                return _directory(ino, 2 + len(listing.branches), self._made_ns)
            case inodes.ROOT:
                return _directory(ino, 2 + len(self._top), self._made_ns)
        return _directory(ino, 2, self._made_ns)

    def _live_attributes(self, node: LiveFile) -> Attributes:
        volume = self._live_volume(node)
        journal = self._source.journal
        state = journal.volume_at(volume.id, journal.facts().committed_seqno)
        return node.attributes(volume.size_bytes, state.last_write_ns if state else self._made_ns)

    def _live_volume(self, node: LiveFile) -> Volume:
        for volume in self._now().live.values():
            if volume.id == node.volume_id:
                return volume
        raise NotFoundError("the volume is no longer live", volume=node.volume_id)

    def xattrs(self, node: Node) -> dict[str, str]:
        """Extended attributes without their prefix; of volumes in points, and of directories of points and branches."""
        if isinstance(node, PointDirectory):
            return dict(self._today(node).xattrs())
        return dict(node.xattrs()) if isinstance(node, (ViewFile, BranchDirectory)) else {}

    def latest(self) -> str:
        """Target of ``snaps/latest``. Raises: NotFoundError: there is no bookmark."""
        newest = self._now().newest
        if newest is None:
            raise _missing("latest")
        return newest.name

    def content(self, node: Text) -> bytes:
        """The bytes of a file of text; for a diff this may read every map between its points."""
        if isinstance(node, ManifestFile):
            directory = self._today(node.directory)
            return self._contents.get(directory, lambda: json_text(self._source.manifest(directory.point)))
        if isinstance(node, BranchManifest):
            return self._contents.get(
                node, lambda: json_text(self._source.branch_manifest(self._branch(node.place.id).place.name))
            )
        pair = node.pair
        return self._contents.get(node, lambda: json_text(self._source.diff(pair.since, pair.until, node.volume)))

    def _today(self, directory: PointDirectory) -> PointDirectory:
        """The same with its bookmark as it is now: it may be held; if it was removed, its point has no name."""
        if directory.bookmark is None:
            return directory
        bookmark = self._now().by_created.get(directory.bookmark.created_seqno)
        point = directory.point if bookmark else _nameless(directory.point)
        return msgspec.structs.replace(directory, bookmark=bookmark, point=point)

    def view(self, node: ViewFile) -> Any:
        """The volume at its point, to be closed or opened. It stays readable when its bookmark is removed."""
        return self._source.view(node.volume.name, node.point)

    def writable_file(self, node: Writable) -> Any:
        """An open file for the plane, which takes it over.

        Raises: NotFoundError, StaleError: it was removed. IntegrityError: the branch is damaged. BusyError: it is promoted.
        """
        if isinstance(node, LiveFile):
            return self._source.journal.live_file(self._live_volume(node).id)
        place = self._branch(node.place.id).place
        return self._source.branch_file(place.name, node.volume.name, place.id)

    def _branch(self, branch: int) -> BranchDirectory:
        found = self._now().branches_by_id.get(branch)
        if found is None:
            raise StaleError("a branch that was removed")
        return found

    def open_again(self, ino: int) -> Any:
        """An open file for the plane of a volume that was open when the process before ended. Raises: StaleError: it is no
        volume, or cannot be found again."""
        node = self.node(ino)
        match node:
            case LiveFile() | BranchFile():
                return self.writable_file(node)
            case ViewFile():
                return self.view(node).file()
        raise StaleError("not a volume")

    def live_nodes(self) -> list[LiveFile]:
        """Every live volume."""
        return [LiveFile(volume.id) for volume in self._now().live.values()]

    def node(self, ino: int) -> Node:
        """The node of a number that nobody remembers, by the table in inodes.py. Raises: StaleError."""
        kind, value = inodes.split(ino)
        match kind:
            case Kind.FIXED:
                return Fixed(ino)
            case Kind.VIEW:
                return self._view_written_by(value)
            case Kind.SNAP | Kind.AT_BOOKMARK | Kind.AT_POINT:
                return self._directory(kind, value)
            case Kind.SNAP_MANIFEST | Kind.AT_BOOKMARK_MANIFEST | Kind.AT_POINT_MANIFEST:
                return ManifestFile(self._directory(DIRECTORY_OF[kind], value))
            case Kind.LIVE_VOLUME:
                return LiveFile(value)
            case Kind.DIFF_PAIR | Kind.DIFF_FILE:
                return self._difference(ino)
            case Kind.BRANCH:
                return self._branch(value)
            case Kind.BRANCH_MANIFEST:
                return BranchManifest(self._branch(value).place)
            case Kind.BRANCH_VOLUME:
                return self._branch_volume(*inodes.branch_and_volume(value))
        assert_never(kind)

    def _branch_volume(self, branch: int, volume: int) -> BranchFile:
        place = self._branch(branch).place
        for each in place.volumes:
            if each.id == volume:
                return BranchFile(place, each)
        raise StaleError("a volume that the branch does not have")

    def _difference(self, ino: int) -> DiffPair | DiffFile:
        for pair in self._remembered:
            if pair.ino == ino:
                return pair
            for volume in self._source.volumes(pair.until):
                file = _diff_file(pair, volume)
                if file.ino == ino:
                    return file
        raise StaleError("a comparison that was not asked for here")

    def _directory(self, kind: Kind, value: int) -> PointDirectory:
        if kind is Kind.AT_POINT:
            point = self._source.resolve(f"@{value}")
            return PointDirectory(kind=kind, point=_nameless(point), bookmark=None)
        bookmark = self._now().by_created.get(value)
        if bookmark is None:
            raise StaleError("a bookmark that was removed", seqno=value)
        return directory_of(kind, bookmark)

    def _view_written_by(self, seqno: int) -> ViewFile:
        point = self._source.point_not_before(seqno)  # the write's own may be gone, and a later one shows it still
        for volume in self._source.volumes(point):
            at = self._source.volume_at(volume.name, point)
            if at.last_write_seqno == seqno:
                return ViewFile(volume=at, point=point)
        raise StaleError("a volume that no point shows", seqno=seqno)

    # News

    def _is_fresh(self, listing: Listing) -> bool:
        known = listing.generation == self._source.generation
        return known and (self._live or self._clock() < self._fresh_until)

    def _now(self) -> Listing:
        """The listing, at most FRESH_FOR_S old."""
        listing = self._listing
        return listing if self._is_fresh(listing) else self._refresh()

    def _refresh(self) -> Listing:
        """One of now. Returned, and not only kept: another thread may put one in its place that it began to make before."""
        if not self._live:
            self._source.refresh()
            self._fresh_until = self._clock() + FRESH_FOR_S
        listing = self._listing
        if listing.generation != self._source.generation:
            self._listing = listing = Listing.of(self._source, live=self._live)
        return listing

    def _with_news(self, find: Callable[[Listing], T]) -> T:
        """What ``find`` finds; when it finds nothing, once more after a look for news."""
        try:
            found = find(self._now())
        except NotFoundError:
            return find(self._refresh())
        return find(self._refresh()) if found is None else found


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"no {name!r} here")


def _snap(listing: Listing, name: str) -> Node | None:
    if name == "latest":
        return Fixed(inodes.LATEST) if listing.newest else None
    return listing.directories.get(name)


def _nameless(point: Point) -> Point:
    return msgspec.structs.replace(point, bookmark=None)


def _itself(node: T) -> T:
    return node


def _diff_file(pair: DiffPair, volume: Volume) -> DiffFile:
    return DiffFile(pair=pair, volume_id=volume.id, volume=volume.name)


def _directory(ino: int, nlink: int, mtime_ns: int) -> Attributes:
    mode = ROOT_MODE if ino == inodes.ROOT else DIRECTORY_MODE
    return Attributes(ino=ino, mode=mode, nlink=nlink, mtime_ns=mtime_ns, entry_timeout_s=STABLE_TIMEOUT_S)
