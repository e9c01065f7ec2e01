"""Archives onto tapes of a robot: a drive that behaves as the kernel's, a changer that answers as mtx does."""

from __future__ import annotations

import json
import random
import sys
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.tape_drive import Cartridge, EmulatedDrive
from tests.support.volumes import put
from vsnapfs.archive.request import Wanted, to_medium
from vsnapfs.archive.tapes import tape_label, tape_list, tape_retire, tape_show
from vsnapfs.archive.verifying import verify
from vsnapfs.core.errors import IntegrityError, NoSpaceError
from vsnapfs.core.state import Progress
from vsnapfs.media.kinds import open_medium
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import shelf

pytestmark = pytest.mark.unit

FAKE_MTX = Path(__file__).parents[2] / "support" / "fake_mtx.py"
VOLUME_BYTES = 2 << 20
CARTRIDGE_BYTES = 1_300_000
CLOCK = count(1_795_000_000 * 10**9)
"""Never the same twice."""


class Robot(EmulatedDrive):
    """A drive in which is what the fake mtx has put there."""

    def __init__(self, top: Path, labels: list[str], **others: Any) -> None:
        self.state = top / "state"
        self.cartridges = {
            label: Cartridge(top / label, capacity_bytes=CARTRIDGE_BYTES, warning_bytes=50_000) for label in labels
        }
        slots = {str(number): label for number, label in enumerate(labels, 1)}
        self.state.write_text(json.dumps({"slots": slots, "drive": None, "log": []}))
        self.ejected = False
        super().__init__(**others)

    def __call__(self, path: str, *, write: bool) -> Any:
        loaded = json.loads(self.state.read_text())["drive"]
        moves = self.moves()
        if moves != self.seen:
            self.seen = moves
            self.cartridge = None if loaded is None else self.cartridges[loaded["label"]]
        return super().__call__(path, write=write)

    seen: tuple[str, ...] = ()

    def moves(self) -> tuple[str, ...]:
        log = json.loads(self.state.read_text())["log"]
        return tuple(" ".join(line.split()[2:]) for line in log if "status" not in line)


def ignore(_: Progress) -> None:
    """Nobody is told."""


@pytest.fixture
def top(memory_path: Path) -> Path:
    with_settings = memory_path / "repository"
    Repository.create(with_settings)
    command = [sys.executable, str(FAKE_MTX), str(memory_path / "state"), "-f", "{device}"]
    settings = {
        "kind": "drive",
        "device": "/dev/nst0",
        "changer": "mtx",
        "block": "4K",
        "piece": "300K",
        "status": [*command, "status"],
        "load": [*command, "load", "{slot}", "{drive}"],
        "unload": [*command, "unload", "{slot}", "{drive}"],
    }
    text = "[media.lto]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (with_settings / "vsnapfs.toml").write_text(text)
    with Repository.open(with_settings, owner=True) as repository:
        repository.volume_add("db0", size_bytes=VOLUME_BYTES)
        put(repository, "db0", 0, random.Random(1).randbytes(VOLUME_BYTES))
        repository.bookmark_add("a")
        put(repository, "db0", 4096, b"more" * 1024)
        repository.bookmark_add("b")
    return memory_path


def archive(top: Path, **wanted: Any) -> list[list[str]]:
    """Returns: the tapes of each archive."""
    with Repository.open(top / "repository", owner=False) as repository:
        fields: dict[str, Any] = {"to": "lto", "verify": True} | wanted
        chosen = Wanted(**fields)
        return [each.tapes for each in to_medium(repository, chosen, ignore, partial(next, CLOCK))]


@pytest.fixture
def robot(top: Path, monkeypatch: pytest.MonkeyPatch) -> Robot:
    made = Robot(top, ["A00001", "A00002", "A00003"])
    monkeypatch.setattr("vsnapfs.media.kinds.StDevice", made)
    return made


def test_an_archive_goes_over_the_tapes_of_a_robot_and_is_read_back(top: Path, robot: Robot) -> None:
    assert archive(top, points=("a",)) == [["A00001", "A00002"]]
    assert archive(top, points=("b",), incremental=True) == [["A00002"]]
    with shelf(top / "repository") as found:
        states = {tape.label: tape.state for tape in found.tapes.tapes()}
        incremental = found.tapes.archives()[1]
        needed = found.tapes.tapes_of(found.tapes.chain(incremental.uuid))
    assert states == {"A00001": "full", "A00002": "open"}
    assert incremental.kind == "incremental"
    assert [tape.label for tape in needed] == ["A00001", "A00002"]
    assert {move.split()[0] for move in robot.moves()} == {"load", "unload"}
    shown = tape_show(top / "repository", "A00002")
    assert shown.needed_by == [entry.uuid for entry in archives_of(top)]
    assert [piece.file for piece in shown.pieces] == list(range(1, 2 * len(shown.pieces), 2))


def archives_of(top: Path) -> Any:
    with shelf(top / "repository") as found:
        return found.tapes.archives()


def test_damage_on_a_tape_is_told_when_it_is_read_back(top: Path, robot: Robot) -> None:
    archive(top, points=("a",))
    robot.cartridges["A00001"].damaged = {7}
    with (
        shelf(top / "repository") as found,
        closing(open_medium("lto", found.media["lto"])) as medium,
        pytest.raises(IntegrityError, match=r"piece 0 of .* was not read back as it was written"),
    ):
        verify(found.tapes, medium, found.tapes.archives()[0], ignore)


def test_a_robot_whose_tapes_are_all_full_says_so_and_goes_on_when_there_is_one(top: Path, robot: Robot) -> None:
    archive(top, points=("a",))
    with pytest.raises(NoSpaceError, match="no tape of lto can be written to"):
        archive(top, points=("b",))
    assert archives_of(top)[1].state == "failed"
    tape_retire(top / "repository", "A00001", force=True)
    (tapes,) = archive(top, points=("b",), resume=True)
    assert tapes[-1] == "A00001"
    states = {entry.point.bookmark: entry.state for entry in archives_of(top)}
    assert states == {"a": "lost", "b": "complete"}


def test_a_tape_is_labelled_by_its_barcode(top: Path, robot: Robot) -> None:
    tape = tape_label(top / "repository", "lto", "A00002", note="offsite")
    assert (tape.label, tape.note, tape.generation) == ("A00002", "offsite", 1)
    assert robot.moves() == ("load 2 0",)
    listed = tape_list(top / "repository", look=True)
    assert [tape.label for tape in listed.tapes] == ["A00002"]
    assert [each.label for each in listed.strangers] == ["A00001", "A00003"]


def test_archives_that_an_older_catalog_does_not_know_stay_on_their_tape(top: Path, robot: Robot) -> None:
    catalog = top / "repository" / "tapes.db"
    archive(top, points=("a",))
    older = catalog.read_bytes()
    archive(top, points=("b",), incremental=True)
    with shelf(top / "repository") as found:
        (forgotten,) = found.tapes.pieces(found.tapes.archives()[1].uuid)
    catalog.write_bytes(older)
    archive(top, points=("b",), incremental=True)
    with shelf(top / "repository") as found:
        (piece,) = found.tapes.pieces(found.tapes.archives()[1].uuid)
    assert piece.tape_uuid == forgotten.tape_uuid
    assert piece.file == forgotten.file + 2
