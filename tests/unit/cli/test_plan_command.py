"""``plan`` by the command: what it says, with which status, and what becomes of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command
from vsnapfs.core import keeping
from vsnapfs.repository import rates
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.settings import parse

pytestmark = pytest.mark.unit

BLOCK_BYTES = 4096
BLOCKS = 100
TIMES = 3


@pytest.fixture
def written(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an hour of writes, which is a few milliseconds: each of 100 blocks was written three times."""
    with Repository.open(repository, owner=True) as opened:
        volume = opened.volume_add("db0", size_bytes=1 << 20)
        for number in range(TIMES * BLOCKS):
            opened.journal.write(volume.id, number % BLOCKS * BLOCK_BYTES, b"x" * BLOCK_BYTES)
        opened.journal.commit()
        facts = opened.journal.facts()
        monkeypatch.setattr(rates, "HOUR_NS", facts.last_time_ns - opened.journal.time_of(facts.first_seqno))
    monkeypatch.setattr(rates, "AGE_NS_MIN", 1)
    monkeypatch.setattr(rates, "HOURS_MAX", 1)
    monkeypatch.setattr(rates, "SPANS_S", ())
    return repository


def test_nothing_was_written_yet(vsnapfs: Command) -> None:
    done = vsnapfs("plan")
    assert (done.status, done.out) == (8, "")
    assert done.err.splitlines() == [
        "vsnapfs: the journal tells of 0 min of writes only; ask again when it has an hour"
    ]


def test_too_short_a_history_to_tell(vsnapfs: Command, repository: Path) -> None:
    assert vsnapfs("volume", "add", "db0", "--size", "1M").status == 0
    assert vsnapfs("bookmark", "add", "now").status == 0
    before = (repository / "vsnapfs.toml").read_bytes()
    done = vsnapfs("plan", "--write")
    assert (done.status, len(done.err.splitlines())) == (8, 1)
    assert "0 min of writes" in done.err
    assert (repository / "vsnapfs.toml").read_bytes() == before


@pytest.mark.usefixtures("written")
def test_what_it_says(vsnapfs: Command) -> None:
    done = vsnapfs("plan", "--noticed-in", "3d12h", "--recover-in", "4h")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("measured in 1 hours from ")
    assert [line.split() for line in lines[1:4]] == [
        ["VOLUME", "WRITTEN", "OVER", "AGAIN"],
        ["db0", "1.2", "MiB/h", "66", "%"],
        ["all", "1.2", "MiB/h", "66", "%"],
    ]
    assert "protection window: 84h" in lines, "as long as it may take to notice"
    assert "a bookmark every:  4h" in lines
    assert "kept behind it:    7 daily, 8 weekly, 12 monthly" in lines
    assert not any("written to vsnapfs.toml" in line for line in lines)


@pytest.mark.usefixtures("written")
def test_as_json(vsnapfs: Command) -> None:
    found = vsnapfs("plan", "--noticed-in", "14d", "--json").json()
    assert (found["protection_window"], found["bookmark_every"], found["fits"], found["short"]) == (
        "14d",
        "1h",
        True,
        False,
    )
    assert found["rates"]["written_bytes_per_hour"] == TIMES * BLOCKS * BLOCK_BYTES
    assert set(found) == set(keeping.Plan.__struct_fields__)


@pytest.mark.parametrize(
    "words",
    [["--noticed-in", "soon"], ["--recover-in", "5 apples"], ["--noticed-in", "1s"], ["--recover-in", "0s"], ["14d"]],
)
@pytest.mark.usefixtures("written")
def test_wrong_usage(vsnapfs: Command, words: list[str]) -> None:
    done = vsnapfs("plan", *words)
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_written_beside_what_people_wrote(vsnapfs: Command, written: Path) -> None:
    settings = written / "vsnapfs.toml"
    text = (
        '# Ours: do not touch.\n[retention]\nkeep_yearly = 3  # by law\nprotection_window = "1d"  # too short?\n\n'
        '# nightly, before the tapes\n[schedule.nightly]\ncron = "30 2 * * *"\n'
    )
    settings.write_text(text)
    done = vsnapfs("plan", "--noticed-in", "7d", "--write")
    assert done.status == 0
    assert done.out.splitlines()[-1] == "written to vsnapfs.toml; a server reads it at its next start"
    made = settings.read_text()
    assert [line for line in text.splitlines() if line not in made.splitlines()] == [
        'protection_window = "1d"  # too short?'
    ]
    assert 'protection_window = "7d"  # too short?' in made.splitlines()
    found = parse(made.encode(), "x")
    assert (found.retention.protection_window, found.retention.keep_daily, found.retention.keep_yearly) == ("7d", 14, 3)
    assert set(found.schedule) == {"nightly", "planned"}
    assert vsnapfs("volume", "list").status == 0, "it can be opened with them"
    assert vsnapfs("plan", "--noticed-in", "7d", "--write").status == 0
    assert settings.read_text() == made, "a second time changes nothing"


def test_settings_of_a_new_repository_and_of_one_that_has_none(vsnapfs: Command, written: Path) -> None:
    settings = written / "vsnapfs.toml"
    before = settings.read_text()
    assert vsnapfs("plan", "--write").status == 0
    assert [line for line in before.splitlines() if line not in settings.read_text().splitlines()] == []
    settings.unlink()
    assert vsnapfs("plan", "--write").status == 0
    assert parse(settings.read_bytes(), "x").retention.protection_window == "14d"


def test_no_more_room_than_maximum_size(vsnapfs: Command, written: Path) -> None:
    """What is more would be pruned again."""
    with (written / "vsnapfs.toml").open("w") as file:
        file.write('[retention]\nprotection_window = "1d"\nmaximum_size = "60M"\n')
    done = vsnapfs("plan", "--noticed-in", "14d")
    assert done.status == 0
    window = next(line for line in done.out.splitlines() if line.startswith("protection window:"))
    assert "less than 14d: there is no room for more" in window
    assert any(" of 60 MiB: " in line for line in done.out.splitlines())
    with (written / "vsnapfs.toml").open("w") as file:
        file.write('[retention]\nprotection_window = "1d"\nmaximum_size = "2M"\n')
    done = vsnapfs("plan", "--noticed-in", "14d")
    assert done.status == 8
    assert "not even room for a day" in done.out
