"""Policies of archives on a real repository: what retention leaves for them, until when, and what is told."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tests.support.pruned import grow, opened, write_some
from vsnapfs.archive import due
from vsnapfs.archive.due import ArchivesDue, DueArchives
from vsnapfs.archive.request import Wanted, to_medium
from vsnapfs.archive.volumes import point_again
from vsnapfs.catalog import tape_file
from vsnapfs.catalog.tapes import Found
from vsnapfs.core.errors import BusyError, NotFoundError, PointGoneError
from vsnapfs.core.state import ArchivingState
from vsnapfs.core.tapes import ArchivedPoint
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import shelf

pytestmark = pytest.mark.unit

RULES = 'protection_window = "1ms"\nkeep_last = 1\n'
"""Of all that are made the last one alone would stay."""


@contextmanager
def served(path: Path, policy: str, rules: str = RULES) -> Iterator[Repository]:
    """With a pool ``vault`` and a policy ``p`` for ``d*`` on it."""
    pool = path.parent / "pool"
    pool.mkdir(exist_ok=True)
    medium = f'[media.vault]\nkind = "pool"\npath = "{pool}"\ncapacity = "100M"\nretention = "1d"\n'
    text = f'{rules}\n{medium}[archive.p]\nbookmarks = "d*"\nto = "vault"\n{policy}\n'
    with opened(path, text) as repository:
        yield repository


def past(repository: Repository, *names: str) -> None:
    """These bookmarks, and something behind them, so that they lie before the window."""
    grow(repository, random.Random(5), names, 30)
    go_on(repository)
    repository.bookmark_add("newest")
    go_on(repository)


def go_on(repository: Repository) -> None:
    """By much more than the window."""
    write_some(repository, random.Random(6), 400)
    repository.journal.commit()


def archive_due(repository: Repository) -> ArchivesDue:
    """In this process, as ``archive --due`` does it."""
    work = DueArchives(repository, (), lambda _: None, time.time_ns, None)
    work.run()
    assert work.answer.failures == []
    return work.answer


def gone(repository: Repository) -> list[str]:
    preview, result = repository.prune_preview(), repository.prune()
    removed = [fate.bookmark for fate in result.bookmarks if not fate.stays]
    assert [fate.bookmark for fate in preview.bookmarks if not fate.stays] == removed
    return removed


def why(repository: Repository, name: str) -> list[str]:
    (fate,) = (fate for fate in repository.prune_preview().bookmarks if fate.bookmark == name)
    return fate.reasons


def state(repository: Repository) -> ArchivingState:
    (found,) = repository.status().archiving
    return found


def given_up(repository: Repository) -> list[tuple[str, Any]]:
    return [
        (event.subject, event.detail["policies"]) for event in repository.events() if event.kind == "archive_given_up"
    ]


def test_what_is_not_archived_stays_until_it_is(path: Path) -> None:
    with served(path, 'protect = "14d"') as repository:
        past(repository, "d1", "other", "d2")
        assert why(repository, "d1") == ["not yet archived (p)"]
        assert gone(repository) == ["other"]
        assert (state(repository).waiting, state(repository).last_bookmark) == (["d1", "d2"], None)
        made = archive_due(repository).archives
        assert [each.archive.point.bookmark for each in made] == ["d1", "d2"]
        assert (state(repository).waiting, state(repository).last_bookmark) == ([], "d2")
        assert gone(repository) == ["d1", "d2"]
        assert archive_due(repository).archives == []
        assert given_up(repository) == []


def test_not_even_for_maximum_size(path: Path) -> None:
    with served(path, 'protect = "14d"', 'protection_window = "1ms"\nmaximum_size = "4K"') as repository:
        past(repository, "d1", "other")
        result = repository.prune()
        told = {fate.bookmark: (fate.stays, fate.reasons) for fate in result.bookmarks}
        assert (told["d1"][0], told["d1"][1][0]) == (True, "not yet archived (p)")
        assert told["other"] == (False, ["maximum size"])
        assert not result.fits
        assert any("maximum_size" in warning for warning in repository.status().warnings), "it is said"
        archive_due(repository)
        assert gone(repository) == ["d1"]


def test_protection_ends(path: Path) -> None:
    with served(path, 'protect = "1ms"') as repository:
        past(repository, "d1", "d2")
        assert state(repository).unprotected == ["d1", "d2"]
        problem = "archive p: not archived, and not kept for it any more: d1, d2"
        assert problem in repository.status().problems
        assert gone(repository) == ["d1", "d2"]
        assert given_up(repository) == [("d1", ["p"]), ("d2", ["p"])]
        assert problem not in repository.status().problems


def test_without_protection_it_goes_and_that_is_told(path: Path) -> None:
    with served(path, "") as repository:
        past(repository, "d1", "d2")
        assert state(repository).unprotected == []
        repository.bookmark_hold("d2")
        assert gone(repository) == ["d1"]
        assert given_up(repository) == [("d1", ["p"])]


def test_what_the_next_one_goes_on_from_stays_for_it(path: Path) -> None:
    with served(path, 'protect = "14d"\nfull = "once"') as repository:
        past(repository, "d1", "d2")
        archive_due(repository)
        assert why(repository, "d2") == ["the next archive goes on from it (p)"]
        assert gone(repository) == ["d1"]
        grow(repository, random.Random(6), ["d3"], 3)
        (third,) = archive_due(repository).archives
        assert (third.archive.kind, third.archive.since and third.archive.since.bookmark) == ("incremental", "d2")
        go_on(repository)
        assert "d2" in gone(repository)


def test_where_that_is_gone_the_next_one_is_full(path: Path) -> None:
    with served(path, 'full = "once"') as repository:
        past(repository, "d1", "d2")
        archive_due(repository)
        assert gone(repository) == ["d1", "d2"]
        grow(repository, random.Random(6), ["d3"], 3)
        (third,) = archive_due(repository).archives
        assert third.archive.kind == "full"


def test_a_catalog_of_tapes_that_cannot_be_read_lets_nothing_go(path: Path) -> None:
    with served(path, 'protect = "14d"') as repository:
        past(repository, "d1")
        archive_due(repository)
        (path / "tapes.db").write_bytes(b"no catalog" * 1000)
        assert why(repository, "d1") == ["not yet archived (p)"]
        assert gone(repository) == []
        assert "tapes.db" in str(state(repository).last_error)


def test_nothing_goes_while_what_is_archived_cannot_be_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what is older than ``protect``, and archived: the next archive would have gone on from it."""
    monkeypatch.setattr(tape_file, "BUSY_MS", 1)
    with served(path, 'protect = "1s"\nfull = "once"') as repository:
        past(repository, "d1")
        archive_due(repository)
        with closing(apsw.Connection(str(path / "tapes.db"))) as other:
            other.execute("BEGIN EXCLUSIVE")
            for ask in (repository.prune_preview, repository.prune):
                with pytest.raises(BusyError):
                    ask()
            other.execute("ROLLBACK")
        assert why(repository, "d1") == ["the next archive goes on from it (p)"]
        assert gone(repository) == []


def test_an_archive_on_a_retired_tape_counts_no_more(path: Path) -> None:
    with served(path, 'protect = "14d"') as repository:
        past(repository, "d1")
        (made,) = archive_due(repository).archives
        with shelf(path, write=True) as found:
            found.tapes.retire(made.tapes[0], time.time_ns())
        assert state(repository).waiting == ["d1"]
        assert [each.archive.point.bookmark for each in archive_due(repository).archives] == ["d1"]


def test_what_was_broken_off_on_a_retired_tape_is_begun_anew(path: Path) -> None:
    """Gone on with, it would never count, and be made again and again."""
    with served(path, 'protect = "14d"') as repository:
        past(repository, "d1")
        (made,) = archive_due(repository).archives
        with shelf(path, write=True) as found:
            found.tapes.failed(made.archive.uuid, "broken off")
            found.tapes.retire(made.tapes[0], time.time_ns())
        (again,) = archive_due(repository).archives
        assert again.archive.uuid != made.archive.uuid
        with shelf(path) as found:
            assert found.tapes.archive(made.archive.uuid).why == "broken off", "nobody has tried"
        assert state(repository).waiting == []


def test_a_number_that_became_that_of_another_record(path: Path) -> None:
    """An older copy of the repository was put back, went another way, and tapes that are newer were scanned: what they have of a point
    of that number is another one's, and what changed since it says nothing."""
    with served(path, 'full = "once"') as repository:
        past(repository, "d1", "d2")
        first, second = archive_due(repository).archives
        with shelf(path, write=True) as found:
            others = [
                msgspec.structs.replace(
                    entry,
                    uuid=f"other-{entry.uuid}",
                    kind="full",
                    since=None,
                    parent=None,
                    pieces=0,
                    point=msgspec.structs.replace(entry.point, time="2026-01-02"),
                )
                for entry in (first.archive, second.archive)
            ]
            for entry in (first.archive, second.archive):
                found.tapes.failed(entry.uuid, "never made")
            found.tapes.merge(Found(tapes=(), archives=tuple(others), pieces=()))
            assert {entry.uuid for entry in found.tapes.standing()} == {entry.uuid for entry in others}
        assert state(repository).waiting == ["d1", "d2"]
        wanted = Wanted(points=("d2",), to="vault", incremental=True)
        (made,) = to_medium(repository, wanted, lambda _: None, time.time_ns)
        assert made.archive.kind == "full"


def test_what_was_broken_off_of_another_record_is_not_gone_on_with(path: Path) -> None:
    with served(path, "") as repository:
        past(repository, "d1")
        point = repository.resolve("d1")
        known = ArchivedPoint(seqno=point.seqno, time=point.time, bookmark="d1")
        assert point_again(repository, known).seqno == point.seqno
        assert point_again(repository, msgspec.structs.replace(known, bookmark=None)).seqno == point.seqno
        with pytest.raises(PointGoneError, match="is no more what it was at 2026-01-02"):
            point_again(repository, msgspec.structs.replace(known, time="2026-01-02"))


def test_a_policy_that_is_not_there(path: Path) -> None:
    with served(path, "") as repository, pytest.raises(NotFoundError, match="no policy 'q'"):
        DueArchives(repository, ("q",), lambda _: None, time.time_ns, None)


def test_a_bookmark_that_goes_before_its_tape_is_there_holds_up_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(path, "") as repository:
        past(repository, "d1", "d2")

        def slow(repository: Repository, wanted: Wanted, *others: Any) -> Any:
            if wanted.points == ("d1",):
                repository.bookmark_remove("d1")
            return to_medium(repository, wanted, *others)

        monkeypatch.setattr(due, "to_medium", slow)
        assert [each.archive.point.bookmark for each in archive_due(repository).archives] == ["d2"]


@pytest.mark.parametrize("full", ["always", "once"])
def test_what_was_broken_off_of_another_record_of_that_number_is_not_gone_on_with(path: Path, full: str) -> None:
    """It never could be, and would hold up all that goes to the medium."""
    with served(path, f'full = "{full}"') as repository:
        past(repository, "d1", "d2")
        first = DueArchives(repository, (), lambda _: None, time.time_ns, None)
        first.run()
        with shelf(path, write=True) as found:
            for made in first.answer.archives:
                entry = made.archive
                at = msgspec.structs.replace(entry.point, time="2026-01-02T00:00:00.000000000Z")
                found.tapes.failed(entry.uuid, "never made")
                found.tapes.drop_archive(entry.uuid)
                other = msgspec.structs.replace(
                    entry, uuid=f"other-{entry.uuid}", point=at, pieces=0, kind="full", since=None, parent=None
                )
                found.tapes.begin_archive(other)
                found.tapes.failed(other.uuid, "it was interrupted")
        again = archive_due(repository)
        assert [(each.archive.point.bookmark, each.resumed_at_bytes) for each in again.archives] == [
            ("d1", None),
            ("d2", None),
        ]
