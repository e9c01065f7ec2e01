"""``vsnapfs.toml``: what people may choose. Every key is here; an unknown one is an error.

Settings are read when a repository is opened. Meaning of each key: docs/settings.md.
"""

from __future__ import annotations

import os
import tomllib
from typing import Annotated, Literal

import msgspec

from vsnapfs.core.errors import NotFoundError, UsageError
from vsnapfs.core.model import DataMode
from vsnapfs.core.rights import RIGHTS, Right
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import format_size, parse_duration, parse_size
from vsnapfs.policy.archiving import ArchivePolicy, check_policies
from vsnapfs.policy.events import EventsSettings
from vsnapfs.policy.media import MediumSettings, check_media
from vsnapfs.policy.profiles import Profile, check_names
from vsnapfs.policy.retention import RetentionSettings
from vsnapfs.policy.schedule import Schedule, check_schedules
from vsnapfs.policy.verification import Verification, check_verifications
from vsnapfs.repository import mistakes
from vsnapfs.repository.layout import SETTINGS, Layout

SEGMENT_BYTES_MIN = 64 << 10
SEGMENT_BYTES_MAX = 16 << 30
FILE_BYTES_MAX = 1 << 20
RESERVE_BYTES_MAX = 64 << 20
"""Of ``reserve = "auto"``: this, or 1 % of a smaller disk."""
GROUP = "@"
"""Before the name of a group, where users could be meant."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[journal]``."""

    segment_size: str = "64M"
    ack: Literal["both", "journal"] = "both"
    on_journal_failure: Literal["available", "strict"] = "available"
    reserve: str = "auto"

    def __post_init__(self) -> None:
        if not SEGMENT_BYTES_MIN <= self.segment_bytes <= SEGMENT_BYTES_MAX:
            bounds = f"{format_size(SEGMENT_BYTES_MIN)} to {format_size(SEGMENT_BYTES_MAX)}"
            raise ValueError(f"segment_size: {self.segment_size} is not in {bounds}")
        self.reserve_bytes(0)

    def reserve_bytes(self, disk_bytes: int) -> int:
        """What is kept free of a disk of that size. Raises: ValueError: no size."""
        if self.reserve == "auto":
            return min(RESERVE_BYTES_MAX, disk_bytes // 100)
        try:
            return parse_size(self.reserve)
        except UsageError as error:
            raise ValueError(f"reserve: {error}") from error

    @property
    def segment_bytes(self) -> int:
        """Raises: ValueError: no size; what a decoder turns into its own error."""
        try:
            return parse_size(self.segment_size)
        except UsageError as error:
            raise ValueError(f"segment_size: {error}") from error


class MountSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[mount]``."""

    allow_other: bool = False
    uid: Id | None = None
    gid: Id | None = None
    transport: Literal["auto", "device", "io_uring"] = "auto"
    data: DataMode = "verify"
    kernel_verify: bool = True
    scratch: str = "/var/tmp"
    points: dict[str, DataMode] = {}
    """``[mount.points]``: patterns of bookmarks' names, as the shell has them."""

    def __post_init__(self) -> None:
        if not os.path.isabs(self.scratch):
            raise ValueError(f"scratch: {self.scratch!r} is not an absolute path")


class ControlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[control]``: who else may ask the server, and for what. A user is a name or a number, a group has ``@`` before it."""

    socket: str | None = None
    read: tuple[str, ...] = ()
    bookmark: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.socket is not None and (not os.path.isabs(self.socket) or self.socket.endswith("/")):
            raise ValueError(f"socket: {self.socket!r} is not the absolute path of a socket")
        for right in RIGHTS:
            for who in self.those_with(right):
                if not who.removeprefix(GROUP):
                    raise ValueError(f"{right}: {who!r} is neither a user nor a group")
                if self.socket is None:
                    raise ValueError(f"{right}: {who} cannot get at the socket in the repository; give `socket` too")

    def those_with(self, right: Right) -> tuple[str, ...]:
        who: tuple[str, ...] = getattr(self, right)
        return who


class CheckSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[check]``."""

    scrub: str = "30d"
    anchor_key: str = ""

    def __post_init__(self) -> None:
        if self.scrub_s == 0:
            raise ValueError(f'scrub: {self.scrub} is no time; "off" is for none')
        if self.anchor_key and not os.path.isabs(self.anchor_key):
            raise ValueError(f"anchor_key: {self.anchor_key!r} is not an absolute path")

    @property
    def scrub_s(self) -> float | None:
        """How long a pass takes; None: there is none. Raises: ValueError: no duration."""
        if self.scrub == "off":
            return None
        try:
            return parse_duration(self.scrub) / NS_PER_S
        except UsageError as error:
            raise ValueError(f"scrub: {error}") from error


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    journal: JournalSettings = JournalSettings()
    mount: MountSettings = MountSettings()
    check: CheckSettings = CheckSettings()
    control: ControlSettings = ControlSettings()
    retention: RetentionSettings = RetentionSettings()
    events: EventsSettings = EventsSettings()
    quiesce: dict[str, Profile] = {}
    """``[quiesce.NAME]``: who can be made still for a bookmark."""
    schedule: dict[str, Schedule] = {}
    """``[schedule.NAME]``: bookmarks that a server makes by itself."""
    verify: dict[str, Verification] = {}
    """``[verify.NAME]``: how it is proved that points can be restored."""
    media: dict[str, MediumSettings] = {}
    """``[media.NAME]``: where tapes come from."""
    archive: dict[str, ArchivePolicy] = {}
    """``[archive.NAME]``: which bookmarks go onto which medium by themselves."""

    def __post_init__(self) -> None:
        check_names(self.quiesce)
        check_schedules(self.schedule, self.quiesce)
        check_verifications(self.verify)
        check_media(self.media)
        check_policies(self.archive, self.media)


DEFAULT_TEXT = """\
# Settings of this repository. A key that is commented out shows its default. Read at the next start.

[journal]
# segment_size = "64M"    # a file of the journal is sealed when it has grown past this
# ack = "both"            # an fsync returns when journal and primary have the data; "journal": when the journal has it
# on_journal_failure = "available"  # writes go on without a journal that fails or is full, in a gap; "strict": they fail
# reserve = "auto"        # with less than this free the disk counts as full; "auto": 64M, or 1 % of a smaller disk

[mount]
# allow_other = false     # let other users than the one who mounted look into the mount
# uid = 0                 # owner of everything shown; default: the user of the server
# gid = 0
# transport = "auto"      # how requests come from the kernel: "device", "io_uring", or the faster one that it offers
# data = "verify"         # who reads points: "verify": vsnapfs, comparing every block; "kernel", "auto": docs/tree.md
# kernel_verify = true    # the kernel's files are compared when they are opened
# scratch = "/var/tmp"    # where a reader may make temporary files for the kernel; on a disk

[check]
# scrub = "30d"           # the server reads and compares everything once in this time; "off": never
# anchor_key = ""         # file of a key, outside of the repository: anchors carry a MAC made with it

[mount.points]
# "nightly-*" = "kernel"  # the same for bookmarks by name; the first pattern that fits counts

[control]
# socket = "/run/vsnapfs/NAME.sock"  # a second control socket, for those whom the next lines name; default: none
# read = []               # who may look: users by name or number, groups as "@backup"; docs/security.md
# bookmark = []           # who may make and hold bookmarks
# delete = []             # who may remove and release them
# admin = []              # who may change volumes, import and repair

[retention]
# protection_window = ""  # so far back any instant stays, such as "7d", and before it only bookmarks; "": every instant
# keep_last = 0           # bookmarks that stay after that: the newest so many; if no keep_ is said, all of them
# keep_within = ""        # those of so long before the newest record
# keep_hourly = 0         # the newest of each of the last so many hours that have one
# keep_daily = 0          # ... days
# keep_weekly = 0         # ... weeks
# keep_monthly = 0        # ... months
# keep_yearly = 0         # ... years
# minimum_age = ""        # no bookmark goes that was made less than this ago
# maximum_size = ""       # of journal and bases: the oldest bookmarks go until they fit, whatever the rules say
# timezone = "UTC"        # where days, weeks, months and years begin
# prune = "auto"          # how often a server prunes: "auto": "1h" where a rule or a size is given; "off": never

# [retention.names."nightly-*"]  # the same keep_ keys for bookmarks by name; the first pattern that fits counts
# keep_daily = 30

[events]
# command = []            # run for each event, which it gets as JSON: ["/usr/local/sbin/tell", "--mail"]; docs/events.md
# kinds = []              # for these kinds alone, such as ["bookmark_failed", "gap_begun"]; none: for all
# timeout = "30s"         # it is killed then

# [quiesce.NAME]          # a profile: who is made still for `bookmark add --quiesce NAME`, in this order; docs/quiesce.md
# deadline = "10s"        # nobody is still for longer
# fallback = "none"       # "crash": when one cannot be made still, a bookmark as after a crash, instead of none
# [[quiesce.NAME.members]]
# kind = "fsfreeze"       # a mounted filesystem
# name = "data"
# mountpoint = "/srv/data"
# [[quiesce.NAME.members]]
# kind = "command"        # anything else: programs that make it still and let it go
# name = "app"
# prepare = []
# freeze = ["/usr/local/bin/app", "pause"]
# thaw = ["/usr/local/bin/app", "resume"]
# consistency = "application"

# [schedule.NAME]          # bookmarks that the server makes by itself; docs/settings.md
# every = "15min"         # or cron = "0 2 * * *"
# timezone = "local"      # of cron, such as "Europe/Berlin"
# jitter = "0s"           # each is made so much later at most
# quiesce = ""            # the profile whose members are made still
# bookmark = "{schedule}-{time}"
# app = ""
# note = ""
# catch_up = true         # one is made for those that were missed

# [verify.NAME]            # proof that points can be restored, by `verify --profile NAME` and by itself; docs/verify.md
# every = "1d"            # or cron = "0 4 * * *"; neither: only when asked
# timezone = "local"      # of cron
# jitter = "0s"           # each begins so much later at most
# catch_up = true         # one run for those that were missed
# bookmarks = "newest"    # or "each" that was made since the last one that this has verified
# names = "*"             # bookmarks of such names alone
# volumes = []            # of these alone; none: of all
# mount = true            # its filesystem can be mounted
# check = true            # ... and is sound
# command = []            # and this program, which gets the places, succeeds
# timeout = "10min"       # of the command, and of each check
# quota = ""              # so much may be written meanwhile; "": as there is room

# [media.NAME]             # where tapes come from, for `archive --to NAME`; docs/tape.md
# kind = "pool"           # or "drive", "command"
# path = "/srv/tapes"     # of a pool: a directory, in which each tape is one
# capacity = "100G"       # of each of its tapes
# tapes = 0               # so many at most; 0: as the disk has room
# labels = "T%05d"        # of new tapes
# block = "256K"          # what is written at once
# piece = "1G"            # about so much is a tape file
# buffer = "64M"          # read ahead; a drive gets nothing before it is full
# append = true           # false: each archive begins on a tape of its own
# retention = ""          # a retired tape is written over so long after its last archive
# compression = "none"    # or "zstd"
# recipients = []         # public keys of age: it is encrypted to them
# rate = ""               # so much a second at most

# [archive.NAME]           # bookmarks that go onto tape by themselves, and by `archive --due`; docs/archive-policy.md
# bookmarks = "daily-*"   # of such names; or a list: ["daily-*", "release-*"]
# to = "NAME"             # the medium, [media.NAME]
# which = "all"           # or the "first" or "last" one of each period
# per = ""                # that period: "hour", "day", "week", "month", "year"
# nth = 1                 # of all, one in so many
# within = ""             # only points of so long ago, such as "30d"
# volumes = []            # of these alone; none: of all
# full = "always"         # the others incremental: "once", the first of each "week", …, or a number: each n-th
# cron = ""               # when a server begins, such as "0 22 * * *"; "": as soon as there is something
# timezone = "local"      # of cron
# protect = ""            # so long retention leaves one that is not archived yet, such as "14d"
# verify = false          # each is read back
# compress = false        # by zstd
# rate = ""               # so much a second at most; "": as the medium says
"""


def load(layout: Layout) -> Settings:
    """Read the file; without one, the defaults. Raises: UsageError: with file, line and the nearest key."""
    return parse(read(layout), str(layout.absolute(SETTINGS)))


def read(layout: Layout) -> bytes:
    """The file; nothing where there is none. Raises: StoreError."""
    try:
        return layout.read(SETTINGS, FILE_BYTES_MAX)
    except NotFoundError:
        return b""


def parse(content: bytes, source: str) -> Settings:
    """The settings in TOML. source: names them in errors. Raises: UsageError."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8 at byte {error.start}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise mistakes.no_toml(source, error) from error
    except RecursionError as error:
        raise UsageError(f"{source}: nested too deeply") from error
    except ValueError as error:  # of int, which the parser does not catch
        raise UsageError(f"{source}: a number of too many digits") from error
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise mistakes.error(source, text, document, Settings, str(error)) from error
