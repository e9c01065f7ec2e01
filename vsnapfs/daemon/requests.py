"""What can be asked of a repository, and what comes back: one struct a verb, with a server and without.

Each request names its result as a type argument, so a call is typed from end to end. Unknown members are refused.
All paths are absolute: the server runs in another directory than the command. Points are text (core.points).

Source: docs/command.md, section on the control socket.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec

from vsnapfs.core.branch import Branch
from vsnapfs.core.events import Event
from vsnapfs.core.findings import Anchor, BranchFindings, Check
from vsnapfs.core.keeping import Plan, Space
from vsnapfs.core.keeping import Prune as PruneResult
from vsnapfs.core.model import (
    Bookmark,
    Consistency,
    FederatedRepository,
    Federation,
    MemberOutcome,
    Point,
    Proved,
    RemovedBookmark,
    Undecided,
    Volume,
    VolumeAt,
    VolumeDiff,
)
from vsnapfs.core.rights import Right
from vsnapfs.core.state import Status

R = TypeVar("R")
EVENTS_MAX = 1000
"""In one answer."""
WAIT_S_MAX = 30.0


class Volumes(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of volume_list, by name."""

    volumes: list[Volume]


class Resynced(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of volume_resync. ``volume`` None: of all that were in a gap."""

    volume: str | None
    changed_bytes: int


class Bookmarks(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of bookmark_list, oldest point first."""

    bookmarks: list[Bookmark]
    undecided: list[Undecided] = []
    """Those over several repositories of which only the first one knows whether they were made."""


class Spaces(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of bookmark_space, in the order of bookmark_list."""

    spaces: list[Space]


class BookmarkContent(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of bookmark_show."""

    bookmark: Bookmark
    volumes: list[VolumeAt]
    space: Space | None = None


class Diffs(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of diff, one for each volume asked for."""

    diffs: list[VolumeDiff]


class Branches(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of branch_list, by name."""

    branches: list[Branch]


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of branch_promote: the bookmarks before and after, and what had to be written."""

    branch: str
    before: Bookmark
    bookmark: Bookmark
    changed_bytes: int
    undo: list[str]
    """The commands that bring back what was before."""


class RestoredLive(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of restore_live: the bookmarks before and after, and what had to be written."""

    volume: str
    source: str
    before: Bookmark
    after: Bookmark
    changed_bytes: int
    undo: str
    """The command that brings back what was before."""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of commit: the newest record on stable storage."""

    seqno: int


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of events, in the order in which they were told."""

    events: list[Event]
    until_id: int
    """All that were asked for up to this id are told: whoever goes on asks for those after it."""
    served: bool = False
    ending: bool = False
    """The server ends: there is nothing to wait for."""


class FederatedAt(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of federated_reserve and federated_hold: which repository it is, and where it stands (0: not asked)."""

    uuid: str
    path: str
    seqno: int


class FederatedVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of federated_verdict: ``decided`` with the first's bookmark, ``open``, or ``none`` for ever."""

    state: Literal["decided", "open", "none"]
    bookmark: Bookmark | None


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of what has none."""


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question whose answer is an R. ``right``: what who asks a server for it needs (core.rights); each has its own."""

    right: ClassVar[Right]


class VolumeAdd(Request[Volume], frozen=True, kw_only=True):
    """Protect a new volume: a thin one of ``size_bytes``, or the image or device at ``primary``."""

    right: ClassVar[Right] = "admin"
    name: str
    size_bytes: int | None = None
    primary: str | None = None
    block_size_bytes: int = 512


class VolumeList(Request[Volumes], frozen=True, kw_only=True):
    """Volumes as of ``point`` (None: now); ``removed`` also those that are gone."""

    right: ClassVar[Right] = "read"
    point: str | None = None
    removed: bool = False


class VolumeRemove(Request[Volume], frozen=True, kw_only=True):
    """End a volume's protection; its history stays."""

    right: ClassVar[Right] = "admin"
    name: str


class VolumeResize(Request[Volume], frozen=True, kw_only=True):
    """Change a volume's size."""

    right: ClassVar[Right] = "admin"
    name: str
    size_bytes: int


class VolumeResync(Request[Resynced], frozen=True, kw_only=True):
    """Journal what differs between the primary of ``name`` and the journal; a gap is closed first. None: only that."""

    right: ClassVar[Right] = "admin"
    name: str | None = None


class BookmarkAdd(Request[Bookmark], frozen=True, kw_only=True):
    """Name a point; ``at`` None: now. ``quiesce``: a profile of the settings, whose members are made still for it; it says the
    consistency. ``schedule``: the name of what makes it regularly."""

    right: ClassVar[Right] = "bookmark"
    name: str
    at: str | None = None
    consistency: Consistency = "crash"
    application: str = ""
    note: str = ""
    quiesce: str | None = None
    schedule: str = ""


class BookmarkList(Request[Bookmarks], frozen=True, kw_only=True):
    """Every bookmark."""

    right: ClassVar[Right] = "read"


class BookmarkShow(Request[BookmarkContent], frozen=True, kw_only=True):
    """One bookmark and its volumes. ``space``: and what it takes, which takes a while to find out."""

    right: ClassVar[Right] = "read"
    name: str
    space: bool = False


class BookmarkRemove(Request[RemovedBookmark], frozen=True, kw_only=True):
    """Forget a name; the point stays as long as the window reaches it, or a branch stands on it. seqno: only if it is of this point."""

    right: ClassVar[Right] = "delete"
    name: str
    seqno: int | None = None


class BookmarkHold(Request[Bookmark], frozen=True, kw_only=True):
    """Keep a bookmark from every removal until it is released, or the journal is at a time, ``until`` in ISO-8601."""

    right: ClassVar[Right] = "bookmark"
    name: str
    note: str = ""
    until: str | None = None


class BookmarkRelease(Request[Bookmark], frozen=True, kw_only=True):
    """Lift a hold."""

    right: ClassVar[Right] = "delete"
    name: str


class BookmarkSpace(Request[Spaces], frozen=True, kw_only=True):
    """What every bookmark takes."""

    right: ClassVar[Right] = "read"


class GiveVerdict(Request[Bookmarks], frozen=True, kw_only=True):
    """Keep what a proof of a point has come to, with all its bookmarks; answers with those."""

    right: ClassVar[Right] = "admin"
    seqno: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    good: bool
    profile: str = ""
    took_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0
    volumes: tuple[str, ...] = ()
    proved: tuple[Proved, ...] = ()
    reason: str = ""
    remarks: tuple[str, ...] = ()


class BranchAdd(Request[Branch], frozen=True, kw_only=True):
    """Make writable scratch on ``source``: a point, or another branch as it is now (``branch:NAME``)."""

    right: ClassVar[Right] = "admin"
    name: str
    source: str
    quota_bytes: int | None = None
    note: str = ""


class BranchList(Request[Branches], frozen=True, kw_only=True):
    """Every branch."""

    right: ClassVar[Right] = "read"


class BranchShow(Request[Branch], frozen=True, kw_only=True):
    """One branch."""

    right: ClassVar[Right] = "read"
    name: str


class BranchRemove(Request[Done], frozen=True, kw_only=True):
    """Remove a branch and all that was written to it. One that somebody has open stays."""

    right: ClassVar[Right] = "admin"
    name: str


class BranchReport(Request[Branch], frozen=True, kw_only=True):
    """Keep with a branch what was done on it, in place of what was kept before."""

    right: ClassVar[Right] = "admin"
    name: str
    report: dict[str, Any]


class BranchPromote(Request[Promoted], frozen=True, kw_only=True):
    """Write what a branch holds to the live volumes, between two bookmarks; ``bookmark`` None: the branch names the second."""

    right: ClassVar[Right] = "admin"
    name: str
    bookmark: str | None = None
    before: str | None = None
    """The first one; None: named by the clock. One that a try before this one has made is taken."""


class RestoreLive(Request[RestoredLive], frozen=True, kw_only=True):
    """Bring a live volume to what it was at ``source``, a point or ``branch:NAME``, between bookmarks ``before-NAME`` and ``after-NAME``
    (None: named by the clock; the first of a try before this one is taken). ``force``: also while it is open in the mount."""

    right: ClassVar[Right] = "admin"
    source: str
    volume: str
    name: str | None = None
    force: bool = False


class PrunePreview(Request[PruneResult], frozen=True, kw_only=True):
    """What a prune would do now."""

    right: ClassVar[Right] = "read"


class Prune(Request[PruneResult], frozen=True, kw_only=True):
    """Drop bookmarks as the settings say, and give back what nothing needs any more."""

    right: ClassVar[Right] = "delete"


class FederatedReserve(Request[FederatedAt], frozen=True, kw_only=True):
    """Keep a name free for a bookmark over several repositories, whose ``id`` (a uuid) names it from now on."""

    right: ClassVar[Right] = "bookmark"
    id: str
    name: str
    seconds: float


class FederatedHold(Request[FederatedAt], frozen=True, kw_only=True):
    """Hold the writes, for at most so long; 0: as the server thinks right."""

    right: ClassVar[Right] = "bookmark"
    id: str
    milliseconds: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 0


class FederatedLetGo(Request[Done], frozen=True, kw_only=True):
    """End the hold; an error if it had ended by itself."""

    right: ClassVar[Right] = "bookmark"
    id: str


class FederatedPrepare(Request[Done], frozen=True, kw_only=True):
    """Keep the position until ``first`` says what becomes of it; so the server will open what is at its path."""

    right: ClassVar[Right] = "admin"
    id: str
    first: FederatedRepository


class FederatedDecide(Request[Bookmark], frozen=True, kw_only=True):
    """Asked of the first repository: make the bookmark, and with it that of the others."""

    right: ClassVar[Right] = "bookmark"
    name: str
    federation: Federation
    consistency: Consistency = "crash"
    application: str = ""
    note: str = ""
    profile: str = ""
    members: tuple[MemberOutcome, ...] = ()


class FederatedFinish(Request[Done], frozen=True, kw_only=True):
    """Asked of the others: make the bookmark that the first has made."""

    right: ClassVar[Right] = "bookmark"
    decided: Bookmark


class FederatedDrop(Request[Done], frozen=True, kw_only=True):
    """Let go and forget: there is no such bookmark. ``why``: it failed, and that is told."""

    right: ClassVar[Right] = "bookmark"
    id: str
    why: str = ""


class GetFederatedVerdict(Request[FederatedVerdict], frozen=True, kw_only=True):
    """Asked of the first repository, whose ``uuid`` it must be: was it decided?"""

    right: ClassVar[Right] = "bookmark"
    id: str
    uuid: str


class Import(Request[Bookmark], frozen=True, kw_only=True):
    """Take images in as a new point. ``images``: path by volume name."""

    right: ClassVar[Right] = "admin"
    images: dict[str, str]
    bookmark: str
    consistency: Consistency = "crash"
    application: str = ""
    note: str = ""


class Diff(Request[Diffs], frozen=True, kw_only=True):
    """What changed of ``volume`` (None: of all volumes) between two points."""

    right: ClassVar[Right] = "read"
    since: str
    until: str
    volume: str | None = None


class Commit(Request[Committed], frozen=True, kw_only=True):
    """Bring everything appended so far to stable storage."""

    right: ClassVar[Right] = "bookmark"


class MakePlan(Request[Plan], frozen=True, kw_only=True):
    """What the settings should say, in seconds, by what was written so far."""

    right: ClassVar[Right] = "read"
    noticed_in_s: float
    recover_in_s: float


class WritePlan(Request[Plan], frozen=True, kw_only=True):
    """The same, put into the settings."""

    right: ClassVar[Right] = "admin"
    noticed_in_s: float
    recover_in_s: float


class GetStatus(Request[Status], frozen=True, kw_only=True):
    """How the repository is."""

    right: ClassVar[Right] = "read"


class GetEvents(Request[Events], frozen=True, kw_only=True):
    """What happened after the event ``after`` and ``since`` a time (a point's form of it), of ``kinds`` (none: of all): the
    first ``limit``, or the newest. A server waits up to ``wait_s`` for an event after ``after``."""

    right: ClassVar[Right] = "read"
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    since: str | None = None
    kinds: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=EVENTS_MAX)] = EVENTS_MAX
    newest: bool = False
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0


class Verify(Request[Check], frozen=True, kw_only=True):
    """Look for damage; changes nothing. ``percent``: so much is read of the data, if it is; ``seed`` chooses it.

    ``anchor``: what was kept of the past; ``anchor_key``: its key, None: that of the settings. Never its file: who asks
    has the right to read it, or not.
    """

    right: ClassVar[Right] = "read"
    read_data: bool = False
    percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 100
    seed: int | None = None
    anchor: str | None = None
    anchor_key: bytes | None = None


class VerifyBranches(Request[BranchFindings], frozen=True, kw_only=True):
    """Look for damage in branches. ``read_data``: every block of them is read. Asked of the server, who writes to them."""

    right: ClassVar[Right] = "read"
    read_data: bool = False


class Repair(Request[Check], frozen=True, kw_only=True):
    """Look for damage and make again what is derived."""

    right: ClassVar[Right] = "admin"
    read_data: bool = False


class GetAnchor(Request[Anchor], frozen=True, kw_only=True):
    """What proves the past later. ``key``: None: that of the settings."""

    right: ClassVar[Right] = "read"
    key: bytes | None = None


class Resolve(Request[Point], frozen=True, kw_only=True):
    """Which record a point is."""

    right: ClassVar[Right] = "read"
    text: str
