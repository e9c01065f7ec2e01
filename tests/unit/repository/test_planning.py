"""Rates out of a real journal, and a plan that is written into its settings. The journal's hours are a few milliseconds here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsnapfs.core.errors import DegradedError, PointGoneError, ReadOnlyError, UsageError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.repository import rates
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.settings import parse

BLOCK_BYTES = 4096
MIB = 1 << 20


@pytest.fixture
def repository(memory_path: Path) -> Iterator[Repository]:
    path = memory_path / "repository"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("spread", size_bytes=MIB)
        repository.volume_add("same", size_bytes=MIB)
        yield repository


@pytest.fixture
def short_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is written lies in one hour."""
    monkeypatch.setattr(rates, "AGE_NS_MIN", 1)
    monkeypatch.setattr(rates, "HOURS_MAX", 1)
    monkeypatch.setattr(rates, "SPANS_S", ())


def write(repository: Repository, name: str, blocks: list[int]) -> None:
    volume = repository.volume(name).id
    for block in blocks:
        repository.journal.write(volume, block * BLOCK_BYTES, b"x" * BLOCK_BYTES)
    repository.journal.commit()


def one_hour(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour is from the first record to the last."""
    facts = repository.journal.facts()
    span_ns = facts.last_time_ns - repository.journal.time_of(facts.first_seqno)
    monkeypatch.setattr(rates, "HOUR_NS", span_ns)


@pytest.mark.usefixtures("short_hours")
def test_what_is_written_over_again_is_told(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "spread", list(range(100)))
    write(repository, "same", [7] * 50)
    one_hour(repository, monkeypatch)
    found = repository.plan(noticed_in_s=86400, recover_in_s=3600).rates
    told = {rate.volume: (rate.written_bytes_per_hour, rate.rewritten_percent) for rate in found.volumes}
    assert told == {"spread": (100 * BLOCK_BYTES, 0), "same": (50 * BLOCK_BYTES, 98)}
    assert found.written_bytes_per_hour == found.peak_bytes_per_hour == 150 * BLOCK_BYTES
    assert found.rewritten_percent == 100 * 49 // 150


@pytest.mark.usefixtures("short_hours")
def test_of_a_busy_hour_a_part_is_counted(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "spread", [block % 200 for block in range(1000)])
    one_hour(repository, monkeypatch)
    monkeypatch.setattr(rates, "PIECES_MAX", 100)
    found = repository.plan(noticed_in_s=86400, recover_in_s=3600).rates
    assert found.written_bytes_per_hour == pytest.approx(1000 * BLOCK_BYTES, rel=0.02)


@pytest.mark.usefixtures("short_hours")
def test_a_small_write_takes_a_block(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = repository.volume("same").id
    repository.journal.write(volume, 100, b"x")
    repository.journal.write(volume, BLOCK_BYTES - 1, b"xy")
    repository.journal.commit()
    one_hour(repository, monkeypatch)
    assert repository.plan(noticed_in_s=86400, recover_in_s=3600).rates.written_bytes_per_hour == 3 * BLOCK_BYTES


@pytest.mark.usefixtures("short_hours")
def test_a_prune_meanwhile_is_no_error(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "spread", list(range(100)))
    one_hour(repository, monkeypatch)
    changed = rates._changed_between
    gone: list[int] = []

    def as_it_goes(parts: Parts, since: int, until: int) -> Counter[int]:
        if not gone:
            gone.append(since)
            raise PointGoneError(f"@{since} is gone", seqno=since)
        return changed(parts, since, until)

    monkeypatch.setattr(rates, "_changed_between", as_it_goes)
    assert repository.plan(noticed_in_s=86400, recover_in_s=3600).rates.written_bytes_per_hour == 100 * BLOCK_BYTES


def test_before_an_hour_nothing_is_proposed(repository: Repository) -> None:
    write(repository, "same", [1])
    with pytest.raises(DegradedError, match="tells of 0 min of writes only"):
        repository.plan(noticed_in_s=86400, recover_in_s=3600)


@pytest.mark.usefixtures("short_hours")
def test_times_have_to_be_times(repository: Repository) -> None:
    with pytest.raises(UsageError, match="a minute and more"):
        repository.plan(noticed_in_s=1, recover_in_s=3600)


@pytest.mark.usefixtures("short_hours")
def test_it_is_written_beside_what_people_wrote(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "spread", [1, 2, 3])
    one_hour(repository, monkeypatch)
    path = repository.path / "vsnapfs.toml"
    path.write_text(
        '# ours\n[retention]\nkeep_yearly = 3  # by law\nprotection_window = "1d"\n\n[schedule.ours]\nevery = "1d"\n'
    )
    assert not repository.plan(noticed_in_s=7 * 86400, recover_in_s=3600).written
    before = path.read_text()
    written = repository.plan(noticed_in_s=7 * 86400, recover_in_s=3600, write=True)
    assert written.written
    text = path.read_text()
    assert [line for line in before.splitlines() if line not in text] == ['protection_window = "1d"']
    found = parse(text.encode(), "x")
    assert found.retention.protection_window_ns == 7 * 86400 * NS_PER_S
    assert (found.retention.keep_daily, found.retention.keep_yearly) == (14, 3)
    assert {name: schedule.every for name, schedule in found.schedule.items()} == {"ours": "1d", "planned": "1h"}


@pytest.mark.usefixtures("short_hours")
def test_settings_that_cannot_be_changed_stay(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "spread", [1, 2, 3])
    one_hour(repository, monkeypatch)
    path = repository.path / "vsnapfs.toml"
    path.write_text("[retention\n")
    with pytest.raises(UsageError, match="cannot be read"):
        repository.plan(noticed_in_s=7 * 86400, recover_in_s=3600, write=True)
    assert path.read_text() == "[retention\n"


def test_a_reader_writes_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "AGE_NS_MIN", 1)
    write(repository, "spread", [1, 2, 3])
    one_hour(repository, monkeypatch)
    with Repository.open(repository.path, owner=False) as reader, pytest.raises(ReadOnlyError):
        reader.plan(noticed_in_s=7 * 86400, recover_in_s=3600, write=True)
