"""JSON bodies of the journal's events: what the C core hands on unread.

Members that this version does not know are ignored. A body that breaks these shapes, or a name that breaks the rule
for names, is refused: it would become a path of the mount.

Source: native/FORMAT.md section 7.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import IntegrityError, UsageError
from vsnapfs.core.model import Consistency, Federation, MemberOutcome, PrimaryKind, Proved
from vsnapfs.core.names import NameKind, check_name

BODY_BYTES_MAX = 32768

HoldUntil = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class PrimaryPath(msgspec.Struct, frozen=True):
    """A primary outside the repository."""

    path: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or "\0" in self.path:
            raise ValueError(f"{self.path!r} is not an absolute path")


class VolumeAdded(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    primary: Literal["repository", "none"] | PrimaryPath
    base: bool
    base_digest: str = ""
    """SHA-256 in hex of what the base holds; empty: none was kept."""

    @property
    def kind(self) -> PrimaryKind:
        return "path" if isinstance(self.primary, PrimaryPath) else self.primary

    @property
    def path(self) -> str | None:
        return self.primary.path if isinstance(self.primary, PrimaryPath) else None


class VerdictGiven(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a proof; when it was given is the time of the record."""

    good: bool
    profile: str = ""
    took_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    volumes: tuple[str, ...] = ()
    proved: tuple[Proved, ...] = ()
    reason: str = ""
    remarks: tuple[str, ...] = ()


class BookmarkAdded(msgspec.Struct, frozen=True):
    name: str
    consistency: Consistency = "crash"
    application: str = ""
    note: str = ""
    federation: Federation | msgspec.UnsetType = msgspec.UNSET
    """Not there: it is of this repository alone."""
    profile: str | msgspec.UnsetType = msgspec.UNSET
    """Not there: nobody was made still for it."""
    members: tuple[MemberOutcome, ...] | msgspec.UnsetType = msgspec.UNSET
    schedule: str | msgspec.UnsetType = msgspec.UNSET
    """Not there: somebody asked for it."""
    pending: bool | msgspec.UnsetType = msgspec.UNSET
    """True: the record is a position to be named, or not, by a later one; it makes no bookmark."""
    verdict: VerdictGiven | msgspec.UnsetType = msgspec.UNSET
    """There, with ``pending``: what was found out about the point, for the bookmark of that name if it is at it."""


class BookmarkNamed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a removal, a hold, a release."""

    name: str
    note: str = ""
    until: HoldUntil | None = None
    """When a hold ends, ns since 1970 UTC; None: when it is released."""


class GapBegun(msgspec.Struct, frozen=True):
    reason: str = ""


Body = TypeVar("Body", VolumeAdded, BookmarkAdded, BookmarkNamed)


def encode(body: VolumeAdded | BookmarkAdded | BookmarkNamed) -> bytes:
    """The bytes of an event's body. Raises: UsageError: more than an event may carry, or a path that is not UTF-8."""
    try:
        encoded = msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise UsageError(f"the description of {body.name} is not text: {error.object!r}") from error
    if len(encoded) > BODY_BYTES_MAX:
        raise UsageError(
            f"the description of {body.name} takes {len(encoded)} bytes, at most {BODY_BYTES_MAX} are kept"
        )
    return encoded


def decode(body: bytes, shape: type[Body], kind: NameKind, seqno: int) -> Body:
    """The body of event ``seqno``. Raises: IntegrityError: not such a body, or a name that cannot be."""
    try:
        found = from_json(body, shape)
        check_name(found.name, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UsageError) as error:
        raise IntegrityError(f"event @{seqno} cannot be understood: {error}", seqno=seqno) from error
    return found


def gap_reason(body: bytes) -> str:
    """Why a gap began, as far as its event says so: nothing depends on it."""
    try:
        return msgspec.json.decode(body, type=GapBegun).reason
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
