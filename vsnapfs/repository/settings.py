"""``vsnapfs.toml``: what people may choose. Every key is here; an unknown one is an error.

Settings are read when a repository is opened. Meaning of each key: docs/settings.md.
"""

from __future__ import annotations

import os
import re
import tomllib
from typing import Annotated, Literal

import msgspec

from vsnapfs.core.errors import UsageError, from_os_error
from vsnapfs.core.model import DataMode
from vsnapfs.core.names import near
from vsnapfs.core.units import format_size, parse_size
from vsnapfs.repository.layout import SETTINGS, Layout

SEGMENT_BYTES_MIN = 64 << 10
SEGMENT_BYTES_MAX = 16 << 30
FILE_BYTES_MAX = 1 << 20

Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[journal]``."""

    segment_size: str = "64M"
    ack: Literal["both", "journal"] = "both"

    def __post_init__(self) -> None:
        if not SEGMENT_BYTES_MIN <= self.segment_bytes <= SEGMENT_BYTES_MAX:
            bounds = f"{format_size(SEGMENT_BYTES_MIN)} to {format_size(SEGMENT_BYTES_MAX)}"
            raise ValueError(f"segment_size: {self.segment_size} is not in {bounds}")

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


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    journal: JournalSettings = JournalSettings()
    mount: MountSettings = MountSettings()


DEFAULT_TEXT = """\
# Settings of this repository. A key that is commented out shows its default. Read at the next start.

[journal]
# segment_size = "64M"    # a file of the journal is sealed when it has grown past this
# ack = "both"            # an fsync returns when journal and primary have the data; "journal": when the journal has it

[mount]
# allow_other = false     # let other users than the one who mounted look into the mount
# uid = 0                 # owner of everything shown; default: the user of the server
# gid = 0
# transport = "auto"      # how requests come from the kernel: "device", "io_uring", or the faster one that it offers
# data = "verify"         # who reads points: "verify": vsnapfs, comparing every block; "kernel", "auto": docs/tree.md
# kernel_verify = true    # the kernel's files are compared when they are opened
# scratch = "/var/tmp"    # where a reader may make temporary files for the kernel; on a disk

[mount.points]
# "nightly-*" = "kernel"  # the same for bookmarks by name; the first pattern that fits counts
"""


def load(layout: Layout) -> Settings:
    """Read the file; without one, the defaults. Raises: UsageError: with file, line and the nearest key."""
    if not layout.exists(SETTINGS):
        return Settings()
    fd = layout.open(SETTINGS, os.O_RDONLY)
    try:
        content = os.read(fd, FILE_BYTES_MAX)
    except OSError as error:
        raise from_os_error(error, f"read {layout.absolute(SETTINGS)}") from error
    finally:
        os.close(fd)
    return parse(content, str(layout.absolute(SETTINGS)))


def parse(content: bytes, source: str) -> Settings:
    """The settings in TOML. source: names them in errors. Raises: UsageError."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8 at byte {error.start}") from error
    try:
        return msgspec.convert(tomllib.loads(text), Settings)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{source}: nested too deeply") from error
    except msgspec.ValidationError as error:
        raise _error(source, text, str(error)) from error


_KEYS = {
    "": Settings.__struct_fields__,
    "journal": JournalSettings.__struct_fields__,
    "mount": MountSettings.__struct_fields__,
    "mount.points": (),
}
_HEADING = re.compile(r"\s*\[\s*\"?(?P<name>[^\"\]]*?)\"?\s*\]")
_ASSIGNMENT = re.compile(r"\s*\"?(?P<name>[^\"=]*?)\"?\s*=")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")
ANY_KEY = "[...]"
_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")


def _error(source: str, text: str, message: str) -> UsageError:
    """One line out of the decoder's message: where, what, and for an unknown key the nearest known one."""
    at = _PATH.search(message)
    section, _, key = at["path"].strip(".").partition(".") if at else ("", "", "")
    if key.endswith(ANY_KEY):  # of a table whose keys are the user's own: the decoder does not say which
        section, key = f"{section}.{key.removesuffix(ANY_KEY)}", ""
    what = _PATH.sub("", message)
    unknown = _UNKNOWN.search(message)
    if unknown:
        key = unknown["key"]
        what = _unknown(section, key)
    elif not key and what.split(":")[0] in _KEYS[section]:
        key, what = what.split(": ", 1)  # from a __post_init__, which knows the key that the path does not
    line = _line_of(text, section, key)
    place = f"{source} line {line}" if line else source
    subject = "" if unknown else f"{'.'.join(filter(None, (section, key)))}: "
    return UsageError(f"{place}: {subject}{what}")


def _unknown(section: str, key: str) -> str:
    known = _KEYS[section]
    meant = near(key, known)
    advice = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(known)}"
    return f"unknown {f'key {key!r} in [{section}]' if section else f'section or key {key!r}'}; {advice}"


def _line_of(text: str, section: str, key: str) -> int | None:
    """Line of a key, else of its section; None when the text writes it in a way that this does not know."""
    inside, heading = "", None
    dotted = f"{section}.{key}".strip(".")
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADING.match(line)
        if found:
            inside = found["name"]
            heading = number if inside == (section or key) else heading
            continue
        found = _ASSIGNMENT.match(line)
        if found and f"{inside}.{found['name']}".strip(".") == dotted:
            return number
    return heading
