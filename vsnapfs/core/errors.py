"""Everything that can go wrong, once: its class, its exit status, its errno, its one line.

A class knows two numbers: ``exit_status`` is what the command ends with, ``errno`` is what the kernel is told when the
same failure meets a file of the mount. Whoever raises says which object and what to do; nobody adds a second line later.

Errors cross the control socket as objects (``to_object``, ``from_object``), so that a command says the same whether a
server stands behind it or not.

Source: docs/command.md, table of exit statuses; native/include/status.h for the codes of the C core.
"""

from __future__ import annotations

import errno as _errno
from collections.abc import Iterable
from typing import Any, ClassVar

FIELDS = ("volume", "seqno", "segment", "offset_bytes", "hint")


class VsnapfsError(Exception):
    """Base of all our errors. ``str(e)`` is one line: what, which object, what to do.

    Fields: volume: name or id. seqno: record. segment: first seqno of the segment. offset_bytes: where in the file that
    is at fault. hint: what to do, if the message does not say it. None: does not apply.
    """

    exit_status: ClassVar[int] = 1
    errno: ClassVar[int] = _errno.EIO

    def __init__(
        self,
        message: str,
        *,
        volume: str | int | None = None,
        seqno: int | None = None,
        segment: int | None = None,
        offset_bytes: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.volume = volume
        self.seqno = seqno
        self.segment = segment
        self.offset_bytes = offset_bytes
        self.hint = hint

    def __str__(self) -> str:
        text = self.message if self.hint is None else f"{self.message}; {self.hint}"
        return " ".join(text.split())

    def fields(self) -> dict[str, Any]:
        """The fields that apply, by name; all of them are JSON values."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


class UsageError(VsnapfsError):
    """What was asked makes no sense: a bad name, size, option, file of settings."""

    exit_status = 2
    errno = _errno.EINVAL


class NameTooLongError(UsageError):
    """A name that no rule could make good by other letters."""

    errno = _errno.ENAMETOOLONG


class NotFoundError(VsnapfsError):
    """No such bookmark, volume, repository. ``near``: existing names that look like it."""

    exit_status = 3
    errno = _errno.ENOENT

    def __init__(self, message: str, *, near: Iterable[str] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.near = list(near)

    def __str__(self) -> str:
        text = super().__str__()
        return " ".join(f"{text}; did you mean {' or '.join(self.near)}?".split()) if self.near else text

    def fields(self) -> dict[str, Any]:
        return super().fields() | ({"near": self.near} if self.near else {})


class PointGoneError(NotFoundError):
    """A point outside the window."""


class PermissionDeniedError(VsnapfsError):
    """Not allowed to this user, or to anybody."""

    exit_status = 4
    errno = _errno.EPERM


class ReadOnlyError(VsnapfsError):
    """A change asked of something that only reads."""

    exit_status = 4
    errno = _errno.EROFS


class NameTakenError(VsnapfsError):
    """The name, or the target, exists already."""

    exit_status = 5
    errno = _errno.EEXIST


class BusyError(VsnapfsError):
    """Held, leased or in use; the message names by whom."""

    exit_status = 5
    errno = _errno.EBUSY


class LockedError(BusyError):
    """Another process owns the repository. ``pid``: which, None when it is not known (another machine)."""

    def __init__(self, message: str, *, pid: int | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.pid = pid

    def fields(self) -> dict[str, Any]:
        return super().fields() | ({"pid": self.pid} if self.pid is not None else {})


class IntegrityError(VsnapfsError):
    """Bytes of the repository are not as they were written."""

    exit_status = 6
    errno = _errno.EIO


class CorruptExtentError(IntegrityError):
    """A block that does not match its checksum; carries volume, segment, offset_bytes."""


class JournalBehindError(IntegrityError):
    """Somebody knows of records that the journal does not have: its newest segment is missing or damaged, or an older copy
    of it was put back. Nothing else could tell, so it is not mended on the quiet."""


class NoSpaceError(VsnapfsError):
    """The disk, a quota or a target is full."""

    exit_status = 7
    errno = _errno.ENOSPC


class DegradedError(VsnapfsError):
    """Done in part, or running with less protection than promised."""

    exit_status = 8
    errno = _errno.EIO


class GapError(DegradedError):
    """A point that the journal does not know, since it could not take writes then."""

    errno = _errno.ENOENT


class TimedOutError(VsnapfsError):
    """Something did not answer in its time."""

    exit_status = 9
    errno = _errno.ETIMEDOUT


class QuiesceError(VsnapfsError):
    """A member of a profile could not be made still, or not be let go."""

    exit_status = 1
    errno = _errno.EIO


class NotStillError(QuiesceError):
    """What was frozen was let go by somebody else, before it should be."""


class HuntAbortedError(VsnapfsError):
    """A test gave no verdict, and a hunt cannot go on."""

    exit_status = 1
    errno = _errno.EIO


class UntestableError(VsnapfsError):
    """A point that is there and cannot be shown to a test as was asked, such as a filesystem that cannot be mounted."""

    exit_status = 1
    errno = _errno.EIO


class FormatUnknownError(VsnapfsError):
    """Not a repository of ours, or one of a newer format."""

    exit_status = 10
    errno = _errno.EPROTONOSUPPORT


class StoreError(VsnapfsError):
    """The operating system refused an operation on the repository's files."""

    exit_status = 1
    errno = _errno.EIO


class ServerGoneError(StoreError):
    """A server ended before it had answered."""


OS_CLASSES: dict[int, type[VsnapfsError]] = {
    _errno.ENOENT: NotFoundError,
    _errno.ENOTDIR: NotFoundError,
    _errno.EPERM: PermissionDeniedError,
    _errno.EACCES: PermissionDeniedError,
    _errno.EROFS: ReadOnlyError,
    _errno.EEXIST: NameTakenError,
    _errno.EBUSY: BusyError,
    _errno.ENOSPC: NoSpaceError,
    _errno.EDQUOT: NoSpaceError,
    _errno.EFBIG: NoSpaceError,
    _errno.ENAMETOOLONG: NameTooLongError,
    _errno.ETIMEDOUT: TimedOutError,
}
"""What an errno of the operating system means to us; every other one is a StoreError."""

CORE_CLASSES: dict[int, type[VsnapfsError]] = OS_CLASSES | {
    _errno.EBADMSG: CorruptExtentError,
    _errno.EUCLEAN: IntegrityError,
    _errno.ENODATA: JournalBehindError,
    _errno.EXDEV: IntegrityError,
    _errno.ELOOP: IntegrityError,
    _errno.EPROTONOSUPPORT: FormatUnknownError,
    _errno.ERANGE: PointGoneError,
    _errno.EINVAL: UsageError,
}
"""The same for the C core, which gives some of them a meaning of its own (native/include/status.h)."""


def from_errno(code: int, message: str, **fields: Any) -> VsnapfsError:
    """The error for a code of the C core, negative as it returns it, or positive. fields: those of VsnapfsError."""
    return CORE_CLASSES.get(abs(code), StoreError)(message, **fields)


def from_os_error(error: OSError, doing: str) -> VsnapfsError:
    """The error for a failed system call. doing: what was tried and on what, such as ``write /tmp/x``."""
    cls = OS_CLASSES.get(error.errno or 0, StoreError)
    return cls(f"cannot {doing}: {error.strerror or error}")


def to_object(error: VsnapfsError) -> dict[str, Any]:
    """The error as a JSON object: kind (class name), exit_status, message, fields (those that apply)."""
    return {
        "kind": type(error).__name__,
        "exit_status": error.exit_status,
        "message": error.message,
        "fields": error.fields(),
    }


def from_object(obj: dict[str, Any]) -> VsnapfsError:
    """The error that ``to_object`` described. A kind that this version does not know becomes a VsnapfsError, and a field that it does not
    know is left out."""
    cls = _CLASSES.get(obj["kind"]) or _tree_of(VsnapfsError).get(obj["kind"], VsnapfsError)
    try:
        return cls(obj["message"], **obj["fields"])
    except TypeError:  # of another version
        return cls(obj["message"], **{name: value for name, value in obj["fields"].items() if name in FIELDS})


def with_hint(error: VsnapfsError, hint: str) -> VsnapfsError:
    """The same error, saying another thing to do."""
    obj = to_object(error)
    return from_object(obj | {"fields": obj["fields"] | {"hint": hint}})


def at_place(error: VsnapfsError, place: str) -> VsnapfsError:
    """The same error, naming the repository that it is about, unless it does."""
    if place in error.message:
        return error
    return from_object(to_object(error) | {"message": f"{place}: {error.message}"})


def _tree_of(cls: type[VsnapfsError]) -> dict[str, type[VsnapfsError]]:
    found = {cls.__name__: cls}
    for sub in cls.__subclasses__():
        found |= _tree_of(sub)
    return found


_CLASSES = _tree_of(VsnapfsError)
"""Those of this module. Other packages have a few of their own, which are known once they are loaded."""
