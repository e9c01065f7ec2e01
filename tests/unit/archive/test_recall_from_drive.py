"""Recall from tapes in a drive that a person changes: one pass over each, and blocks that cannot be read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archived import Archived, changed, image, images_in, recall_from
from tests.support.tape_drive import Cartridge, EmulatedDrive
from vsnapfs.archive.damage import Damage
from vsnapfs.archive.given import GivenTapes, Unread, slots_of_medium
from vsnapfs.archive.inspection import inspect
from vsnapfs.archive.inventory import Inventory
from vsnapfs.archive.scan import look
from vsnapfs.core.errors import NotFoundError
from vsnapfs.core.state import Progress
from vsnapfs.media.kinds import open_medium
from vsnapfs.media.medium import Medium
from vsnapfs.policy.media import DriveSettings

pytestmark = pytest.mark.unit
SIZE = 1 << 20
LABELS = ("T00001", "T00002", "T00003")


def ignore(_: Progress) -> None:
    """Nobody is told."""


class Person:
    """Puts in the cartridge whose label is asked for, or else the next one that was never used."""

    def __init__(self, drive: EmulatedDrive, cartridges: list[Cartridge]) -> None:
        self.drive, self.cartridges = drive, cartridges
        self.asked: list[str] = []
        self._used = 0

    def __call__(self, line: str) -> None:
        labels = [label for label in LABELS if label in line]
        self.asked.append(labels[0] if labels else "blank")
        number = LABELS.index(labels[0]) if labels and "blank" not in line else self._used
        self._used = max(self._used, number + 1)
        self.drive.cartridge = self.cartridges[number]


class Ground:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path.mkdir()
        self.cartridges = [Cartridge(path / label, capacity_bytes=400_000, warning_bytes=50_000) for label in LABELS]
        self.drive = EmulatedDrive()
        self.person = Person(self.drive, self.cartridges)
        monkeypatch.setattr("vsnapfs.media.kinds.StDevice", self.drive)
        settings = DriveSettings(device="/dev/nst0", changer="prompt", block="4K", piece="96K")
        self.medium: Medium = open_medium("lto", settings, self.person)
        self.archived = Archived(path / "archived", piece=96 << 10, medium=self.medium)

    def given(self) -> GivenTapes:
        return GivenTapes(slots_of_medium(self.medium, LABELS), [self.medium])


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    made = Ground(tmp_path / "drive", monkeypatch)
    rng = random.Random(5)
    images = {"db0": image(rng, SIZE, 120), "db1": image(rng, SIZE, 10)}
    made.archived.archive(images)
    made.archived.archive({name: changed(rng, content, 12) for name, content in images.items()}, since=True)
    made.person.asked.clear()
    yield made
    made.archived.close()


def test_each_tape_is_put_in_once_to_look_and_once_to_read(ground: Ground, tmp_path: Path) -> None:
    done = recall_from(ground.given(), tmp_path / "to")
    assert images_in(tmp_path / "to") == ground.archived.points[-1][1]
    assert (done.flaws, done.lost) == ([], [])
    assert ground.person.asked == [*LABELS, *LABELS]


def test_a_block_that_cannot_be_read_costs_what_is_in_it(ground: Ground, tmp_path: Path) -> None:
    ground.cartridges[1].damaged = {9}
    done = recall_from(ground.given(), tmp_path / "to")
    assert done.flaws
    assert 0 < sum(lost.length_bytes for lost in done.lost) <= 96 << 10
    for name, content in ground.archived.points[-1][1].items():
        expected = bytearray(content)
        for lost in done.lost:
            if lost.volume == name:
                assert lost.tape == "T00002"
                expected[lost.offset_bytes : lost.end_bytes] = bytes(lost.length_bytes)
        assert (tmp_path / "to" / name).read_bytes() == expected


def test_whole_tapes_in_a_drive_are_verified(ground: Ground) -> None:
    unread: list[Unread] = []
    assert all(one.is_sound for one in inspect(ground.given(), [], Inventory(), ignore, unread))
    ground.cartridges[2].damaged = {6}
    found = {one.label: one for one in inspect(ground.given(), ["T00001", "T00003"], Inventory(), ignore, unread)}
    assert found["T00001"].is_sound
    assert not found["T00003"].is_sound
    assert unread == []


def test_a_tape_that_is_not_brought_keeps_none_of_the_others_from_being_verified(ground: Ground) -> None:
    ground.cartridges[1].path.write_bytes(b"")
    unread: list[Unread] = []
    found = list(inspect(ground.given(), LABELS, Inventory(), ignore, unread))
    assert ([one.label for one in found], all(one.is_sound for one in found)) == (["T00001", "T00003"], True)
    (one,) = unread
    assert (one.place, type(one.error)) == ("T00002", NotFoundError)


def test_what_is_on_them_is_what_the_catalog_knew(ground: Ground) -> None:
    known = look(ground.given(), Damage())
    assert known.found().archives == tuple(ground.archived.catalog.archives())
    assert [piece for one in known.listed() for piece in known.pieces_of(one.uuid)] == [
        piece for one in ground.archived.catalog.archives() for piece in ground.archived.catalog.pieces(one.uuid)
    ]


def test_another_tape_than_was_asked_for_is_refused(ground: Ground, tmp_path: Path) -> None:
    ground.cartridges[1].path.write_bytes(b"")
    with pytest.raises(NotFoundError, match="T00002"):
        recall_from(ground.given(), tmp_path / "to")
