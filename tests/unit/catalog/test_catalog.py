"""The catalog follows the journal, and its file is only a copy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from tests.support.fake_journal import FakeJournal
from vsnapfs.binding import Event, JournalFacts, RecordKind
from vsnapfs.catalog import counts as counts_module
from vsnapfs.catalog import store as store_module
from vsnapfs.catalog.catalog import Catalog
from vsnapfs.catalog.counts import Count
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.index import Index
from vsnapfs.catalog.schema import TABLES
from vsnapfs.core.errors import JournalBehindError, PointGoneError
from vsnapfs.core.model import FederatedRepository, Federation

UUID = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"


class Shelf:
    """A catalog's file, and how often it was set aside."""

    def __init__(self, path: Path, directory_fd: int) -> None:
        self.path = path
        self.directory_fd = directory_fd
        self.set_aside_count = 0

    def open(self, journal: FakeJournal, uuid: str = UUID) -> Catalog:
        return Catalog.open(Place(self.directory_fd, self.path), uuid, journal, self._set_aside)

    def names(self, journal: FakeJournal) -> list[str]:
        """What a catalog opened now lists."""
        catalog = self.open(journal)
        try:
            return [bookmark.name for bookmark in catalog.index.bookmarks()]
        finally:
            catalog.close()

    def _set_aside(self) -> Place:
        self.set_aside_count += 1
        kept = self.path.with_suffix(f".bad{self.set_aside_count}")
        self.path.rename(kept)
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists():
            log.rename(kept.with_name(kept.name + "-wal"))
        return Place(self.directory_fd, kept)


@pytest.fixture
def journal() -> FakeJournal:
    """Two volumes, one removed; four bookmarks, one removed, one held, one over two repositories."""
    journal = FakeJournal()
    journal.add_volume(1, "db0", 8192)
    journal.add_volume(2, "old", path="/srv/old.img")
    journal.remove_volume(2)
    journal.skip(100)
    for name in ("a", "b", "c"):
        journal.add_bookmark(name)
    parts = (
        FederatedRepository(uuid=UUID, path="/srv/a", seqno=50),
        FederatedRepository(uuid=UUID, path="/b", seqno=7),
    )
    journal.add_bookmark("past", 50, Federation(id=UUID, repositories=parts))
    journal.remove_bookmark("b")
    journal.hold_bookmark("c", True, "audit")
    return journal


@pytest.fixture
def directory_fd(memory_path: Path) -> Iterator[int]:
    fd = os.open(memory_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def shelf(memory_path: Path, directory_fd: int) -> Shelf:
    return Shelf(memory_path / "catalog.db", directory_fd)


def test_the_file_gives_back_what_the_journal_gave(shelf: Shelf, journal: FakeJournal) -> None:
    first = shelf.open(journal)
    volumes, bookmarks = first.index.volumes(), first.index.bookmarks()
    first.close()
    second = shelf.open(journal)
    assert second.index.volumes() == volumes
    assert second.index.bookmarks() == bookmarks
    second.close()


def test_a_second_start_reads_no_event_again(
    shelf: Shelf, journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shelf.names(journal) == ["past", "a", "c"]
    asked: list[int] = []
    events = journal.events

    def noted(after: int = 0) -> Iterator[Event]:
        asked.append(after)
        return events(after)

    monkeypatch.setattr(journal, "events", noted)
    journal.skip(1)
    assert shelf.names(journal) == ["past", "a", "c"]
    last = next(iter(events(108))).seqno
    assert asked == [last - 1, last], "one, to see that it is the same journal, and what came after it"


def test_a_journal_that_knows_few_times_is_the_same_journal(
    shelf: Shelf, journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a compaction the times of points and events are known, and of no other records."""
    assert shelf.names(journal) == ["past", "a", "c"]

    def gone(_: int) -> int:
        raise PointGoneError("only bookmarks are kept there")

    monkeypatch.setattr(journal, "time_of", gone)
    assert shelf.names(journal) == ["past", "a", "c"]
    assert shelf.set_aside_count == 0


def test_a_journal_without_the_last_event_is_another(shelf: Shelf, journal: FakeJournal) -> None:
    assert shelf.names(journal) == ["past", "a", "c"]
    journal._events[-1] = journal._events[-1]._replace(time_ns=1)
    assert shelf.names(journal) == ["past", "a", "c"]
    assert shelf.set_aside_count == 1


def test_only_what_is_committed_is_taken_in(shelf: Shelf, journal: FakeJournal) -> None:
    catalog = shelf.open(journal)
    journal.add_bookmark("d")
    journal.event(RecordKind.BOOKMARK_ADD, body=b'{"name": "torn"}')
    assert catch_up(catalog, journal)
    assert catalog.index.bookmark("d") is not None
    assert catalog.index.bookmark("torn") is None
    journal.commit()
    assert catch_up(catalog, journal)
    assert catalog.index.bookmark("torn") is not None
    assert not catch_up(catalog, journal)
    catalog.close()


def catch_up(catalog: Catalog, journal: FakeJournal) -> bool:
    found = catalog.fold(journal)
    if found:
        catalog.save()
    return found


def write_garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as the header of one" * 100)


def break_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096
    path.write_bytes(content)


def sql(statement: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        db = apsw.Connection(str(path))
        db.execute(statement)
        db.close()

    return run


def make_symlink(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.parametrize(
    "spoil",
    [
        write_garbage,
        break_a_page,
        make_symlink,
        sql("UPDATE meta SET version = version + 1"),
        sql("UPDATE meta SET repository = 'another'"),
        sql("UPDATE meta SET event_time_ns = event_time_ns + 1"),
        sql("UPDATE bookmarks SET consistency = 'perfect'"),
        sql("UPDATE bookmarks SET name = '../x' WHERE name = 'a'"),
        sql("UPDATE bookmarks SET name = '' WHERE name = 'a'"),
        sql("UPDATE volumes SET name = 'a/b' WHERE id = 1"),
        sql("UPDATE volumes SET primary_kind = 'cloud'"),
        sql("DELETE FROM meta"),
        sql("DROP TABLE bookmarks"),
        sql("CREATE TRIGGER t AFTER INSERT ON bookmarks BEGIN DELETE FROM volumes; END"),
    ],
)
def test_a_file_of_no_use_is_set_aside_and_made_again(
    shelf: Shelf, journal: FakeJournal, spoil: Callable[[Path], None]
) -> None:
    assert shelf.names(journal) == ["past", "a", "c"]
    spoil(shelf.path)
    assert shelf.names(journal) == ["past", "a", "c"]
    assert shelf.set_aside_count == 1
    assert shelf.path.with_suffix(".bad1").exists()
    assert shelf.names(journal) == ["past", "a", "c"]
    assert shelf.set_aside_count == 1


@pytest.mark.parametrize("mask", [0, 0o777])
def test_its_files_are_the_owners_alone(shelf: Shelf, journal: FakeJournal, mask: int) -> None:
    before = os.umask(mask)
    try:
        catalog = shelf.open(journal)
        modes = {path.name: path.stat().st_mode & 0o7777 for path in shelf.path.parent.iterdir()}
        catalog.close()
    finally:
        os.umask(before)
    assert modes == {"catalog.db": 0o600, "catalog.db-wal": 0o600}


def test_the_log_is_no_way_out(shelf: Shelf, journal: FakeJournal) -> None:
    """A symlink in its place is not written through; names are kept in memory then, and it is said."""
    victim = shelf.path.with_name("victim")
    victim.write_text("untouched")
    shelf.names(journal)
    for link in (victim, shelf.path.with_name("made")):
        log = shelf.path.with_name("catalog.db-wal")
        log.unlink(missing_ok=True)
        log.symlink_to(link)
        catalog = shelf.open(journal)
        assert len(catalog.index.bookmarks()) == 3
        assert catalog.problem is not None
        catalog.close()
    assert victim.read_text() == "untouched"
    assert not shelf.path.with_name("made").exists()


def test_a_repository_that_is_moved_keeps_its_catalog(shelf: Shelf, journal: FakeJournal, memory_path: Path) -> None:
    """The file is that of the open directory, whatever stands under its path meanwhile."""
    moved = memory_path.with_name(memory_path.name + "-moved")
    catalog = shelf.open(journal)
    memory_path.rename(moved)
    memory_path.mkdir()
    journal.add_bookmark("d")
    catch_up(catalog, journal)
    assert catalog.problem is None
    catalog.close()
    assert list(memory_path.iterdir()) == []
    memory_path.rmdir()
    moved.rename(memory_path)
    assert "d" in shelf.names(journal)


def test_a_deleted_or_empty_file_is_made_again(shelf: Shelf, journal: FakeJournal) -> None:
    shelf.names(journal)
    shelf.path.unlink()
    assert shelf.names(journal) == ["past", "a", "c"]
    shelf.path.write_bytes(b"")
    assert shelf.names(journal) == ["past", "a", "c"]
    assert shelf.set_aside_count == 0


def test_the_log_of_a_lost_file_is_not_believed(shelf: Shelf, journal: FakeJournal) -> None:
    catalog = shelf.open(journal)
    journal.add_bookmark("d")
    catch_up(catalog, journal)
    log = shelf.path.with_name("catalog.db-wal")
    kept = log.read_bytes()
    assert kept
    catalog.close()
    shelf.path.unlink()
    log.write_bytes(kept)
    assert shelf.names(journal) == ["past", "a", "c", "d"]


def test_a_journal_put_back_from_a_copy_is_noticed(shelf: Shelf, journal: FakeJournal) -> None:
    journal.add_bookmark("future")
    shelf.names(journal)
    older = FakeJournal()
    older.add_volume(1, "db0")
    older.add_bookmark("only")
    with pytest.raises(JournalBehindError, match="newest segment is missing"):
        shelf.names(older)
    assert shelf.set_aside_count == 0
    assert "future" in shelf.names(journal)


def test_without_a_file_it_is_in_memory(journal: FakeJournal, memory_path: Path) -> None:
    catalog = Catalog.open(None, UUID, journal, lambda: pytest.fail("there is no file to set aside"))
    assert [bookmark.name for bookmark in catalog.index.bookmarks()] == ["past", "a", "c"]
    assert catalog.faults(journal) == []
    catalog.close()
    assert list(memory_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_no_obstacle(
    journal: FakeJournal, memory_path: Path, directory_fd: int
) -> None:
    memory_path.rmdir()
    place = Place(directory_fd, memory_path / "catalog.db")
    catalog = Catalog.open(place, UUID, journal, lambda: pytest.fail("nothing is wrong with the file"))
    memory_path.mkdir()
    assert [bookmark.name for bookmark in catalog.index.bookmarks()] == ["past", "a", "c"]
    assert catalog.problem is not None
    journal.add_bookmark("d")
    assert catch_up(catalog, journal)
    assert catalog.problem is not None, "the file is still not there"
    catalog.close()


def test_a_write_that_fails_is_made_up_for_later(
    shelf: Shelf, journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = shelf.open(journal)
    with monkeypatch.context() as broken:
        broken.setattr(store_module, "_bookmark_row", _full)
        journal.add_bookmark("d")
        assert catch_up(catalog, journal)
        assert catalog.index.bookmark("d") is not None
        assert "full" in str(catalog.problem)
    journal.add_bookmark("e")
    catch_up(catalog, journal)
    assert catalog.problem is None
    assert catalog.faults(journal) == []
    catalog.close()


def _full(_: object) -> None:
    raise apsw.FullError("database or disk is full")


def test_faults_are_told(shelf: Shelf, journal: FakeJournal) -> None:
    catalog = shelf.open(journal)
    assert catalog.faults(journal) == []
    catalog.close()
    sql("UPDATE bookmarks SET note = 'forged' WHERE name = 'a'")(shelf.path)
    sql("UPDATE volumes SET size_bytes = 1 WHERE id = 1")(shelf.path)
    catalog = shelf.open(journal)
    assert shelf.set_aside_count == 0
    faults = catalog.faults(journal)
    assert [("volumes" in fault, "bookmarks" in fault) for fault in faults] == [(True, False), (False, True)]
    catalog.close()


def test_counts_of_data_are_kept_between_starts(shelf: Shelf, journal: FakeJournal) -> None:
    catalog = shelf.open(journal)
    assert catalog.counts.get(1, 42) is None
    catalog.counts.keep(Count(1, 42, 12288))
    assert catalog.counts.get(1, 42) == 12288
    catalog.close()
    catalog = shelf.open(journal)
    assert catalog.counts.get(1, 42) == 12288
    assert catalog.counts.get(2, 42) is None
    catalog.close()


def test_counts_of_data_are_bounded(shelf: Shelf, journal: FakeJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory the ones used last stay; in the file there are never more than twice as many."""
    monkeypatch.setattr(counts_module, "COUNTS_MAX", 10)
    monkeypatch.setattr(store_module, "COUNTS_MAX", 10)
    catalog = shelf.open(journal)
    for seqno in range(100):
        catalog.counts.keep(Count(1, seqno, seqno * 512))
        assert catalog.counts.get(1, 0) == 0
        if seqno % 7 == 0:
            catalog.save()
    assert [seqno for seqno in range(100) if catalog.counts.get(1, seqno) is not None] == [0, *range(91, 100)]
    catalog.close()
    catalog = shelf.open(journal)
    known = [seqno for seqno in range(100) if catalog.counts.get(1, seqno) is not None]
    assert known[-1] == 99
    assert len(known) <= 20
    catalog.close()


def test_every_column_is_explained() -> None:
    for name, statement in TABLES.items():
        lines = [line for line in statement.splitlines()[1:-1] if not line.strip().startswith("PRIMARY KEY")]
        silent = [line.split()[0] for line in lines if "--" not in line]
        assert set(silent) <= {"name", "note", "block_size_bytes"}, f"{name}: {silent}"


def test_ten_thousand_bookmarks_are_taken_in(shelf: Shelf) -> None:
    """What takes a fifth of a second on an idle machine: were each bookmark looked for among all, it would be minutes."""
    journal = FakeJournal()
    for number in range(10_000):
        journal.add_bookmark(f"hourly-{number}")
    before = time.perf_counter()
    catalog = shelf.open(journal)
    took_s = time.perf_counter() - before
    assert len(catalog.index.bookmarks()) == 10_000
    catalog.close()
    assert took_s < 20


class Compacted(FakeJournal):
    """A journal whose events of ``b`` are dropped by a compaction."""

    generation = 0

    def facts(self) -> JournalFacts:
        return super().facts()._replace(generation=self.generation)

    def compact(self) -> None:
        self.generation += 1
        self._events = [event for event in self._events if b'"b"' not in event.body]


def coming_and_going(journal: FakeJournal, shelf: Shelf | None) -> Catalog:
    """A catalog that knows of a and b; then b is removed, which it does not see."""
    journal.add_bookmark("a")
    journal.add_bookmark("b")
    catalog = Catalog.open(None, UUID, journal, lambda: None) if shelf is None else shelf.open(journal)
    journal.remove_bookmark("b")
    return catalog


def listed(catalog: Catalog) -> list[str]:
    return [bookmark.name for bookmark in catalog.index.bookmarks()]


def test_a_reader_that_has_not_seen_a_removal_does_not_keep_the_name() -> None:
    """The compaction has dropped the event that removed it, since it has dropped the one that added it."""
    journal = Compacted()
    catalog = coming_and_going(journal, None)
    generation = catalog.index.generation
    journal.compact()
    assert catalog.fold(journal)
    assert (listed(catalog), catalog.index.generation > generation) == (["a"], True)
    assert not catalog.fold(journal)
    catalog.close()


def test_a_file_from_before_a_compaction_is_not_believed(shelf: Shelf) -> None:
    journal = Compacted()
    coming_and_going(journal, shelf).close()
    journal.compact()
    for _ in range(2):
        assert shelf.names(journal) == ["a"]
    assert shelf.set_aside_count == 0


def test_an_owner_goes_on_after_its_own_compaction(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read everything before: nothing is read again, also by the next one; and the last event may be one of those dropped."""
    journal = Compacted()
    catalog = coming_and_going(journal, shelf)
    assert catalog.fold(journal)
    journal.compact()
    assert catalog.fold(journal)
    catalog.close()
    applied = Index.apply
    monkeypatch.setattr(Index, "apply", lambda *_: pytest.fail("it is read again"))
    assert shelf.names(journal) == ["a"]
    monkeypatch.setattr(Index, "apply", applied)
    assert shelf.set_aside_count == 0
