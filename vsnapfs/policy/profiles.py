"""``[quiesce.NAME]``: who is made still for a bookmark, in which order and for how long at most.

The structs are the settings as people write them, and what the freezer is told. Each kind of member has one, told apart by
``kind``; a new kind is a struct here, in ``MemberSettings``, and a class in vsnapfs/quiesce that carries it out.

Source: docs/quiesce.md.
"""

from __future__ import annotations

import posixpath
from typing import Literal, TypeAlias

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import Consistency
from vsnapfs.core.names import check_name
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration

DEADLINE_S_MAX = 60.0
"""Nobody is kept still for longer, whatever the settings say."""
DEADLINE_S_MIN = 0.1
MEMBERS_MAX = 16
MEMBER_BYTES_MAX = 1280
"""What the journal keeps of one, at most."""
FILES_BYTES_MAX = 2048
"""The same of its files, if it is of a kind that has any."""
WITH_FILES_MAX = 2
PROFILE_BYTES_MAX = MEMBERS_MAX * MEMBER_BYTES_MAX + WITH_FILES_MAX * FILES_BYTES_MAX

Fallback = Literal["none", "crash"]


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind of member has. ``name``: unique in its profile."""

    name: str


class FsfreezeSettings(Named, frozen=True, kw_only=True, tag="fsfreeze"):
    """A mounted filesystem, frozen by the kernel. It is consistent as a filesystem, whoever writes to it."""

    mountpoint: str

    def __post_init__(self) -> None:
        if not posixpath.isabs(self.mountpoint):
            raise ValueError(f"mountpoint: {self.mountpoint!r} is not an absolute path")


class CommandSettings(Named, frozen=True, kw_only=True, tag="command"):
    """Anything else, by commands: each is a program and its arguments, without a shell."""

    freeze: tuple[str, ...]
    thaw: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    """Runs while nothing is still yet; empty: there is nothing to prepare."""
    consistency: Consistency = "application"
    """What the bookmark has when ``freeze`` has succeeded."""

    def __post_init__(self) -> None:
        for phase in ("freeze", "thaw"):
            if not getattr(self, phase):
                raise ValueError(f"{phase}: a command has a program at least")
        for phase in ("prepare", "freeze", "thaw"):
            if any("\0" in word for word in getattr(self, phase)):
                raise ValueError(f"{phase}: a command has no NUL in it")


class PostgreSQLSettings(Named, frozen=True, kw_only=True, tag="postgresql"):
    """A PostgreSQL server, by a connection to one of its databases."""

    dsn: str = ""
    """As libpq has them, without a password; empty: what its environment says."""
    mode: Literal["checkpoint", "backup"] = "checkpoint"
    hold_writes: bool = False
    """Nothing that changes a table of that database commits while it is frozen."""

    def __post_init__(self) -> None:
        if "\0" in self.dsn:
            raise ValueError("dsn: it has no NUL in it")


class MariaDBSettings(Named, frozen=True, kw_only=True, tag="mariadb"):
    """A MariaDB server, by a connection to it."""

    mode: Literal["backup_stage", "read_lock"] = "backup_stage"
    option_file: str = ""
    """Whose group ``[client]`` says where it is, and who we are to it."""
    socket: str = ""
    user: str = ""
    non_transactional: Literal["refuse", "allow"] = "refuse"
    """What becomes of it all if there is a table of an engine without transactions."""

    def __post_init__(self) -> None:
        for key in ("option_file", "socket"):
            path = getattr(self, key)
            if path and not posixpath.isabs(path):
                raise ValueError(f"{key}: {path!r} is not an absolute path")


MemberSettings: TypeAlias = FsfreezeSettings | CommandSettings | PostgreSQLSettings | MariaDBSettings


def kind_of(member: MemberSettings) -> str:
    """As it is written in the settings."""
    return str(type(member).__struct_config__.tag)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[quiesce.NAME]``. Members are frozen in the order given and thawed in reverse."""

    members: tuple[MemberSettings, ...]
    deadline: str = "10s"
    """From the first freeze on: then all are thawed, whatever else has happened."""
    fallback: Fallback = "none"
    """What is made when a member cannot be made still: nothing, or a bookmark that is consistent as after a crash."""

    def __post_init__(self) -> None:
        if not DEADLINE_S_MIN <= self.deadline_s <= DEADLINE_S_MAX:
            raise ValueError(f"deadline: {self.deadline} is not in {DEADLINE_S_MIN:g}s to {DEADLINE_S_MAX:g}s")
        if not 1 <= len(self.members) <= MEMBERS_MAX:
            raise ValueError(f"members: a profile has 1 to {MEMBERS_MAX} of them, not {len(self.members)}")
        if sum(isinstance(m, PostgreSQLSettings) and m.mode == "backup" for m in self.members) > WITH_FILES_MAX:
            raise ValueError(f"members: no more than {WITH_FILES_MAX} of them can have mode backup")
        _check_member_names([member.name for member in self.members])
        _check_mountpoints([member.mountpoint for member in self.members if isinstance(member, FsfreezeSettings)])

    @property
    def deadline_s(self) -> float:
        """Raises: ValueError: no duration."""
        try:
            return parse_duration(self.deadline) / NS_PER_S
        except UsageError as error:
            raise ValueError(f"deadline: {error}") from error


def _check_member_names(names: list[str]) -> None:
    for position, name in enumerate(names):
        try:
            check_name(name, "member")
        except UsageError as error:
            raise ValueError(f"members: {error}") from error
        if name in names[:position]:
            raise ValueError(f"members: two have the name {name!r}")


def _check_mountpoints(mountpoints: list[str]) -> None:
    """The second freeze of a filesystem would find it frozen."""
    places = [posixpath.normpath(mountpoint) for mountpoint in mountpoints]
    for position, place in enumerate(places):
        if place in places[:position]:
            raise ValueError(f"members: two have the mountpoint {place!r}")


def check_names(profiles: dict[str, Profile]) -> None:
    """Names become environment, JSON and lines of logs. Raises: ValueError: one that cannot be."""
    try:
        for name in profiles:
            check_name(name, "profile")
    except UsageError as error:
        raise ValueError(f"quiesce: {error}") from error
