"""A journal from elsewhere: its events are bytes that anybody may have written, with good checksums.

What breaks the rules is an integrity problem that names the event, for an owner and for a reader; it never becomes a name
of the tree or a path.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.binding import RecordKind
from vsnapfs.core.errors import IntegrityError
from vsnapfs.repository.repository import Repository

BAD_NAMES = ["../x", "..", ".", "a/b", "/etc/passwd", "", "a\0b", "a\nb", "n" * 300, "-rf", " x", "ä", "\x1b[2J"]
BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "no name": b"{}",
    "a number for a name": b'{"name": 7}',
    "no UTF-8": b'{"name": "\xff"}',
    "half a surrogate": b'{"name": "\\ud800"}',
    "half a surrogate in a note": b'{"name": "x", "note": "\\ud800"}',
    "nested without end": b'{"name": "x", "y": ' + b"[" * 30_000,
    "nested deeply": b'{"name": "x", "y": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "cut": b'{"name": "x',
}


def forged(path: Path, kind: RecordKind, body: bytes, **numbers: int) -> None:
    """A repository with a volume ``db`` whose journal holds one more event, and no catalog that has seen it."""
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=65536)
    with Repository.open(path, owner=True) as repository:
        repository.journal.event(kind, body=body, **numbers)
        repository.journal.commit()


def assert_refused(path: Path, seqno: int) -> None:
    """By an owner and by a reader, in one line that says which event; nothing else was made anywhere."""
    before = sorted(os.listdir(path.parent))
    for owner in (True, False):
        with pytest.raises(IntegrityError, match=f"event @{seqno} ") as caught:
            Repository.open(path, owner=owner)
        assert caught.value.seqno == seqno
        assert str(caught.value).isprintable()
    assert sorted(os.listdir(path.parent)) == before


def as_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize("name", [*BAD_NAMES, "latest", "2026-01-01T00:00:00Z", "@7"])
def test_a_bookmark_of_a_name_that_cannot_be(path: Path, name: str) -> None:
    forged(path, RecordKind.BOOKMARK_ADD, as_bytes({"name": name}))
    assert_refused(path, 2)


@pytest.mark.parametrize("name", [*BAD_NAMES, "MANIFEST.json"])
def test_a_volume_of_a_name_that_cannot_be(path: Path, name: str) -> None:
    body = {"name": name, "primary": "none", "base": False}
    forged(path, RecordKind.VOLUME_ADD, as_bytes(body), volume=2, a=512, b=65536)
    assert_refused(path, 2)


@pytest.mark.parametrize("kind", [RecordKind.BOOKMARK_REMOVE, RecordKind.BOOKMARK_HOLD])
def test_a_bookmark_that_is_meant_by_a_name_that_cannot_be(path: Path, kind: RecordKind) -> None:
    forged(path, kind, as_bytes({"name": "../x"}), a=1)
    assert_refused(path, 2)


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=list(BAD_BODIES))
def test_a_body_that_is_none(path: Path, body: bytes) -> None:
    forged(path, RecordKind.BOOKMARK_ADD, body)
    assert_refused(path, 2)


@pytest.mark.parametrize("primary", ["journal/1.seg", "", "/srv/a\0b", "x/../../y"])
def test_a_primary_that_is_no_absolute_path(path: Path, primary: str) -> None:
    body = {"name": "x", "primary": {"path": primary}, "base": False}
    forged(path, RecordKind.VOLUME_ADD, as_bytes(body), volume=2, a=512, b=65536)
    assert_refused(path, 2)


def test_a_primary_in_the_repository_is_not_used(path: Path) -> None:
    """A foreign journal could name one of its own files, or another volume's, as a primary."""
    for name in ("vsnapfs.toml", "primary/00000001.img", "journal/00000000000000000001.seg"):
        target = path.parent / name.replace("/", "-")
        Repository.create(target)
        body = {"name": "x", "primary": {"path": str(target / name)}, "base": False}
        forged(target, RecordKind.VOLUME_ADD, as_bytes(body), volume=2, a=512, b=65536)
        with Repository.open(target, owner=True) as repository:
            assert any("lies in the repository" in problem for problem in repository.status().problems)


def test_a_second_volume_of_a_name(path: Path) -> None:
    body = {"name": "db", "primary": "none", "base": False}
    forged(path, RecordKind.VOLUME_ADD, as_bytes(body), volume=2, a=512, b=65536)
    assert_refused(path, 2)


def test_texts_are_kept_as_they_are_and_shown_without_control_characters(path: Path) -> None:
    """A note is no name: it does no harm where it is data."""
    forged(path, RecordKind.BOOKMARK_ADD, as_bytes({"name": "x", "note": "\x1b[2J\0", "application": "\x07"}))
    with Repository.open(path, owner=False) as repository:
        assert repository.bookmark("x").note == "\x1b[2J\0"
