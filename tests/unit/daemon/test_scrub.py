"""The server's own reading of everything: in passes, at low priority, goes on where it was, tells damage at once."""

from __future__ import annotations

import ctypes
import platform
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.volumes import flip_bit, mark
from tests.support.waiting import eventually
from vsnapfs.core.findings import Damage
from vsnapfs.core.state import Status
from vsnapfs.core.times import NS_PER_S, iso
from vsnapfs.daemon.scrub import Scrubber
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.units import Kind, Unit

SIZE = 128 << 10
QUICK_S = 0.2
LONG_S = 30 * 86400.0
FIRST = "journal/00000000000000000001.seg"
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
IDLE = 3


@pytest.fixture
def repository(memory_path: Path) -> Iterator[Repository]:
    """A base, five sealed segments, an open one."""
    path, rng = memory_path / "repository", random.Random(2)
    image = memory_path / "disk.img"
    image.write_bytes(rng.randbytes(SIZE))
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("ext", primary=image)
        repository.volume_add("db0", size_bytes=SIZE)
        for number in range(5):
            mark(repository, "db0", number * 4096, b"needle%d" % number + rng.randbytes(5000), f"b{number}")
            repository.journal.seal()
        mark(repository, "db0", 65536, rng.randbytes(100), "open")
        yield repository


class Running:
    """A scrubber until the block is left."""

    def __init__(self, repository: Repository, every_s: float) -> None:
        self.scrubber = Scrubber(repository, every_s)

    def __enter__(self) -> Scrubber:
        self.scrubber.start()
        return self.scrubber

    def __exit__(self, *_: object) -> None:
        self.scrubber.stop()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Unit]:
    """The units that scrubs read, as they come."""
    units: list[Unit] = []
    real = Repository.scrub_unit

    def noted(self: Repository, unit: Unit) -> list[Damage]:
        units.append(unit)
        return real(self, unit)

    monkeypatch.setattr(Repository, "scrub_unit", noted)
    return units


def passed(repository: Repository) -> bool:
    return repository.scrub_progress().last_ended is not None


def test_a_pass_reads_everything_once(repository: Repository, read: list[Unit]) -> None:
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
    kinds = [unit.kind for unit in read[:8]]
    assert kinds == [Kind.STRUCTURE, Kind.BASE, *[Kind.SEGMENT] * 6]
    assert sum(unit.held_bytes for unit in read[:8]) == SIZE + repository.journal.facts().journal_bytes
    status = repository.status()
    assert status.problems == []
    assert status.scrub.last_began is not None
    assert status.scrub.damages == []
    assert status.scrub.every_s == LONG_S, "of the settings"


def test_a_pass_is_spread_over_its_time(
    repository: Repository, read: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsnapfs.daemon.scrub.FIRST_S_MAX", 0)
    with Running(repository, LONG_S) as scrubber:
        eventually(lambda: len(read) > 0, "the structure")
        assert scrubber._due(0.5) - scrubber._due(0.0) == LONG_S / 2
    assert read == [read[0]], "the next unit was not due for days"


def test_while_it_waits_it_keeps_nothing_that_was_replaced(
    repository: Repository, read: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for days: files that a compaction has replaced would take their room so long."""
    monkeypatch.setattr("vsnapfs.daemon.scrub.FIRST_S_MAX", 0)
    waits, wait_until = threading.Event(), Scrubber._wait_until

    def noted(self: Scrubber, wall_s: float) -> None:
        waits.set()
        wait_until(self, wall_s)

    monkeypatch.setattr(Scrubber, "_wait_until", noted)
    with Running(repository, LONG_S):
        assert waits.wait(30), "it has read the structure, and waits"
        assert len(read) == 1
        retention = msgspec.structs.replace(repository.settings.retention, protection_window="1ms", keep_last=1)
        repository._parts.settings = msgspec.structs.replace(repository.settings, retention=retention)
        result = repository.prune()
        assert result.freed_bytes > 0
        assert (result.problems, result.waiting_files) == ([], 0)


def test_it_does_not_wait_for_ever_by_a_clock_that_was_set_back(repository: Repository, read: list[Unit]) -> None:
    """The next unit is due in a year, by the clock of now; nobody waits longer than a pass."""
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
    before = repository.scrub_progress()
    later = iso(time.time_ns() + 365 * 86400 * NS_PER_S)
    repository.scrub_keep(type(before)(began=later, next=read[1], last_ended=before.last_ended))
    read.clear()
    with Running(repository, QUICK_S):
        eventually(lambda: len(read) >= 2, "units that are not due are read", deadline_s=30)
    assert [unit.kind for unit in read[:2]] == [Kind.BASE, Kind.SEGMENT]


def test_a_pass_goes_on_where_it_was(repository: Repository, read: list[Unit]) -> None:
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
    whole = read[:8]
    unit = whole[4]
    before = repository.scrub_progress()
    half = type(before)(began=before.last_began, next=unit, done_bytes=sum(u.held_bytes for u in whole[:4]))
    repository.scrub_keep(half)
    read.clear()
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "the rest of the pass")
    assert read[:4] == whole[4:]
    assert repository.scrub_progress().last_began == before.last_began


def test_damage_is_told_at_once_and_with_its_cost(repository: Repository) -> None:
    path = repository.path / FIRST
    sound = path.read_bytes()
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
        flip_bit(path, b"needle0")

        def damaged() -> Status | None:
            status = repository.status()
            return status if status.scrub.damages else None

        status = eventually(damaged, "the damage")
        assert status is not None
        assert not status.protected
        (problem,) = [problem for problem in status.problems if "damaged" in problem and "offset" in problem]
        assert "costs b0/db0, b1/db0, b2/db0, b3/db0 and 2 more: see vsnapfs check" in problem
        assert FIRST in problem
        path.write_bytes(sound)
        eventually(lambda: not repository.status().problems, "that it is gone")
    told = [event.detail for event in repository.events(kinds=["damage_found"])]
    assert told
    assert "b0/db0" in told[0]["costs"] + told[-1]["costs"]
    assert len({entry["what"] for entry in told}) == len(told), "told again"


def test_a_server_that_starts_looks_again_at_what_was_damaged(
    repository: Repository, read: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the pass that found it began just now, and the next unit is due in days."""
    path = repository.path / FIRST
    sound = path.read_bytes()
    flip_bit(path, b"needle0")
    with Running(repository, QUICK_S):
        eventually(lambda: repository.status().scrub.damages, "the damage")
        eventually(lambda: passed(repository), "a pass")
    path.write_bytes(sound)
    assert repository.status().scrub.damages, "nobody has looked"
    monkeypatch.setattr("vsnapfs.daemon.scrub.FIRST_S_MAX", 0)
    with Running(repository, LONG_S):
        eventually(lambda: not repository.status().scrub.damages, "that it is gone")


def test_a_segment_that_goes_is_told(repository: Repository) -> None:
    path = sorted((repository.path / "journal").glob("*.seg"))[2]
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
        shutil.move(path, repository.path / "aside")
        eventually(lambda: repository.status().scrub.damages, "the damage")
        shutil.move(repository.path / "aside", path)
        eventually(lambda: not repository.status().scrub.damages, "that it is gone")


def test_nothing_at_all_can_be_opened_by_others(repository: Repository) -> None:
    path = repository.path / FIRST
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
        shutil.move(path, repository.path / "aside")
        eventually(lambda: any(d.lost_first_seqno == 1 for d in repository.status().scrub.damages), "the damage")
        shutil.move(repository.path / "aside", path)
        eventually(lambda: not repository.status().scrub.damages, "that it is gone")


def test_its_reads_wait_for_others(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    number = SYS_IOPRIO_GET.get(platform.machine())
    if number is None:
        pytest.skip("the number of ioprio_get is not known for this machine")
    libc = ctypes.CDLL(None)

    def priority() -> int:
        return int(libc.syscall(number, 1, 0)) >> 13

    classes: list[int] = []

    def noted(*_: object) -> list[Damage]:
        classes.append(priority())
        return []

    monkeypatch.setattr(Repository, "scrub_unit", noted)
    with Running(repository, QUICK_S):
        eventually(lambda: classes, "a unit")
    assert set(classes) == {IDLE}
    assert priority() != IDLE


def test_it_ends_at_once(repository: Repository) -> None:
    scrubber = Scrubber(repository, LONG_S)
    scrubber.start()
    scrubber.stop()
    assert "vsnapfs-scrub" not in {thread.name for thread in threading.enumerate()}


SENSELESS = {
    "empty": b"",
    "half": b"{",
    "newer": b'{"format": 2}',
    "no text": b"\xff" * 100,
    "no unit": b'{"next": [9, 9, 9, 9]}',
    "deep": b'{"x":' + b"[" * 99999,
}


@pytest.mark.parametrize("content", SENSELESS.values(), ids=SENSELESS)
def test_a_file_that_makes_no_sense_is_kept_and_a_pass_begins_anew(repository: Repository, content: bytes) -> None:
    path = repository.path / "scrub.json"
    path.write_bytes(content)
    assert repository.status().scrub.began is None
    with Running(repository, QUICK_S):
        eventually(lambda: passed(repository), "a pass")
    assert path.with_name("scrub.json.bad").read_bytes() == content
