"""The server prunes by itself: as often as the settings say, with idle priority, and tells what it did."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.pruned import grow, opened, write_some
from tests.support.waiting import eventually
from vsnapfs.binding import Journal
from vsnapfs.binding.base_move import end_work
from vsnapfs.binding.compact import compact
from vsnapfs.core.errors import BusyError, CorruptExtentError, StoreError
from vsnapfs.core.keeping import Prune
from vsnapfs.daemon.pruning import NICE, Pruner, pruning
from vsnapfs.repository import prune
from vsnapfs.repository.repository import Repository

QUICK_S = 0.05
LONG_S = 1e6


@pytest.fixture
def repository(memory_path: Path) -> Iterator[Repository]:
    path = memory_path / "repository"
    Repository.create(path)
    with opened(path, 'protection_window = "1ms"\nkeep_last = 2') as repository:
        grow(repository, random.Random(1), [f"b{number}" for number in range(12)], 40)
        write_some(repository, random.Random(2), 100)
        repository.journal.commit()
        yield repository


def running(repository: Repository, every_s: float) -> Pruner:
    pruner = Pruner(repository, every_s)
    pruner.start()
    return pruner


def test_it_prunes_again_and_again(repository: Repository) -> None:
    with capture_logs() as logs:
        pruner = running(repository, QUICK_S)
        try:
            eventually(lambda: len(repository.bookmarks()) == 2, "the first prune is done")
            repository.bookmark_add("more")
            write_some(repository, random.Random(3), 100)
            repository.journal.commit()
            eventually(lambda: len(repository.bookmarks()) == 2, "another prune is done")
            eventually(lambda: not repository.status().compaction.running, "it has ended")
            assert repository.status().compaction.last_ended is not None
        finally:
            pruner.stop()
    assert [line for line in logs if line["log_level"] == "error"] == []
    told = repository.events()
    assert [len(event.detail["removed"]) for event in told if event.kind == "pruned"] == [10, 1]
    first = next(event.detail for event in told if event.kind == "compacted")
    assert first["freed_bytes"] == first["predicted_bytes"] > 0
    assert first["oldest"] < first["any_instant_from"]
    assert {event.subject for event in told if event.kind == "base_moved"} == {v.name for v in repository.volumes()}


def test_it_waits_at_first(repository: Repository) -> None:
    pruner = running(repository, LONG_S)
    pruner.stop()
    assert len(repository.bookmarks()) == 12


def test_its_priority_is_low(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(_: Repository) -> Prune:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        raise BusyError("not now")

    monkeypatch.setattr(Repository, "prune", look)
    pruner = running(repository, QUICK_S)
    eventually(lambda: len(seen) > 1, "it tries again")
    pruner.stop()
    assert set(seen) == {max(NICE, os.getpriority(os.PRIO_PROCESS, 0))}


def test_a_prune_under_way_ends_with_the_server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of groups; nothing is told of it as a failure, and what stays is whole."""
    began, go_on = threading.Event(), threading.Event()

    def wait(*arguments: Any) -> Any:
        began.set()
        go_on.wait(30)
        return compact(*arguments)

    def end(journal: Journal) -> None:
        end_work(journal)
        go_on.set()

    monkeypatch.setattr("vsnapfs.repository.compactable.compact", wait)
    monkeypatch.setattr("vsnapfs.repository.parts.end_work", end)
    with capture_logs() as logs:
        pruner = running(repository, QUICK_S)
        assert began.wait(30)
        pruner.stop()
    assert [line for line in logs if line["log_level"] == "error"] == []
    with Repository.open(repository.path, owner=False) as reader:
        assert reader.check(read_data=True).damages == []
        assert not any(segment.generation for segment in reader.journal.segments()), "it went on"


def test_what_fails_is_told_once(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fail(_: Repository) -> Prune:
        tried.append(1)
        raise StoreError("Input/output error")

    monkeypatch.setattr(Repository, "prune", fail)
    pruner = running(repository, QUICK_S)
    eventually(lambda: len(tried) > 3, "it tries again")
    pruner.stop()
    (failed,) = [event for event in repository.events() if event.kind == "prune_failed"]
    assert failed.detail["reason"] == "Input/output error"


def test_problems_are_told(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    done = prune._prune

    def short(*args: Any) -> Prune:
        return msgspec.structs.replace(done(*args), fits=False)

    monkeypatch.setattr(prune, "_prune", short)
    monkeypatch.setattr("vsnapfs.repository.compactable.CompactableJournal.compact", refuse)
    Pruner(repository, LONG_S).once()
    failed = [event for event in repository.events() if event.severity == "error"]
    assert {event.kind for event in failed} == {"prune_failed", "compaction_failed"}
    assert "maximum_size" in next(event.detail["reason"] for event in failed if event.kind == "prune_failed")
    assert "block 7" in next(event.detail["reason"] for event in failed if event.kind == "compaction_failed")


def refuse(*_: object) -> None:
    raise CorruptExtentError("block 7 is damaged")


async def test_without_a_rule_there_is_no_thread(memory_path: Path) -> None:
    path = memory_path / "other"
    Repository.create(path)
    (path / "vsnapfs.toml").write_text('[retention]\nprotection_window = "1d"\n')
    with Repository.open(path, owner=True) as repository:
        async with pruning(repository):
            assert not [thread for thread in threading.enumerate() if thread.name == "vsnapfs-prune"]
    (path / "vsnapfs.toml").write_text('[retention]\nprotection_window = "1d"\nkeep_last = 1\n')
    with Repository.open(path, owner=True) as repository:
        async with pruning(repository):
            assert [thread for thread in threading.enumerate() if thread.name == "vsnapfs-prune"]
        assert not [thread for thread in threading.enumerate() if thread.name == "vsnapfs-prune"]
