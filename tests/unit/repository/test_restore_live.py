"""Live volumes brought back: between two bookmarks, only what differs, and undone by the first of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.devices import loop_device
from tests.support.volumes import content_at, discard, mark, put
from vsnapfs.core.errors import (
    BusyError,
    DegradedError,
    IntegrityError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from vsnapfs.core.state import Progress
from vsnapfs.repository.live_volume import LiveVolume
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit
SIZE = 4 << 20
MIB = 1 << 20
BLOCK = 4096
SEED = 20261126


@pytest.fixture
def live(repository: Repository) -> Repository:
    """With a thin volume ``db`` that was written to, and the bookmark ``good`` on that."""
    repository.volume_add("db", size_bytes=SIZE)
    mark(repository, "db", 0, random.Random(1).randbytes(2 * MIB), "good")
    return repository


def primary(repository: Repository, name: str = "db") -> bytes:
    return Path(repository.volume(name).primary_path or "").read_bytes()


def journalled(repository: Repository, after: int) -> int:
    """Bytes that records after a seqno put into volumes."""
    return sum(piece.length_bytes for piece in repository.journal.pieces(after))


def test_it_is_as_it_was_and_undone_as_it_had_been(live: Repository) -> None:
    good = content_at(live, "db", "good")
    put(live, "db", 100 * BLOCK, b"bad" * BLOCK)
    discard(live, "db", 0, 3 * BLOCK)
    put(live, "db", 3 * MIB, b"new")
    live.bookmark_add("bad")
    bad = content_at(live, "db", "bad")
    done = live.restores.live("db", "good")
    assert primary(live) == good == content_at(live, "db", done.after.name)
    assert content_at(live, "db", done.before.name) == bad
    assert done.changed_bytes == (3 + 3 + 1) * BLOCK == journalled(live, done.before.seqno)
    assert done.undo == [f"vsnapfs restore {done.before.name} db --live"]
    assert done.before.seqno < done.after.seqno
    undone = live.restores.live("db", done.before.name)
    assert primary(live) == bad == content_at(live, "db", undone.after.name)
    assert undone.changed_bytes == done.changed_bytes
    assert [event.kind for event in live.events(kinds=["restored"])] == ["restored", "restored"]


def test_what_was_written_and_is_the_same_again_is_not_written(live: Repository) -> None:
    good = content_at(live, "db", "good")
    put(live, "db", 0, b"x" * MIB)
    put(live, "db", 0, good[: MIB - BLOCK])
    done = live.restores.live("db", "good")
    assert done.changed_bytes == BLOCK
    assert primary(live) == good


def test_to_the_point_that_it_is_at(live: Repository) -> None:
    done = live.restores.live("db", "good")
    assert done.changed_bytes == 0
    assert done.after.seqno == done.before.seqno + 1


def test_only_its_own_volume_is_touched(live: Repository) -> None:
    live.volume_add("log", size_bytes=MIB)
    put(live, "db", 0, b"bad")
    put(live, "log", 0, b"stays")
    live.restores.live("db", "good")
    assert primary(live, "log")[:5] == b"stays"


@pytest.mark.parametrize("number", range(12))
def test_random_histories(repository: Repository, number: int) -> None:
    """To every bookmark, in any order, with changes of size between."""
    rng = random.Random(SEED + number)
    print(f"seed {SEED + number}")
    repository.volume_add("db", size_bytes=MIB)
    contents: dict[str, bytes] = {}
    for step in range(8):
        for _ in range(rng.randrange(1, 6)):
            size = repository.volume("db").size_bytes
            at, length = rng.randrange(size), rng.randrange(1, 60_000)
            if rng.random() < 0.6:
                put(repository, "db", at, rng.randbytes(min(length, size - at)))
            else:
                discard(repository, "db", at, min(length, size - at))
        if rng.random() < 0.5:
            repository.volume_resize("db", rng.randrange(1, 4096) * 512)
        repository.bookmark_add(f"b{step}")
        contents[f"b{step}"] = content_at(repository, "db", f"b{step}")
    for name in rng.choices(sorted(contents), k=6):
        now = content_at(repository, "db", "-0s")
        done = repository.restores.live("db", name)
        assert primary(repository) == contents[name]
        assert repository.volume("db").size_bytes == len(contents[name])
        shorter, longer = sorted([now, contents[name]], key=len)
        grown = shorter + bytes(len(longer) - len(shorter))
        blocks = range(0, len(contents[name]), BLOCK)
        most = sum(grown[at : at + BLOCK] != longer[at : at + BLOCK] for at in blocks) * BLOCK
        assert done.changed_bytes <= most
        contents[done.before.name] = now
    assert repository.check(read_data=True).damages == []


def test_a_volume_that_shrank_and_grew_again(live: Repository) -> None:
    good = content_at(live, "db", "good")
    live.volume_resize("db", BLOCK)
    live.volume_resize("db", SIZE)
    assert primary(live)[BLOCK:] == bytes(SIZE - BLOCK)
    live.restores.live("db", "good")
    assert primary(live) == good


def test_another_volume_of_that_name(live: Repository) -> None:
    """Nothing is known of what differs: all is compared."""
    good = content_at(live, "db", "good")
    live.volume_remove("db")
    live.volume_add("db", size_bytes=SIZE)
    put(live, "db", 3 * MIB, b"other" * BLOCK)
    done = live.restores.live("db", "good")
    assert primary(live) == good
    assert done.changed_bytes == 2 * MIB + 5 * BLOCK


def test_a_volume_without_a_primary(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(random.Random(1).randbytes(MIB))
    repository.import_images({"db": image}, "one")
    first = image.read_bytes()
    image.write_bytes(first[: 5 * BLOCK] + os.urandom(BLOCK) + first[6 * BLOCK :])
    repository.import_images({"db": image}, "two")
    done = repository.restores.live("db", "one")
    assert content_at(repository, "db", done.after.name) == first
    assert done.changed_bytes == BLOCK


def test_what_cannot_be_done_is_refused_before_anything(live: Repository, memory_path: Path) -> None:
    live.bookmark_add("before-taken")
    live.bookmark_add("after-late")
    (memory_path / "old").write_bytes(bytes(MIB))
    live.volume_add("old", primary=memory_path / "old")
    live.volume_remove("old")
    was = live.journal.facts().last_seqno
    refused: list[tuple[str, str, str | None, type[Exception]]] = [
        ("dbb", "good", None, NotFoundError),
        ("db", "goot", None, NotFoundError),
        ("db", "not a point", None, UsageError),
        ("db", "good", "a/b", UsageError),
        ("db", "good", "taken", NameTakenError),
        ("db", "good", "late", NameTakenError),
        ("old", "good", None, NotFoundError),
        ("old", "@5", None, NotFoundError),
    ]
    for volume, source, name, error in refused:
        with pytest.raises(error):
            live.restores.live(volume, source, name)
    assert live.journal.facts().last_seqno == was


def test_a_primary_that_is_not_there(path: Path, memory_path: Path) -> None:
    disk = memory_path / "disk"
    disk.write_bytes(bytes(MIB))
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", primary=disk)
        repository.bookmark_add("good")
    disk.unlink()
    with Repository.open(path, owner=True) as repository, pytest.raises(DegradedError):
        repository.restores.live("db", "good")


def test_a_reader_restores_nothing(live: Repository, path: Path) -> None:
    with Repository.open(path, owner=False) as reader, pytest.raises(ReadOnlyError):
        reader.restores.live("db", "good")


def test_broken_off_and_done_again_under_the_same_name(live: Repository) -> None:
    """As a command does it whose server was killed: the first bookmark is that of before everything."""
    good = content_at(live, "db", "good")
    put(live, "db", 0, b"x" * 2 * MIB)
    live.bookmark_add("bad")
    calls: list[Progress] = []

    def break_off(progress: Progress) -> None:
        calls.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.restores.live("db", "good", "r", break_off)
    assert calls
    live.bookmark_add("half")
    assert content_at(live, "db", "half") not in (good, content_at(live, "db", "bad"))
    done = live.restores.live("db", "good", "r")
    assert primary(live) == good
    assert content_at(live, "db", done.before.name) == content_at(live, "db", "bad")
    assert done.changed_bytes == 2 * MIB - MIB
    again = live.restores.live("db", "good", "r")
    assert (again.before, again.after, again.changed_bytes) == (done.before, done.after, 0)


def test_a_name_that_was_used_and_written_after(live: Repository) -> None:
    """The bookmark after it is not what the volume would be then."""
    live.restores.live("db", "good", "r")
    put(live, "db", 0, b"later")
    was = live.journal.facts().last_seqno
    with pytest.raises(NameTakenError):
        live.restores.live("db", "good", "r")
    assert live.journal.facts().last_seqno == was


def test_what_fails_half_way_says_what_undoes_it(live: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    put(live, "db", 0, b"bad")
    live.bookmark_add("bad")

    def fail(_: LiveVolume) -> None:
        raise NoSpaceError("the disk is full", hint="make room")

    with monkeypatch.context() as broken:
        broken.setattr(LiveVolume, "settle", fail)
        with pytest.raises(NoSpaceError) as caught:
            live.restores.live("db", "good")
    said = str(caught.value)
    assert said.startswith(
        "the disk is full; make room; do it again to complete it; what is written is undone by `vsnapfs "
    )
    words = said.rpartition("`vsnapfs ")[2].rstrip("`").split()
    assert (words[0], words[2:]) == ("restore", ["db", "--live"])
    live.restores.live("db", words[1])
    assert primary(live) == content_at(live, "db", "bad")


def test_progress_goes_from_nothing_to_all(live: Repository) -> None:
    put(live, "db", 0, b"x" * 2 * MIB)
    told: list[Progress] = []
    live.restores.live("db", "good", None, told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total) == (SIZE, SIZE)


def test_a_primary_that_does_not_keep_what_is_written(live: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    put(live, "db", 5 * BLOCK, b"bad")
    place = Path(live.volume("db").primary_path or "")
    settle = LiveVolume.settle

    def lose(volume: LiveVolume) -> None:
        settle(volume)
        with place.open("r+b") as disk:
            disk.seek(5 * BLOCK + 7)
            disk.write(b"lost")

    monkeypatch.setattr(LiveVolume, "settle", lose)
    with pytest.raises(IntegrityError, match=f"does not read back at {5 * BLOCK + 7}"):
        live.restores.live("db", "good")


@pytest.mark.requires_root
def test_what_is_read_back_comes_from_the_primary(
    repository: Repository, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from the page cache, which has what was written whatever became of it."""
    (memory_path / "disk").write_bytes(random.Random(1).randbytes(MIB))
    settle = LiveVolume.settle

    def lose(volume: LiveVolume) -> None:
        settle(volume)
        with (memory_path / "disk").open("r+b") as disk:
            disk.seek(5 * BLOCK + 7)
            disk.write(b"lost")

    with loop_device(memory_path / "disk") as device:
        repository.volume_add("db", primary=device)
        repository.bookmark_add("good")
        put(repository, "db", 5 * BLOCK, b"bad")
        monkeypatch.setattr(LiveVolume, "settle", lose)
        with pytest.raises(IntegrityError, match=f"does not read back at {5 * BLOCK + 7}"):
            repository.restores.live("db", "good")
        repository.volume_remove("db")


def test_somebody_who_writes_meanwhile_is_noticed(live: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    put(live, "db", 5 * BLOCK, b"bad")
    settle = LiveVolume.settle

    def write_before(volume: LiveVolume) -> None:
        put(live, "db", 5 * BLOCK, b"worse")
        settle(volume)

    monkeypatch.setattr(LiveVolume, "settle", write_before)
    with pytest.raises(BusyError, match="written to meanwhile"):
        live.restores.live("db", "good")


@pytest.mark.parametrize("place", [5 * BLOCK, 3 * MIB])
def test_also_where_nothing_was_to_be_restored_or_before_it_was(
    live: Repository, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """What was written over, and what reads back as it should, was somebody's write all the same."""
    good = content_at(live, "db", "good")
    put(live, "db", 5 * BLOCK, b"bad")
    write = LiveVolume.write

    def after_another(volume: LiveVolume, offset_bytes: int, content: bytes) -> None:
        put(live, "db", place, b"theirs")
        write(volume, offset_bytes, content)

    monkeypatch.setattr(LiveVolume, "write", after_another)
    with pytest.raises(BusyError, match="written to meanwhile"):
        live.restores.live("db", "good", "r")
    monkeypatch.undo()
    assert live.restores.live("db", "good", "r").before.name == "before-r"
    assert primary(live) == good
