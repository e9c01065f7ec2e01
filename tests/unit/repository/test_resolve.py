"""Every form of a point, and both ends of the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.volumes import put
from vsnapfs.core.errors import NotFoundError, PointGoneError, UsageError
from vsnapfs.core.times import iso
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.resolve import resolve


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.volume_add("db0", size_bytes=65536)
    for number in range(10):
        put(repository, "db0", 512 * number, b"x" * 512)
    repository.journal.commit()
    return repository


def test_a_seqno(repository: Repository) -> None:
    point = repository.resolve("@7")
    assert (point.seqno, point.time_ns, point.bookmark) == (7, repository.journal.time_of(7), None)
    assert point.time == iso(point.time_ns)


def test_a_bookmark(repository: Repository) -> None:
    made = repository.bookmark_add("a", at="@4")
    point = repository.resolve("a")
    assert (point.seqno, point.time_ns, point.bookmark) == (4, made.time_ns, "a")


def test_latest_is_the_bookmark_of_the_newest_point(repository: Repository) -> None:
    with pytest.raises(NotFoundError, match="no bookmark yet"):
        repository.resolve("latest")
    repository.bookmark_add("now")
    repository.bookmark_add("past", at="@4")
    assert repository.resolve("latest").bookmark == "now"
    assert repository.resolve("-0s").bookmark is None
    assert repository.resolve("-0s").seqno > repository.resolve("latest").seqno


def test_a_time_is_the_last_record_up_to_it(repository: Repository) -> None:
    for seqno in (1, 5, 11):
        time_ns = repository.journal.time_of(seqno)
        assert repository.resolve(iso(time_ns)).seqno == seqno
        if seqno > 1:
            assert repository.resolve(iso(time_ns - 1)).seqno == seqno - 1
    assert repository.resolve("2500-01-01T00:00:00Z").seqno == 11


def test_ago_is_a_time(repository: Repository) -> None:
    now_ns = repository.journal.time_of(5) + 60 * 10**9
    assert resolve(repository._parts, "-1min", now_ns).seqno == 5
    assert resolve(repository._parts, "-60s", now_ns - 1).seqno == 4
    assert repository.resolve("-0s").seqno == 11
    with pytest.raises(PointGoneError):
        repository.resolve("-100w")


def test_the_ends_of_the_window(repository: Repository) -> None:
    first, last = repository.resolve("@1"), repository.resolve("@11")
    for text in ("@0", "@12", "@9223372036854775807", iso(first.time_ns - 1)):
        with pytest.raises(PointGoneError) as caught:
            repository.resolve(text)
        said = str(caught.value)
        assert caught.value.exit_status == 3
        assert f"{first.time} (@1)" in said
        assert f"{last.time} (@11)" in said


def test_what_is_not_committed_is_no_point_yet(repository: Repository) -> None:
    put(repository, "db0", 0, b"pending")
    with pytest.raises(PointGoneError):
        repository.resolve("@12")
    assert repository.resolve("-0s").seqno == 11
    repository.journal.commit()
    assert repository.resolve("-0s").seqno == 12


def test_an_empty_journal_has_no_point(memory_path: Path) -> None:
    Repository.create(memory_path / "r")
    with Repository.open(memory_path / "r", owner=True) as repository:
        for text in ("@0", "@1", "-0s", "2500-01-01"):
            with pytest.raises(PointGoneError, match="nothing was written"):
                repository.resolve(text)
        status = repository.status()
        assert (status.window_first, status.window_last) == (None, None)


def test_no_point_at_all(repository: Repository) -> None:
    for text in ("", "@", "@x", "a b", "-", "2026-13-01", "../x"):
        with pytest.raises(UsageError):
            repository.resolve(text)
