"""What the mount shows, as values: each kind of node with its attributes and xattrs. No I/O, no FUSE.

``Source`` says exactly what the tree needs of a repository.

Modes: directories 0550 below a root of 0555, so that with ``allow_other`` owner and group read and others learn
nothing, not even names; files 0440; live volumes and those of branches 0600. Owner and group come from the mount's options, never from a
volume.

Times the kernel may remember an answer: a name that may change its meaning (a bookmark, ``latest``, ``-5min``) half a
second, so that with the tree's own FRESH_FOR_S a change is seen within a second; what never changes (a view, a point
given by seqno) five minutes.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vsnapfs.core.branch import BranchPlace, BranchVolume
from vsnapfs.core.model import Bookmark, Point, Verdict, Volume, VolumeAt, VolumeDiff
from vsnapfs.core.names import MANIFEST
from vsnapfs.core.times import parse_iso
from vsnapfs.tree import inodes
from vsnapfs.tree.inodes import Kind, number

NAME_TIMEOUT_S = 0.5
"""Of points too: one that is given up is gone for whoever asks later, though what it showed never changed."""
LIVE_TIMEOUT_S = 1.0
STABLE_TIMEOUT_S = 300.0

DIRECTORY_MODE = stat.S_IFDIR | 0o550
ROOT_MODE = stat.S_IFDIR | 0o555
FILE_MODE = stat.S_IFREG | 0o440
LIVE_MODE = stat.S_IFREG | 0o600
LINK_MODE = stat.S_IFLNK | 0o777

XATTR_PREFIX = "user.vsnapfs."


class Facts(Protocol):
    """Of the journal's facts, what the tree looks at."""

    @property
    def committed_seqno(self) -> int: ...
    @property
    def last_time_ns(self) -> int: ...


class State(Protocol):
    """Of a volume's state, what the tree looks at."""

    @property
    def last_write_ns(self) -> int: ...


class View(Protocol):
    """One volume at one point, to be opened once."""

    def file(self) -> Any: ...


class Journal(Protocol):
    """The journal behind live volumes and times."""

    def facts(self) -> Facts: ...
    def volume_at(self, volume: int, seqno: int) -> State | None: ...
    def live_file(self, volume: int) -> Any: ...


class Source(Protocol):
    """What the tree needs of a repository; every call may block and may come from any thread."""

    @property
    def path(self) -> Path: ...
    @property
    def generation(self) -> int:
        """Differs whenever bookmarks, volumes or branches do."""

    @property
    def journal(self) -> Journal: ...
    def refresh(self) -> bool: ...
    def bookmarks(self) -> list[Bookmark]: ...
    def resolve(self, text: str) -> Point: ...
    def point_not_before(self, seqno: int) -> Point: ...
    def volumes(self, point: Point | None = None) -> list[Volume]: ...
    def volume_at(self, name: str, point: Point) -> VolumeAt: ...
    def manifest(self, point: Point) -> dict[str, Any]: ...
    def view(self, name: str, point: Point) -> View: ...
    def diff(self, since: Point, until: Point, name: str) -> VolumeDiff: ...
    def branch_places(self) -> list[BranchPlace]: ...
    def branch_manifest(self, name: str) -> dict[str, Any]: ...
    def branch_changed_ns(self, name: str, volume: str) -> int: ...
    def branch_file(self, name: str, volume: str, branch_id: int | None = None) -> Any: ...


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What ``stat`` shows, without owner; and how long the kernel may remember the name and these, in seconds."""

    ino: int
    mode: int
    nlink: int = 1
    size_bytes: int = 0
    blocks: int = 0
    """Units of 512 bytes that hold data."""
    mtime_ns: int = 0
    entry_timeout_s: float = NAME_TIMEOUT_S
    attr_timeout_s: float = NAME_TIMEOUT_S


def blocks_of(data_bytes: int) -> int:
    """``st_blocks`` of so many bytes."""
    return -(-data_bytes // 512)


class Fixed(msgspec.Struct, frozen=True):
    """The root, one of its directories, or ``latest``."""

    ino: int


class PointDirectory(msgspec.Struct, frozen=True):
    """``snaps/BOOKMARK`` or ``at/POINT``: the volumes at one point."""

    kind: Kind
    point: Point
    bookmark: Bookmark | None
    """The bookmark it was asked for by, if by one."""

    @property
    def value(self) -> int:
        return self.point.seqno if self.bookmark is None else self.bookmark.created_seqno

    @property
    def ino(self) -> int:
        return number(self.kind, self.value)

    def attributes(self) -> Attributes:
        return Attributes(
            ino=self.ino,
            mode=DIRECTORY_MODE,
            nlink=2,
            mtime_ns=self.point.time_ns,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )

    def xattrs(self) -> Mapping[str, str]:
        """Any instant is as consistent as after a power cut, so a point without a bookmark says ``crash``."""
        shown = {
            "seqno": str(self.point.seqno),
            "time": self.point.time,
            "consistency": self.bookmark.consistency if self.bookmark else "crash",
            "application": self.bookmark.application if self.bookmark else "",
            "profile": self.bookmark.profile if self.bookmark else "",
        }
        good = self.bookmark.is_good if self.bookmark else None
        return shown if good is None else shown | {"verified": "good" if good else "bad"}


class ViewFile(msgspec.Struct, frozen=True):
    """A volume as it was, one node for all points with the same last write. ``point``: one to open it at."""

    volume: VolumeAt
    point: Point

    @property
    def ino(self) -> int:
        return number(Kind.VIEW, self.volume.last_write_seqno)

    def attributes(self) -> Attributes:
        """Two links, since it has as many names as there are points: of a file with one, nobody looks for another name."""
        return Attributes(
            ino=self.ino,
            mode=FILE_MODE,
            nlink=2,
            size_bytes=self.volume.size_bytes,
            blocks=blocks_of(self.volume.data_bytes),
            mtime_ns=parse_iso(self.volume.last_write_time),
            entry_timeout_s=STABLE_TIMEOUT_S,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )

    def xattrs(self) -> Mapping[str, str]:
        """Facts of the content alone: the kernel names the inode, which many points share."""
        return {
            "seqno": str(self.volume.last_write_seqno),
            "time": self.volume.last_write_time,
        }


class ManifestFile(msgspec.Struct, frozen=True):
    """``MANIFEST.json`` of a directory."""

    directory: PointDirectory

    @property
    def ino(self) -> int:
        return number(inodes.MANIFEST_OF[self.directory.kind], self.directory.value)

    def attributes(self, size_bytes: int, verdicts: Sequence[Verdict]) -> Attributes:
        """As new as the last verdict that is in it. Forgotten soon: one may be given."""
        mtime_ns = max([self.directory.point.time_ns, *(parse_iso(verdict.time) for verdict in verdicts)])
        return Attributes(
            ino=self.ino, mode=FILE_MODE, size_bytes=size_bytes, blocks=blocks_of(size_bytes), mtime_ns=mtime_ns
        )


class DiffPair(msgspec.Struct, frozen=True):
    """``diff/A..B``. ``name`` is as it was asked for: relative points make each its own directory."""

    name: str
    since: Point
    until: Point

    @property
    def ino(self) -> int:
        return number(Kind.DIFF_PAIR, inodes.digest(self.name, self.since.seqno, self.until.seqno))

    def attributes(self) -> Attributes:
        return Attributes(
            ino=self.ino,
            mode=DIRECTORY_MODE,
            nlink=2,
            mtime_ns=self.until.time_ns,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )


class DiffFile(msgspec.Struct, frozen=True):
    """``diff/A..B/VOLUME.json``."""

    pair: DiffPair
    volume_id: int
    volume: str

    @property
    def ino(self) -> int:
        pair = self.pair
        facts = (pair.name, pair.since.seqno, pair.until.seqno, self.volume_id)
        return number(Kind.DIFF_FILE, inodes.digest(*facts))

    def attributes(self, size_bytes: int) -> Attributes:
        return Attributes(
            ino=self.ino,
            mode=FILE_MODE,
            size_bytes=size_bytes,
            blocks=blocks_of(size_bytes),
            mtime_ns=self.pair.until.time_ns,
            entry_timeout_s=STABLE_TIMEOUT_S,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )


class LiveFile(msgspec.Struct, frozen=True):
    """``live/VOLUME``: the splitter."""

    volume_id: int

    @property
    def ino(self) -> int:
        return number(Kind.LIVE_VOLUME, self.volume_id)

    def attributes(self, size_bytes: int, mtime_ns: int) -> Attributes:
        return _writable(self.ino, size_bytes, mtime_ns)


class BranchDirectory(msgspec.Struct, frozen=True):
    """``branches/BRANCH``: writable volumes."""

    place: BranchPlace

    @property
    def ino(self) -> int:
        return number(Kind.BRANCH, self.place.id)

    def attributes(self) -> Attributes:
        return Attributes(
            ino=self.ino,
            mode=DIRECTORY_MODE,
            nlink=2,
            mtime_ns=self.place.created_ns,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )

    def xattrs(self) -> Mapping[str, str]:
        """Of the point that it stands on."""
        return {"seqno": str(self.place.seqno), "time": self.place.time}

    def node(self, name: str) -> BranchFile | BranchManifest | None:
        """What has that name in it."""
        if name == MANIFEST:
            return BranchManifest(self.place)
        return next((BranchFile(self.place, volume) for volume in self.place.volumes if volume.name == name), None)

    def nodes(self) -> Mapping[str, BranchFile | BranchManifest]:
        """All that is in it, by name."""
        found: dict[str, BranchFile | BranchManifest] = {MANIFEST: BranchManifest(self.place)}
        found |= {volume.name: BranchFile(self.place, volume) for volume in self.place.volumes}
        return dict(sorted(found.items()))


class BranchManifest(msgspec.Struct, frozen=True):
    """``MANIFEST.json`` of a branch."""

    place: BranchPlace

    @property
    def ino(self) -> int:
        return number(Kind.BRANCH_MANIFEST, self.place.id)

    def attributes(self, size_bytes: int) -> Attributes:
        return Attributes(
            ino=self.ino,
            mode=FILE_MODE,
            size_bytes=size_bytes,
            blocks=blocks_of(size_bytes),
            mtime_ns=self.place.created_ns,
            attr_timeout_s=STABLE_TIMEOUT_S,
        )


class BranchFile(msgspec.Struct, frozen=True):
    """``branches/BRANCH/VOLUME``: scratch."""

    place: BranchPlace
    volume: BranchVolume

    @property
    def ino(self) -> int:
        return inodes.branch_volume(self.place.id, self.volume.id)

    def attributes(self, mtime_ns: int) -> Attributes:
        return _writable(self.ino, self.volume.size_bytes, mtime_ns)


def _writable(ino: int, size_bytes: int, mtime_ns: int) -> Attributes:
    """It counts as full, as a block device does: an exact count costs a walk after each write."""
    return Attributes(
        ino=ino,
        mode=LIVE_MODE,
        size_bytes=size_bytes,
        blocks=blocks_of(size_bytes),
        mtime_ns=mtime_ns,
        attr_timeout_s=LIVE_TIMEOUT_S,
    )


Directory = Fixed | PointDirectory | DiffPair | BranchDirectory
Text = ManifestFile | DiffFile | BranchManifest
Writable = LiveFile | BranchFile
VolumeNode = ViewFile | Writable
Node = Directory | Text | VolumeNode
