"""What happens to a repository is told: by whoever changes it, to those that listen, and to readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.support.processes import environment
from vsnapfs.catalog import events as table
from vsnapfs.core.errors import GapError, UsageError
from vsnapfs.core.events import Event
from vsnapfs.daemon import requests as ask
from vsnapfs.daemon.api import VERBS, carried_out
from vsnapfs.repository import events as events_module
from vsnapfs.repository import gaps
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

SIZE = 65536
KILLS = int(os.environ.get("VSNAPFS_EVENT_KILLS", "4"))


@pytest.fixture
def path(memory_path: Path) -> Path:
    Repository.create(memory_path / "repository")
    return memory_path / "repository"


@pytest.fixture
def repository(path: Path) -> Iterator[Repository]:
    with Repository.open(path, owner=True) as repository:
        yield repository


def kinds(repository: Repository) -> list[tuple[str, str]]:
    return [(event.kind, event.subject) for event in repository.events()]


def test_each_change_is_told(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(bytes(SIZE))
    repository.volume_add("db", size_bytes=SIZE)
    repository.volume_resize("db", 2 * SIZE)
    repository.volume_resize("db", SIZE)
    repository.volume_resync("db")
    repository.bookmark_add("a", note="why")
    repository.bookmark_hold("a", "audit")
    repository.bookmark_release("a")
    repository.bookmark_remove("a")
    repository.import_images({"db": image}, "b")
    repository.volume_remove("db")
    assert kinds(repository) == [
        ("volume_added", "db"),
        ("volume_resized", "db"),
        ("volume_resized", "db"),
        ("volume_resynced", "db"),
        ("bookmark_added", "a"),
        ("bookmark_held", "a"),
        ("bookmark_released", "a"),
        ("bookmark_removed", "a"),
        ("bookmark_added", "b"),
        ("imported", "b"),
        ("volume_removed", "db"),
    ]
    (added,) = [event for event in repository.events() if event.subject == "a" and event.kind == "bookmark_added"]
    assert (added.detail["note"], added.detail["consistency"]) == ("why", "crash")


def test_a_bookmark_that_fails_is_told_but_for_a_mistake_of_who_asks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(name: str) -> None:
        carried_out(repository, VERBS["bookmark_add"], ask.BookmarkAdd(name=name), lambda _: None)

    add("a")
    for wrong in ("a", "-x"):
        with pytest.raises(Exception, match="bookmark"):
            add(wrong)
    assert kinds(repository) == [("bookmark_added", "a")]

    def gap(*_: object) -> None:
        raise GapError("writes are not protected")

    monkeypatch.setattr(gaps, "refuse_now", gap)
    with pytest.raises(GapError):
        add("b")
    assert kinds(repository)[-1] == ("bookmark_failed", "b")
    assert repository.events()[-1].detail == {"reason": "writes are not protected", "schedule": ""}


def test_a_schedule_is_known_by_its_events_too(path: Path) -> None:
    """Its bookmarks may be gone, by hand or by a policy; and what has failed has left none."""
    with (path / "vsnapfs.toml").open("a") as file:
        file.write("".join(f'[schedule.{name}]\nevery = "1h"\n' for name in ("made", "failed", "missed", "new")))
    with Repository.open(path, owner=True) as repository:
        repository.bookmark_add("a", schedule="made")
        repository.bookmark_remove("a")
        repository.tell("bookmark_failed", "b", schedule="failed")
        repository.tell("bookmark_missed", "missed")
        repository.tell("bookmark_failed", "c", schedule="gone")
        told = {event.detail.get("schedule") or event.subject: event.time_ns for event in repository.events()}
    with Repository.open(path, owner=True) as repository:
        assert repository.schedules_last_made() == {}
        assert repository.schedules_handled_ns() == {name: told[name] for name in ("made", "failed", "missed")}
        repository.bookmark_add("d", schedule="new")
        assert repository.schedules_handled_ns()["new"] >= repository.bookmark("d").time_ns


def test_a_reader_sees_them_and_tells_none(repository: Repository, path: Path) -> None:
    repository.bookmark_add("a")
    with Repository.open(path, owner=False) as reader:
        reader.tell("served")
        assert reader.events() == repository.events()
        assert [event.subject for event in reader.events(kinds=["bookmark_added"], after=0)] == ["a"]
        assert reader.events(after=1) == []


def test_a_listener_hears_also_of_the_opening(path: Path) -> None:
    Repository.open(path, owner=True).close()
    (path / "catalog.db").write_bytes(b"garbage" * 1000)
    heard: list[Event] = []
    with Repository.open(path, owner=True) as repository:
        repository.listen(heard.append)
        assert [event.kind for event in heard] == ["catalog_remade"]
        repository.bookmark_add("a")
        assert [event.kind for event in heard] == ["catalog_remade", "bookmark_added"]


def test_they_survive_a_repair_of_the_catalog(repository: Repository) -> None:
    repository.bookmark_add("a")
    repository.check(repair=True)
    assert kinds(repository) == [("bookmark_added", "a")]
    repository._parts.remake_catalog()
    repository.bookmark_add("b")
    assert kinds(repository) == [("bookmark_added", "a"), ("catalog_remade", ""), ("bookmark_added", "b")]
    assert [event.id for event in repository.events()] == [1, 2, 3]


def test_nobody_waits_for_a_catalog_that_is_held(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that stands in the catalog, as on a disk that does not answer, holds up no event."""
    monkeypatch.setattr(events_module, "SAVE_WAIT_S", 0.01)
    held, let_go = threading.Event(), threading.Event()
    waited: list[bool] = []

    def hold() -> None:
        with repository._parts.change:
            held.set()
            waited.append(not let_go.wait(10))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        repository.tell("clock_jumped", clock_jumps=1)
        assert [event.kind for event in repository.events()] == ["clock_jumped"]
        assert repository.last_event_id == 1
    finally:
        let_go.set()
        thread.join()
    assert waited == [False], "whoever told it has waited for the one who holds the catalog"
    repository.save_left()
    assert table.events_in(repository._parts.layout.fd, "catalog.db", repository.uuid) == repository.events()


def test_a_full_disk_stops_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Event) -> None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(table, "_row", full)
        repository.bookmark_add("a")
        assert any("full" in problem for problem in repository.status().problems)
    repository.bookmark_add("b")
    assert not any("full" in problem for problem in repository.status().problems)
    assert kinds(repository) == [("bookmark_added", "a"), ("bookmark_added", "b")]


def test_pages(repository: Repository) -> None:
    for number in range(5):
        repository.tell("clock_jumped", clock_jumps=number)

    def page(**members: object) -> ask.Events:
        request = ask.GetEvents(**members)  # type: ignore[arg-type]
        answer: ask.Events = carried_out(repository, VERBS["events"], request, lambda _: None)
        return answer

    first = page(limit=2)
    assert ([event.id for event in first.events], first.until_id) == ([1, 2], 2)
    rest = page(after=first.until_id)
    assert ([event.id for event in rest.events], rest.until_id) == ([3, 4, 5], 5)
    last = page(limit=2, newest=True)
    assert ([event.id for event in last.events], last.until_id) == ([4, 5], 5)
    none = page(kinds=["served"])
    assert (none.events, none.until_id) == ([], 5), "who goes on must not ask for what was looked at again"
    assert page(since="-1h").events == page().events
    assert page(since="2100-01-01").events == []
    with pytest.raises(UsageError, match="not a time"):
        page(since="a")


KILLED = """
import sys
from pathlib import Path
from vsnapfs.repository.repository import Repository
with Repository.open(Path(sys.argv[1]), owner=True) as repository:
    number = 0
    while True:
        number += 1
        repository.tell("clock_jumped", clock_jumps=number)
        print(repository.last_event_id, flush=True)
"""


def test_a_kill_loses_none_that_was_told(path: Path) -> None:
    """Killed at any moment; each event that was told before is there, and none half."""
    seen = 0
    for kill in range(KILLS):
        command = [sys.executable, "-c", KILLED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            for _ in range(20 + 37 * kill):
                seen = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines()
            seen = int(rest[-1]) if rest and rest[-1] else seen
        with Repository.open(path, owner=False) as reader:
            before = [event.id for event in reader.events()]
        with Repository.open(path, owner=True) as repository:
            assert [event.id for event in repository.events()] == before
            assert before == list(range(1, len(before) + 1))
            assert seen <= len(before) <= seen + 1, "the last one may not have been printed"
