"""``repository.json``: that a directory is a repository, which one, and in what format.

Source: native/FORMAT.md section 1.
"""

from __future__ import annotations

import os
import threading
import uuid as uuids
from pathlib import Path

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, NotFoundError, StoreError, UsageError, from_os_error
from vsnapfs.repository.layout import DIRECTORY_MODE, IDENTITY, Layout

FORMAT = 1
GAPS = "gaps"
"""The journal tells of gaps: who does not know them would show points that nobody can know."""

COMPACTION = "compaction"
"""Points may be gone: the journal tells of a floor, bases may have been moved, segments compacted."""

BRANCHES = "branches"
"""There may be branches: who does not know them would drop the points that they stand on."""

FEATURES = frozenset({BRANCHES, COMPACTION, GAPS})
"""Features that this program knows; a repository with any other is refused."""
FILE_BYTES_MAX = 65536
EMPTY_ENOUGH = frozenset({"lost+found"})
"""What a directory may hold and still count as empty: a fresh ext4 is not."""

_adding = threading.Lock()


class _Identity(msgspec.Struct):
    """The file's members; others are ignored."""

    format: int
    features: list[str]
    uuid: str


def find(path: Path) -> Layout:
    """Open the directory of an existing repository.

    Raises: NotFoundError: nothing there, or an empty directory. FormatUnknownError: something else, or not ours.
    """
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", hint="`vsnapfs init` makes a repository")
    if not path.is_dir():
        raise FormatUnknownError(
            f"{path} is not a repository", hint="a repository is a directory that `vsnapfs init` made"
        )
    layout = Layout(path)
    if not layout.exists(IDENTITY):
        held = sorted(set(os.listdir(path)) - EMPTY_ENOUGH)
        layout.close()
        if held:
            raise FormatUnknownError(f"{path} is not a repository, it holds {held[0]} and no {IDENTITY}")
        raise NotFoundError(f"{path} holds no repository", hint="`vsnapfs init` makes one in an empty directory")
    return layout


def read(layout: Layout) -> uuids.UUID:
    """Which repository this is. Raises: FormatUnknownError: not ours, or made by a newer version."""
    found = _decode(layout)
    if found.format > FORMAT:
        raise _newer(layout, f"format {found.format}, this program knows {FORMAT}")
    unknown = sorted(set(found.features) - FEATURES)
    if unknown:
        raise _newer(layout, f"features {', '.join(unknown)}, unknown to this program")
    try:
        return uuids.UUID(found.uuid)
    except ValueError as error:
        raise _not_ours(layout, f"{found.uuid!r} is no uuid") from error


def write(layout: Layout, uuid: uuids.UUID) -> None:
    """Make the directory a repository: the last step of making one."""
    _write(layout, _Identity(FORMAT, [], str(uuid)))


def add_feature(layout: Layout, feature: str) -> None:
    """From now on the repository has this feature. In any thread of the owner. Raises: NoSpaceError, StoreError."""
    with _adding:
        found = _decode(layout)
        if feature not in found.features:
            _write(layout, msgspec.structs.replace(found, features=sorted({*found.features, feature})))


def _write(layout: Layout, identity: _Identity) -> None:
    layout.write(IDENTITY, msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n")


def prepare(path: Path) -> Layout:
    """Make the directory of a new repository, or take an empty one, and close it to others.

    Raises: UsageError: it is not empty, or no directory. NotFoundError: its parent is missing.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        found = sorted(set(os.listdir(path)) - EMPTY_ENOUGH)
        if not found:
            path.chmod(DIRECTORY_MODE)
    except FileExistsError as error:
        raise UsageError(f"{path} is not a directory", hint="give one that is empty or does not exist") from error
    except OSError as error:
        raise from_os_error(error, f"make {path}") from error
    if found:
        hint = "give a directory that is empty or does not exist"
        raise UsageError(f"{path} is not empty, it holds {found[0]}", hint=hint)
    return Layout(path)


def _decode(layout: Layout) -> _Identity:
    fd = layout.open(IDENTITY, os.O_RDONLY)
    try:
        content = os.read(fd, FILE_BYTES_MAX)
    except OSError as error:
        raise StoreError(f"cannot read {layout.absolute(IDENTITY)}: {error.strerror}") from error
    finally:
        os.close(fd)
    try:
        return from_json(content, _Identity)
    except msgspec.DecodeError as error:
        raise _not_ours(layout, str(error)) from error


def _newer(layout: Layout, what: str) -> FormatUnknownError:
    return FormatUnknownError(f"{layout.path} has {what}", hint="use a newer vsnapfs")


def _not_ours(layout: Layout, why: str) -> FormatUnknownError:
    return FormatUnknownError(f"{layout.absolute(IDENTITY)} is not that of a repository: {why}")
