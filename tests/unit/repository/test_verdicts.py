"""Verdicts on points: kept in the journal, shown with bookmarks, gone with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.volumes import mark, put
from vsnapfs.core.errors import NameTooLongError, PointGoneError, ReadOnlyError, UsageError
from vsnapfs.repository import verdicts
from vsnapfs.repository.repository import Repository

SETTINGS = '[verify.shop]\nevery = "1d"\n[verify.files]\n'


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.volume_add("db0", size_bytes=64 << 10)
    mark(repository, "db0", 0, b"x" * 512, "a")
    return repository


def give(
    repository: Repository, point: str, *, good: bool = True, profile: str = "shop", reason: str = ""
) -> list[str]:
    seqno = repository.resolve(point).seqno
    given = repository.verdict_give(
        seqno, good=good, profile=profile, took_s=2.5, volumes=("db0",), proved=("mounted", "command"), reason=reason
    )
    return [bookmark.name for bookmark in given]


def test_it_says_what_it_was_told(repository: Repository) -> None:
    assert give(repository, "a") == ["a"]
    (verdict,) = repository.bookmark("a").verdicts
    assert (verdict.profile, verdict.good, verdict.took_s) == ("shop", True, 2.5)
    assert (verdict.volumes, verdict.proved, verdict.reason) == (("db0",), ("mounted", "command"), "")
    assert verdict.time > repository.bookmark("a").time
    assert repository.bookmark("a").is_good is True


def test_every_bookmark_at_the_point_has_it(repository: Repository) -> None:
    seqno = repository.bookmark("a").seqno
    repository.bookmark_add("again", at=f"@{seqno}")
    put(repository, "db0", 512, b"y" * 512)
    repository.bookmark_add("b")
    assert give(repository, f"@{seqno}", good=False) == ["a", "again"]
    assert [bookmark.is_good for bookmark in repository.bookmarks()] == [False, False, None]


def test_a_point_without_a_bookmark_has_an_event(repository: Repository) -> None:
    put(repository, "db0", 512, b"y" * 512)
    repository.journal.commit()
    seqno = repository.journal.facts().last_seqno
    assert give(repository, f"@{seqno}", good=False, reason="no table") == []
    (told,) = repository.events(kinds=["verify_failed"])
    assert (told.subject, told.detail["seqno"], told.detail["reason"]) == (f"@{seqno}", seqno, "no table")
    assert repository.bookmark("a").verdicts == ()


def test_it_is_told(repository: Repository) -> None:
    give(repository, "a")
    (told,) = repository.events(kinds=["verified"])
    assert (told.subject, told.severity) == ("a", "info")
    assert told.detail == {
        "seqno": repository.bookmark("a").seqno,
        "profile": "shop",
        "volumes": ["db0"],
        "proved": ["mounted", "command"],
        "took_s": 2.5,
    }


def test_it_outlives_the_catalog_and_the_server(repository: Repository, path: Path) -> None:
    give(repository, "a")
    kept = repository.bookmark("a").verdicts
    with Repository.open(path, owner=False) as reader:
        assert reader.bookmark("a").verdicts == kept
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.bookmark("a").verdicts == kept
    (path / "catalog.db").unlink()
    with Repository.open(path, owner=True) as again:
        assert again.bookmark("a").verdicts == kept
        again.bookmark_remove("a")
        again.bookmark_add("a")
        assert again.bookmark("a").verdicts == (), "that is another one"


def test_the_manifest_has_it(repository: Repository) -> None:
    before = repository.manifest(repository.resolve("a"))
    assert list(before["bookmark"]["verdicts"]) == []
    give(repository, "a", good=False, reason="no table")
    (verdict,) = repository.manifest(repository.resolve("a"))["bookmark"]["verdicts"]
    assert (verdict["good"], verdict["reason"]) == (False, "no table")


def test_status(path: Path) -> None:
    (path / "vsnapfs.toml").write_text(SETTINGS)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db0", size_bytes=64 << 10)
        for name in ("a", "b"):
            mark(repository, "db0", 0, name.encode() * 512, name)
        files, shop = repository.status().verifications
        assert (files.name, files.when, files.last_bookmark) == ("files", "when asked", None)
        assert (shop.name, shop.when, shop.last_good) == ("shop", "every 1d", None)
        give(repository, "b", good=False, reason="no table")
        give(repository, "a", profile="gone")
        status = repository.status()
        files, shop = status.verifications
        assert (files.last_good, shop.last_bookmark, shop.last_good) == (None, "b", False)
        assert [problem for problem in status.problems if "verification shop: no table" in problem]
        assert not status.protected
        give(repository, "a")
        assert repository.status().verifications[1].last_bookmark == "a"
        assert repository.status().protected


def test_when_a_profile_was_run_last(path: Path) -> None:
    (path / "vsnapfs.toml").write_text(SETTINGS)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db0", size_bytes=64 << 10)
        mark(repository, "db0", 0, b"x" * 512, "a")
        assert repository.verifications_handled_ns() == {}
        give(repository, "a", profile="shop")
        repository.tell("verify_failed", "a", profile="files", reason="no loop device")
        repository.tell("verify_missed", "shop")
        given, failed, missed = repository.events(kinds=sorted(verdicts.OF_RUNS))
        assert given.time_ns <= failed.time_ns <= missed.time_ns
        assert repository.verifications_handled_ns() == {"shop": missed.time_ns, "files": failed.time_ns}


def test_texts_of_others_are_tamed(repository: Repository) -> None:
    give(repository, "a", good=False, reason="\x1b[2J\n" + "x" * 1000)
    (verdict,) = repository.bookmark("a").verdicts
    assert verdict.reason.startswith(" [2J x")
    assert len(verdict.reason) == verdicts.REASON_LENGTH_MAX


def test_names_that_cannot_be(repository: Repository) -> None:
    seqno = repository.bookmark("a").seqno
    with pytest.raises(UsageError):
        repository.verdict_give(seqno, good=True, profile="a b")
    with pytest.raises(NameTooLongError):
        repository.verdict_give(seqno, good=True, profile="a" * 128)
    with pytest.raises(UsageError):
        repository.verdict_give(seqno, good=True, volumes=("../etc",))
    with pytest.raises(UsageError, match="64 volumes at most"):
        repository.verdict_give(seqno, good=True, volumes=tuple(f"v{number}" for number in range(65)))
    longest = tuple(f"{number:03}" + "v" * 124 for number in range(64))
    repository.verdict_give(seqno, good=False, profile="p" * 127, volumes=longest, reason="\u20ac" * 1000)
    assert repository.bookmark("a").verdicts[0].volumes == longest


def test_points_that_are_not_there(repository: Repository) -> None:
    with pytest.raises(PointGoneError):
        repository.verdict_give(9999, good=True)


def test_a_reader_gives_none(repository: Repository, path: Path) -> None:
    with Repository.open(path, owner=False) as reader, pytest.raises(ReadOnlyError):
        give(reader, "a")
