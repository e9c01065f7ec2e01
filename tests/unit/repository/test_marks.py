"""Marks: moments that get their name afterwards, or never."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.volumes import put
from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, ReadOnlyError, StoreError, UsageError
from vsnapfs.core.model import Consistency, MemberOutcome
from vsnapfs.repository.bookmarks import describe
from vsnapfs.repository.marks import Mark, weakest
from vsnapfs.repository.repository import Repository

PROFILE = '[[quiesce.nightly.members]]\nkind = "fsfreeze"\nname = "d"\nmountpoint = "/d"\n'


def member(name: str, consistency: Consistency, error: str = "") -> MemberOutcome:
    return MemberOutcome(name=name, kind="command", outcome="frozen", consistency=consistency, error=error)


MEMBERS = (member("a", "application"), member("b", "filesystem", "a thaw failed"))


def body(name: str, note: str = "") -> BookmarkAdded:
    return msgspec.structs.replace(describe(name, "filesystem", "", note), profile="nightly", members=MEMBERS)


def test_a_mark_is_no_bookmark(repository: Repository) -> None:
    repository.marks.mark("a")
    repository.journal.commit()
    repository.refresh()
    assert repository.bookmarks() == []
    with pytest.raises(NotFoundError):
        repository.resolve("a")


def test_a_name_is_of_the_moment_of_its_mark(repository: Repository, path: Path) -> None:
    repository.volume_add("db0", size_bytes=1 << 20)
    put(repository, "db0", 0, b"before")
    mark = repository.marks.mark("a")
    put(repository, "db0", 0, b"behind")
    made = repository.marks.name(mark, body("a"))
    assert (made.seqno, made.consistency, made.profile, made.members) == (mark.seqno, "filesystem", "nightly", MEMBERS)
    assert made.created_seqno > made.seqno
    assert not made.is_whole
    with repository.view("db0", repository.resolve("a")) as view:
        assert view.read(0, 6) == b"before"
    with Repository.open(path, owner=False) as reader:
        assert reader.bookmark("a") == made
        assert reader.manifest(reader.resolve("a"))["bookmark"]["profile"] == "nightly"


def test_it_is_the_same_after_the_catalog_was_kept(repository: Repository, path: Path) -> None:
    made = repository.marks.name(repository.marks.mark("a"), body("a"))
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.bookmark("a") == made
        assert again.check().damages == []


def test_a_mark_that_nobody_named_is_nothing_after_a_restart(repository: Repository, path: Path) -> None:
    repository.marks.mark("a")
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.bookmarks() == []
        assert again.check().damages == []
        again.bookmark_add("a")


@pytest.mark.parametrize("strange", [Mark(1, b"{}"), Mark(99, b"{}")])
def test_a_mark_that_the_journal_has_lost_gets_no_name(repository: Repository, strange: Mark) -> None:
    repository.marks.mark("a")
    with pytest.raises(StoreError, match="the journal has lost the moment that was to be named 'a'"):
        repository.marks.name(strange, body("a"))
    assert repository.bookmarks() == []


def test_a_name_may_be_taken_before_or_meanwhile(repository: Repository) -> None:
    repository.marks.require_possible(body("a"))
    mark = repository.marks.mark("a")
    repository.bookmark_add("a")
    with pytest.raises(NameTakenError):
        repository.marks.require_possible(body("a"))
    with pytest.raises(NameTakenError):
        repository.marks.name(mark, body("a"))


def test_there_must_be_room_for_the_members(repository: Repository) -> None:
    repository.marks.require_possible(msgspec.structs.replace(body("a", "x" * 4096), members=()))
    with pytest.raises(UsageError, match="too long beside the members"):
        repository.marks.require_possible(msgspec.structs.replace(body("a", "\U0001f4be" * 4096), members=()))


def test_one_quiesce_at_a_time(repository: Repository) -> None:
    assert repository.status().quiesce is None
    with repository.marks.under_way("nightly", "a", 5):
        repository.marks.say_phase("frozen")
        under_way = repository.status().quiesce
        assert under_way is not None
        assert (under_way.profile, under_way.bookmark, under_way.phase, under_way.deadline_s) == (
            "nightly",
            "a",
            "frozen",
            5,
        )
        with pytest.raises(BusyError, match="'nightly' is under way"), repository.marks.under_way("x", "b", 5):
            raise AssertionError
    assert repository.status().quiesce is None
    with repository.marks.under_way("nightly", "a", 5):
        """Again."""


def test_a_reader_marks_nothing(repository: Repository, path: Path) -> None:
    with Repository.open(path, owner=False) as reader, pytest.raises(ReadOnlyError):
        reader.marks.require_possible(body("a"))


def test_a_profile_by_name(path: Path) -> None:
    (path / "vsnapfs.toml").write_text(PROFILE)
    with Repository.open(path, owner=False) as reader:
        assert reader.marks.profile("nightly").deadline_s == 10
        with pytest.raises(NotFoundError, match=r"no profile 'nihgtly' in .*vsnapfs.toml; did you mean nightly"):
            reader.marks.profile("nihgtly")


@pytest.mark.parametrize(
    ("members", "whole"),
    [
        (("application", "application"), "application"),
        (("application", "filesystem"), "filesystem"),
        (("crash", "filesystem"), "crash"),
        (("filesystem",), "filesystem"),
    ],
)
def test_a_bookmark_is_as_consistent_as_its_weakest_member(members: tuple[Consistency, ...], whole: str) -> None:
    assert weakest([member(str(number), found) for number, found in enumerate(members)]) == whole
