"""JSON from elsewhere: ``repository.json``, bodies of events, bookmarks that are not decided, branches, logs of hunts, and what a
server answers. The first byte says which.

Each is understood, or refused by the one error that belongs to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import atheris
import msgspec

with atheris.instrument_imports(include=["vsnapfs"]):
    from vsnapfs.catalog import bodies
    from vsnapfs.core.errors import FormatUnknownError, IntegrityError, UsageError
    from vsnapfs.core.names import check_name
    from vsnapfs.daemon import wire
    from vsnapfs.hunt import log
    from vsnapfs.hunt.outcome import outcome
    from vsnapfs.repository import branch_files, identity, reservations
    from vsnapfs.repository.layout import Layout

from tests.fuzz.python_target import main, one_line


class OneFile:
    """A directory that holds one file, whatever its name."""

    path = Path("/repository")

    def __init__(self, content: bytes) -> None:
        self._content = content

    def open(self, _: str, __: int) -> int:
        fd = os.memfd_create("one-file")
        os.write(fd, self._content)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def absolute(self, name: str) -> Path:
        return self.path / name


def repository_json(content: bytes) -> None:
    try:
        identity.read(cast("Layout", OneFile(content)))
    except FormatUnknownError as error:
        one_line(error)


def event_body(content: bytes, shape: Any, kind: Any) -> None:
    try:
        found = bodies.decode(content, shape, kind, 7)
    except IntegrityError as error:
        one_line(error)
        which = error.seqno
        assert which == 7
    else:
        assert check_name(found.name, kind) == found.name
        assert bodies.decode(bodies.encode(found), shape, kind, 7) == found


def undecided(content: bytes) -> None:
    try:
        found = reservations.decode_pending(content)
    except (msgspec.DecodeError, UsageError):
        return
    assert check_name(found.name, "bookmark") == found.name
    assert found.first_path.startswith("/")


def branch(content: bytes) -> None:
    try:
        found = branch_files.decode(content)
    except (msgspec.DecodeError, UsageError):
        return
    except FormatUnknownError as error:
        one_line(error)
        return
    assert check_name(found.name, "branch") == found.name
    assert 0 < len(set(found.layers)) == len(found.layers)
    assert all(0 < layer < 1 << 32 for layer in found.layers)
    assert all(volume.size_bytes > 0 and check_name(volume.name, "volume") for volume in found.volumes)
    assert branch_files.decode(branch_files.encode(found)) == found


def answer(content: bytes) -> None:
    try:
        line = wire.read_line(content)
    except msgspec.DecodeError:
        return
    if line.error is not None and line.error.message.strip():
        one_line(wire.error_of(line.error))


def hunt(content: bytes) -> None:
    """A log, and what it tells."""
    try:
        past = log.parse(content, Path("/log"))
    except (FormatUnknownError, IntegrityError) as error:
        one_line(error)
        return
    found = outcome(past, "/log")
    assert len(found.ends) + len(found.probes) == len(past.told) or found.state != "unfinished"
    assert len(past.left) <= len(past.entries)


def run(content: bytes) -> None:
    which, rest = content[:1], content[1:]
    if which == b"r":
        repository_json(rest)
    elif which == b"v":
        event_body(rest, bodies.VolumeAdded, "volume")
    elif which == b"b":
        event_body(rest, bodies.BookmarkAdded, "bookmark")
    elif which == b"u":
        undecided(rest)
    elif which == b"s":
        branch(rest)
    elif which == b"h":
        hunt(rest)
    elif which == b"n":
        event_body(rest, bodies.BookmarkNamed, "bookmark")
    else:
        answer(rest)


WORDS = (
    b'"format"', b'"features"', b'"uuid"', b'"name"', b'"primary"', b'"base"', b'"path"', b'"repository"', b'"none"', b'"consistency"',
    b'"crash"',
    b'"application"', b'"note"', b'"progress"', b'"result"', b'"error"', b'"kind"', b'"exit_status"', b'"message"', b'"fields"', b'"near"',
    b'"hint"', b'"NotFoundError"', b'"UsageError"', b'"BusyError"', b'"volume"', b'"seqno"', b'{"path": "/x"}', b'"db0"',
    b'"source"', b'"parent"', b'"bookmark"', b'"created_ns"', b'"quota_bytes"', b'"report"', b'"volumes"', b'"size_bytes"', b'"layers"',
    b'"federation"', b'"id"', b'"repositories"', b'"first_path"', b'"first_uuid"', b'"since_ns"', b'"time_ns"',
)  # fmt: skip

if __name__ == "__main__":
    main(run, WORDS)
