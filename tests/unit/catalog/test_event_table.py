"""The table of events: in order, bounded, not lost with its catalog, and no obstacle to anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.fake_journal import FakeJournal
from vsnapfs.catalog import event_log, events
from vsnapfs.catalog.catalog import Catalog
from vsnapfs.catalog.event_log import EventLog
from vsnapfs.catalog.events import Wanted, events_in
from vsnapfs.catalog.file import Place
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.events import Event, EventKind

pytestmark = pytest.mark.unit

UUID = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"


class Ground:
    """A catalog's file, and where it is set aside."""

    def __init__(self, path: Path, directory_fd: int) -> None:
        self.path = path
        self.directory_fd = directory_fd
        self.journal = FakeJournal()
        self.journal.add_bookmark("a")

    def open(self, log: EventLog | None = None, *, anew: bool = False) -> Catalog:
        return Catalog.open(Place(self.directory_fd, self.path), UUID, self.journal, self._set_aside, log, anew=anew)

    def _set_aside(self) -> Place:
        for name in ("catalog.db", "catalog.db-wal"):
            if (there := self.path.with_name(name)).exists():
                there.rename(there.with_name(name.replace("catalog.db", "catalog.db.bad")))
        return Place(self.directory_fd, self.path.with_name("catalog.db.bad"))

    def crash(self, catalog: Catalog) -> None:
        """Leave the files as they are now, as a kill would."""
        kept = {path: path.read_bytes() for path in self.path.parent.iterdir()}
        catalog.close()
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.fixture
def ground(memory_path: Path) -> Iterator[Ground]:
    fd = os.open(memory_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Ground(memory_path / "catalog.db", fd)
    os.close(fd)


def tell(catalog: Catalog, *subjects: str, kind: EventKind = "bookmark_added", **detail: Any) -> None:
    for number, subject in enumerate(subjects):
        catalog.events.add(1_800_000_000_000_000_000 + number, kind, subject, detail)
    catalog.save_events()


def told(catalog: Catalog, **wanted: Any) -> list[str]:
    return [event.subject or event.kind for event in catalog.older_events(Wanted(**wanted))]


def test_they_come_back_as_they_were_told(ground: Ground) -> None:
    catalog = ground.open()
    tell(catalog, "x", "y", why="because", numbers=[1, 2.5, None, True], of={"a": "b"})
    before = catalog.older_events(Wanted())
    catalog.close()
    again = ground.open()
    assert again.older_events(Wanted()) == before == catalog.events.recent(0)[1]
    assert [event.id for event in before] == [1, 2]
    assert before[0].detail == {"why": "because", "numbers": [1, 2.5, None, True], "of": {"a": "b"}}
    tell(again, "z")
    assert told(again) == ["x", "y", "z"]
    assert again.older_events(Wanted())[-1].id == 3
    again.close()


def test_which_ones(ground: Ground) -> None:
    catalog = ground.open()
    tell(catalog, "a", "b", "c")
    tell(catalog, "d", kind="bookmark_failed")
    assert told(catalog, after=1) == ["b", "c", "d"]
    assert told(catalog, until=2) == ["a", "b"]
    assert told(catalog, limit=2) == ["a", "b"]
    assert told(catalog, limit=2, newest=True) == ["c", "d"]
    assert told(catalog, kinds=frozenset({"bookmark_failed"}), limit=1) == ["d"]
    assert told(catalog, since_ns=1_800_000_000_000_000_001) == ["b", "c"]
    assert told(catalog, since_ns=2**70) == []
    catalog.close()


def test_they_survive_a_kill(ground: Ground) -> None:
    catalog = ground.open()
    tell(catalog, "x", "y")
    ground.crash(catalog)
    again = ground.open()
    assert told(again) == ["x", "y"]
    again.close()


def test_there_are_never_more_than_so_many(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 3)
    catalog = ground.open()
    tell(catalog, *"abcde")
    assert told(catalog) == ["c", "d", "e"]
    catalog.close()
    again = ground.open()
    tell(again, "f")
    assert [event.id for event in again.older_events(Wanted())] == [4, 5, 6]
    again.close()


def sql(statement: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        db = apsw.Connection(str(path))
        db.execute(statement)
        db.close()

    return run


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as the header of one" * 100)


@pytest.mark.parametrize(
    ("spoil", "kept"),
    [
        (sql("UPDATE bookmarks SET consistency = 'perfect'"), ["x", "y"]),
        (sql("DROP TABLE bookmarks"), ["x", "y"]),
        (sql("UPDATE meta SET version = version + 1"), ["x", "y"]),
        (sql("UPDATE meta SET repository = 'another'"), []),
        (sql("DELETE FROM meta"), []),
        (sql("DROP TABLE events"), []),
        (sql("DROP TABLE events; CREATE VIEW events AS SELECT 1, 2, 'served', 'info', 'x', '{}'"), []),
        (sql("UPDATE events SET detail = '[]' WHERE id = 1; DROP TABLE gaps"), ["y"]),
        (sql("UPDATE events SET severity = 'grave' WHERE id = 2; DROP TABLE gaps"), ["x"]),
        (garbage, []),
    ],
)
def test_a_catalog_that_is_made_again_takes_over_what_can_be_read(
    ground: Ground, spoil: Callable[[Path], None], kept: list[str]
) -> None:
    catalog = ground.open()
    tell(catalog, "x", "y")
    catalog.close()
    spoil(ground.path)
    bad = ground.path.read_bytes()
    again = ground.open()
    again.save_events()
    assert told(again) == [*kept, "catalog_remade"]
    last = again.older_events(Wanted())[-1]
    assert (last.severity, last.detail["events"], last.detail["kept_as"]) == ("warning", len(kept), "catalog.db.bad")
    assert again.index.bookmark("a") is not None
    again.close()
    assert ground.path.with_name("catalog.db.bad").read_bytes() == bad, "what is kept is not touched"


def test_it_takes_over_what_is_in_the_log_beside_the_file(ground: Ground) -> None:
    """After a kill the newest rows are there alone."""
    ground.open().close()
    catalog = ground.open()
    tell(catalog, "x", "y")
    ground.crash(catalog)
    before = {path.name: path.read_bytes() for path in ground.path.parent.iterdir()}
    assert events_in(ground.directory_fd, "catalog.db", UUID) == catalog.events.recent(0)[1]
    assert {path.name: path.read_bytes() for path in ground.path.parent.iterdir()} == before
    again = ground.open(anew=True)
    again.save_events()
    assert told(again) == ["x", "y", "catalog_remade"]
    again.close()


def test_a_file_that_is_not_there_has_none(ground: Ground) -> None:
    assert events_in(ground.directory_fd, "catalog.db", UUID) == []
    os.mkfifo(ground.path)
    assert events_in(ground.directory_fd, "catalog.db", UUID) == []


def test_a_file_too_large_to_be_copied_has_none(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = ground.open()
    tell(catalog, "x")
    catalog.close()
    assert events_in(ground.directory_fd, "catalog.db", UUID)
    monkeypatch.setattr(events, "COPY_BYTES_MAX", 4096)
    assert events_in(ground.directory_fd, "catalog.db", UUID) == []


def test_a_row_that_makes_no_sense_is_damage(ground: Ground) -> None:
    catalog = ground.open()
    tell(catalog, "x", "y")
    catalog.close()
    sql("UPDATE events SET detail = 'no json' WHERE id = 2")(ground.path)
    again = ground.open()
    assert told(again, until=1) == ["x"]
    with pytest.raises(IntegrityError, match="event 2"):
        told(again)
    again.close()


def test_a_kind_of_another_version_is_shown(ground: Ground) -> None:
    catalog = ground.open()
    tell(catalog, "x")
    catalog.close()
    sql("UPDATE events SET kind = 'tape_written'")(ground.path)
    again = ground.open()
    assert [(event.kind, event.text) for event in again.older_events(Wanted())] == [("tape_written", "tape_written")]
    again.close()


def test_what_cannot_be_written_is_a_problem_and_written_later(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = ground.open()
    with monkeypatch.context() as broken:
        broken.setattr(events, "_row", _full)
        tell(catalog, "x", "y")
        assert "full" in str(catalog.problem)
        assert [event.subject for event in catalog.events.recent(0)[1]] == ["x", "y"]
        ground.journal.add_bookmark("b")
        assert catalog.fold(ground.journal)
        catalog.save()
        assert "full" in str(catalog.problem)
    tell(catalog, "z")
    assert told(catalog) == ["x", "y", "z"]
    assert catalog.problem is None
    catalog.close()


def test_what_can_not_be_written_for_long_is_dropped_and_counted(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "UNSAVED_MAX", 3)
    catalog = ground.open()
    with monkeypatch.context() as broken:
        broken.setattr(events, "_row", _full)
        tell(catalog, *"abcde")
        assert "2 events are lost" in str(catalog.problem)
    tell(catalog, "f")
    assert told(catalog) == ["d", "e", "f"]
    assert catalog.events.dropped == 3
    catalog.close()


def _full(_: Event) -> Any:
    raise apsw.FullError("database or disk is full")


class TestInMemory:
    def test_the_newest_are_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = EventLog()
        log.resume(10)
        assert log.recent(0) == (10, [])
        for _ in range(5):
            log.add(0, "served", "", {})
        until, found = log.recent(0)
        assert (until, [event.id for event in found]) == (10, [11, 12, 13, 14, 15])
        assert [event.id for event in log.recent(13)[1]] == [14, 15]
        assert log.recent(15)[1] == log.recent(99)[1] == []

    def test_older_ones_have_to_be_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_log, "RECENT_MAX", 2)
        log = EventLog()
        for _ in range(5):
            log.add(0, "served", "", {})
        until, found = log.recent(1)
        assert (until, [event.id for event in found]) == (3, [4, 5])

    def test_saved_ones_are_not_saved_again(self) -> None:
        log = EventLog()
        for _ in range(3):
            log.add(0, "served", "", {})
        log.saved(2)
        assert [event.id for event in log.unsaved()] == [3]
        log.saved(99)
        assert log.unsaved() == []
