"""What each event means for the names."""

from __future__ import annotations

import pytest

from tests.support.fake_journal import FakeJournal
from vsnapfs.binding import RecordKind
from vsnapfs.catalog.index import VERDICTS_MAX, Changes, Index
from vsnapfs.core.errors import IntegrityError, PointGoneError
from vsnapfs.core.times import iso


def folded(journal: FakeJournal) -> Index:
    index = Index()
    for event in journal.events():
        index.apply(event, journal.time_of, Changes())
    return index


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


def test_a_volume_comes_grows_and_goes(journal: FakeJournal) -> None:
    added = journal.add_volume(1, "db0", 8192)
    journal.resize_volume(1, 4096)
    removed = journal.remove_volume(1)
    index = folded(journal)
    entry = index.volumes()[0]
    assert (entry.name, entry.size_bytes, entry.added_seqno, entry.removed_seqno) == ("db0", 4096, added, removed)
    assert index.volume("db0") is None
    assert not entry.stands_at(added - 1)
    assert entry.stands_at(added)
    assert entry.stands_at(removed - 1)
    assert not entry.stands_at(removed)


def test_a_name_passes_on_and_each_point_has_its_own_bearer(journal: FakeJournal) -> None:
    first = journal.add_volume(1, "db0")
    gone = journal.remove_volume(1)
    second = journal.add_volume(2, "db0")
    index = folded(journal)

    def bearer(seqno: int | None) -> int | None:
        entry = index.volume("db0", seqno)
        return None if entry is None else entry.id

    assert [bearer(seqno) for seqno in (first, gone, second, None)] == [1, None, 2, 2]
    assert index.next_volume_id() == 3


def test_primary_and_base_come_from_the_body(journal: FakeJournal) -> None:
    journal.add_volume(1, "thin")
    journal.add_volume(2, "outside", path="/srv/disk.img")
    thin, outside = folded(journal).volumes()
    assert (thin.primary_kind, thin.primary_path, thin.base) == ("repository", None, False)
    assert (outside.primary_kind, outside.primary_path, outside.base) == ("path", "/srv/disk.img", True)


def test_bookmarks_are_ordered_by_their_point_then_by_age(journal: FakeJournal) -> None:
    journal.skip(10)
    journal.add_bookmark("now")
    journal.add_bookmark("past", 5)
    journal.add_bookmark("past-again", 5)
    index = folded(journal)
    assert [bookmark.name for bookmark in index.bookmarks()] == ["past", "past-again", "now"]
    assert [bookmark.name for bookmark in index.bookmarks_from(6)] == ["now"]
    assert [bookmark.name for bookmark in index.bookmarks_from(5)] == ["past", "past-again", "now"]
    latest = index.latest()
    assert latest is not None
    assert latest.name == "now"


def test_a_bookmark_of_the_past_has_the_time_of_what_it_names(journal: FakeJournal) -> None:
    journal.skip(10)
    created = journal.add_bookmark("past", 5)
    bookmark = folded(journal).bookmark("past")
    assert bookmark is not None
    assert (bookmark.seqno, bookmark.time_ns, bookmark.created_seqno) == (5, journal.time_of(5), created)


def test_hold_release_remove(journal: FakeJournal) -> None:
    journal.add_bookmark("a")
    journal.hold_bookmark("a", True, "audit")
    held = folded(journal).bookmark("a")
    assert held is not None
    assert (held.held, held.hold_note) == (True, "audit")
    journal.hold_bookmark("a", False)
    released = folded(journal).bookmark("a")
    assert released is not None
    assert (released.held, released.hold_note) == (False, "")
    journal.remove_bookmark("a")
    index = folded(journal)
    assert index.bookmark("a") is None
    assert index.bookmarks() == ()
    assert index.latest() is None


class TestVerdicts:
    def test_the_last_one_of_each_profile_counts(self, journal: FakeJournal) -> None:
        point = journal.add_bookmark("a")
        journal.give_verdict("a", point, True, "files")
        journal.give_verdict("a", point, False, "shop")
        last = journal.give_verdict("a", point, False, "files")
        found = folded(journal).bookmark("a")
        assert found is not None
        assert [(verdict.profile, verdict.good) for verdict in found.verdicts] == [("shop", False), ("files", False)]
        assert (found.verdicts[1].time, found.verdicts[1].took_s) == (iso(journal.time_of(last)), 1.5)
        assert (found.verdicts[1].volumes, found.verdicts[1].proved) == (("db0",), ("mounted",))

    def test_all_of_them_have_to_be_good(self, journal: FakeJournal) -> None:
        point = journal.add_bookmark("a")
        assert self.is_good(journal) is None
        journal.give_verdict("a", point, True, "files")
        assert self.is_good(journal) is True
        journal.give_verdict("a", point, False, "shop")
        assert self.is_good(journal) is False
        journal.give_verdict("a", point, True, "shop")
        assert self.is_good(journal) is True

    def test_one_on_another_point_or_name_says_nothing(self, journal: FakeJournal) -> None:
        before = journal.give_verdict("a", 1, True)
        point = journal.add_bookmark("a")
        journal.give_verdict("b", point, True)
        journal.give_verdict("a", before, True)
        assert self.is_good(journal) is None
        journal.remove_bookmark("a")
        journal.give_verdict("a", point, True)
        journal.add_bookmark("a", point)
        assert self.is_good(journal) is None, "it was given to another of that name"

    def test_it_makes_no_bookmark(self, journal: FakeJournal) -> None:
        journal.skip(5)
        journal.give_verdict("a", 3, True)
        assert folded(journal).bookmarks() == ()

    def test_they_are_bounded(self, journal: FakeJournal) -> None:
        point = journal.add_bookmark("a")
        for number in range(VERDICTS_MAX + 3):
            journal.give_verdict("a", point, True, f"p{number}")
        found = folded(journal).bookmark("a")
        assert found is not None
        assert [verdict.profile for verdict in found.verdicts] == [f"p{n}" for n in range(3, VERDICTS_MAX + 3)]

    @staticmethod
    def is_good(journal: FakeJournal) -> bool | None:
        found = folded(journal).bookmark("a")
        assert found is not None
        return found.is_good


def test_the_list_is_kept_until_a_name_changes(journal: FakeJournal) -> None:
    journal.add_bookmark("a")
    index = folded(journal)
    before, generation = index.bookmarks(), index.generation
    assert index.bookmarks() is before
    assert index.generation == generation
    after = journal.add_bookmark("b")
    index.apply(next(journal.events(after - 1)), journal.time_of, Changes())
    assert index.generation != generation
    assert [bookmark.name for bookmark in index.bookmarks()] == ["a", "b"]


def test_changes_name_what_was_touched(journal: FakeJournal) -> None:
    journal.add_volume(7, "db0")
    journal.add_bookmark("a")
    journal.remove_bookmark("a")
    index, changes = Index(), Changes()
    for event in journal.events():
        index.apply(event, journal.time_of, changes)
    assert (changes.volumes, changes.bookmarks) == ({7}, {"a"})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RecordKind.VOLUME_ADD, b'{"name": "../etc", "primary": "none", "base": false}'),
        (RecordKind.VOLUME_ADD, b'{"name": "db0", "primary": "somewhere", "base": false}'),
        (RecordKind.VOLUME_ADD, b'{"name": "db0"}'),
        (RecordKind.BOOKMARK_ADD, b'{"name": "latest"}'),
        (RecordKind.BOOKMARK_ADD, b'{"name": "a", "consistency": "perfect"}'),
        (RecordKind.BOOKMARK_ADD, b'{"name": "a", "pending": true, "verdict": {"good": 7}}'),
        (RecordKind.BOOKMARK_ADD, b"not json"),
        (RecordKind.BOOKMARK_REMOVE, b'{"name": 7}'),
        (RecordKind.BOOKMARK_HOLD, b""),
        (RecordKind.VOLUME_RESIZE, b""),
        (RecordKind.VOLUME_REMOVE, b""),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(journal: FakeJournal, kind: RecordKind, body: bytes) -> None:
    journal.event(kind, volume=9, body=body)
    with pytest.raises(IntegrityError) as caught:
        folded(journal)
    assert caught.value.seqno == 1


def test_members_of_a_later_version_are_ignored(journal: FakeJournal) -> None:
    journal.event(RecordKind.BOOKMARK_ADD, body=b'{"name": "a", "colour": "red"}')
    journal.event(
        RecordKind.VOLUME_ADD, volume=1, b=512, body=b'{"name": "v", "primary": "none", "base": false, "x": 1}'
    )
    index = folded(journal)
    assert index.bookmark("a") is not None
    assert index.volume("v") is not None


def test_a_past_point_that_has_gone_since_is_no_damage(journal: FakeJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads from the beginning meets a name for it before the event that removes the name."""
    journal.skip(10)
    journal.add_bookmark("gone", 5)
    journal.add_bookmark("stays", 7)
    journal.remove_bookmark("gone")
    time_of = journal.time_of

    def known(seqno: int) -> int:
        if seqno == 5:
            raise PointGoneError("only bookmarks are kept there")
        return time_of(seqno)

    monkeypatch.setattr(journal, "time_of", known)
    assert [(each.name, each.time_ns) for each in folded(journal).bookmarks()] == [("stays", time_of(7))]
