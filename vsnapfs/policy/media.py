"""``[media.NAME]`` of ``vsnapfs.toml``: where tapes come from and how they are written.

Source: docs/tape.md.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import check_name
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import format_size, parse_duration, parse_size
from vsnapfs.policy.commands import check_command

BLOCK_BYTES_MIN = 512
BLOCK_BYTES_MAX = 16 << 20
"""What Linux's tape driver takes in one."""
PIECE_BYTES_MIN = 64 << 10
PIECE_BYTES_MAX = 1 << 40
BUFFER_BYTES_MIN = 4 << 20
BUFFER_BYTES_MAX = 64 << 30
READY_S_MAX = 24 * 3600.0

_COUNTED = re.compile(r"[^%]*%0?[0-9]*d[^%]*")

Changer = Literal["prompt", "none", "mtx", "command"]


class Medium(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind of medium has."""

    labels: str = "T%05d"
    """Labels of new tapes; ``%05d`` becomes a number."""
    block: str = "256K"
    piece: str = "1G"
    buffer: str = "64M"
    """So much is read ahead; a drive gets nothing before it is full."""
    append: bool = True
    """False: each archive begins on a tape of its own."""
    retention: str = ""
    """How long after its last archive a retired tape is kept from being written over; empty: not at all."""
    compression: Literal["none", "zstd"] = "none"
    recipients: tuple[str, ...] = ()
    """Public keys of age; empty: not encrypted."""
    rate: str = ""
    """At most so much a second; empty: as fast as it goes."""

    def __post_init__(self) -> None:
        _check_pattern(self.labels)
        _check_range("block", self.block, self.block_bytes, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
        if self.block_bytes % 512:
            raise ValueError(f"block: {self.block} is no multiple of 512")
        _check_range("piece", self.piece, self.piece_bytes, PIECE_BYTES_MIN, PIECE_BYTES_MAX)
        _check_range("buffer", self.buffer, self.buffer_bytes, BUFFER_BYTES_MIN, BUFFER_BYTES_MAX)
        if self.rate_bytes == 0:
            raise ValueError("rate: nothing would ever be written; leave it out for no limit")
        _ = self.retention_ns  # that it is a duration
        for recipient in self.recipients:
            if not recipient.strip() or not recipient.isprintable():
                raise ValueError(f"recipients: {recipient!r} is no key")

    @property
    def block_bytes(self) -> int:
        """Of one block of a tape."""
        return _size("block", self.block)

    @property
    def piece_bytes(self) -> int:
        """About so much of the stream is one tape file."""
        return _size("piece", self.piece)

    @property
    def buffer_bytes(self) -> int:
        return _size("buffer", self.buffer)

    @property
    def rate_bytes(self) -> int | None:
        """A second; None: there is no limit."""
        return _size("rate", self.rate) if self.rate else None

    @property
    def retention_ns(self) -> int:
        return _duration_ns("retention", self.retention) if self.retention else 0


class PoolSettings(Medium, frozen=True, kw_only=True, tag="pool"):
    """A directory of tapes, each a directory of files."""

    path: str
    capacity: str
    """Of each tape."""
    tapes: int = 0
    """So many are made at most; 0: as many as the disk has room for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not posixpath.isabs(self.path):
            raise ValueError(f"path: {self.path!r} is not an absolute path")
        if self.capacity_bytes < 2 * self.block_bytes:
            raise ValueError(f"capacity: {self.capacity} is not two blocks of {self.block}")
        if self.tapes < 0:
            raise ValueError("tapes: no number of tapes is below 0")

    @property
    def capacity_bytes(self) -> int:
        return _size("capacity", self.capacity)


class DriveSettings(Medium, frozen=True, kw_only=True, tag="drive"):
    """A tape drive, with a changer, a person, or nobody to change tapes."""

    device: str
    """The one that does not rewind when it is closed, such as ``/dev/nst0``."""
    capacity: str = ""
    """So much is written to a tape at most; empty: until the drive says that it ends."""
    fixed: bool = False
    """Blocks of a fixed length, for a drive that knows no others."""
    ready: str = "10min"
    """A drive that loads a tape is waited for so long."""
    changer: Changer = "prompt"
    changer_device: str = "/dev/sg0"
    changer_drive: int = 0
    """Which of the changer's drives this is."""
    status: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    """Programs and their arguments, in which ``{device}``, ``{label}``, ``{slot}`` and ``{drive}`` are replaced; empty: mtx's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("device", "changer_device"):
            if not posixpath.isabs(getattr(self, key)):
                raise ValueError(f"{key}: {getattr(self, key)!r} is not an absolute path")
        if self.capacity_bytes is not None and self.capacity_bytes < 2 * self.block_bytes:
            raise ValueError(f"capacity: {self.capacity} is not two blocks of {self.block}")
        if not 0 < self.ready_s <= READY_S_MAX:
            raise ValueError(f"ready: {self.ready} is not in 1ns to 1d")
        if self.changer_drive < 0:
            raise ValueError("changer_drive: no drive has a number below 0")
        self._check_commands()

    def _check_commands(self) -> None:
        for key in ("status", "load", "unload"):
            words = getattr(self, key)
            if any("\0" in word for word in words) or (words and not words[0]):
                raise ValueError(f"{key}: it is no program and its arguments")
            if words and self.changer in ("prompt", "none"):
                raise ValueError(f'{key}: nobody runs it with changer = "{self.changer}"')
        if self.changer == "command" and not self.load:
            raise ValueError("load: a changer by commands has one that loads")

    @property
    def capacity_bytes(self) -> int | None:
        return _size("capacity", self.capacity) if self.capacity else None

    @property
    def ready_s(self) -> float:
        return _duration_ns("ready", self.ready) / NS_PER_S


class CommandSettings(Medium, frozen=True, kw_only=True, tag="command"):
    """Programs of the user's: one gets an archive on its standard input, one gives it back."""

    command: tuple[str, ...]
    """A program and its arguments, in which COMMAND_WORDS are replaced."""
    read: tuple[str, ...] = ()
    """The same, of the one that writes the archive to its standard output; empty: there is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.command:
            raise ValueError("command: it has no program")
        for key in ("command", "read"):
            try:
                check_command(getattr(self, key))
            except ValueError as error:
                raise ValueError(str(error).replace("command", key, 1)) from error
        for key in TAPES_ALONE:
            if getattr(self, key) != getattr(Medium(), key):
                raise ValueError(f"{key}: a command gets each archive as one stream")


COMMAND_WORDS = (
    "label",
    "archive",
    "kind",
    "point",
    "since",
    "seqno",
    "time",
    "bookmark",
    "extension",
    "medium",
    "repo",
)
"""What a command is told of an archive: ``{label}`` in its words, ``VSNAPFS_LABEL`` in its environment, and so on."""
TAPES_ALONE = ("block", "piece", "append")

MediumSettings: TypeAlias = PoolSettings | DriveSettings | CommandSettings


def kind_of(settings: MediumSettings) -> str:
    """As it is written in the settings."""
    return str(type(settings).__struct_config__.tag)


def check_media(media: Mapping[str, MediumSettings]) -> None:
    """Names are in labels, catalogs and on command lines. Raises: ValueError: one that cannot be; two that share a place."""
    places: dict[str, str] = {}
    for name, settings in media.items():
        try:
            check_name(name, "medium")
        except UsageError as error:
            raise ValueError(f"media: {error}") from error
        if isinstance(settings, CommandSettings):
            continue
        place = posixpath.normpath(settings.path if isinstance(settings, PoolSettings) else settings.device)
        if place in places:
            raise ValueError(f"media: {places[place]} and {name} are both {place}")
        places[place] = name


def _check_pattern(labels: str) -> None:
    if _COUNTED.fullmatch(labels) is None:
        raise ValueError(f"labels: {labels!r} has no one number such as %05d in it")
    try:
        check_name(labels % 1, "tape")
    except (UsageError, ValueError) as error:
        raise ValueError(f"labels: {error}") from error


def _check_range(key: str, text: str, size_bytes: int, least: int, most: int) -> None:
    if not least <= size_bytes <= most:
        raise ValueError(f"{key}: {text} is not in {format_size(least)} to {format_size(most)}")


def _size(key: str, text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise ValueError(f"{key}: {error}") from error


def _duration_ns(key: str, text: str) -> int:
    try:
        return parse_duration(text)
    except UsageError as error:
        raise ValueError(f"{key}: {error}") from error
