"""Tapes that do not answer: what they have is taken from other copies, or asked for again, and is never taken for zeros."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.archived import Archived, changed, ignore, image, right_or_named
from vsnapfs.archive.chain import chosen, plan
from vsnapfs.archive.damage import Damage
from vsnapfs.archive.given import GivenTapes, slots_of_path
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Options
from vsnapfs.archive.places import Known
from vsnapfs.archive.recall import Recall, Recalled
from vsnapfs.archive.scan import look
from vsnapfs.core.errors import BusyError, NotFoundError, StoreError
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.tape import TapeReader, Writable

pytestmark = pytest.mark.unit
SIZE = 1 << 20
RUNS = 4
FIRE = "the drive is on fire"
TAKEN = "somebody else has the drive"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Archived]:
    made = Archived(tmp_path / "archived", capacity=400 << 10, piece=96 << 10)
    yield made
    made.close()


class _Failing:
    """Reads so many bytes, and fails then."""

    def __init__(self, reader: TapeReader, left_bytes: int) -> None:
        self._reader, self._left = reader, left_bytes

    def readinto(self, buffer: Writable) -> int:
        if self._left <= 0:
            raise StoreError(FIRE)
        count = self._reader.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._reader.close()


class Media:
    """Tape files of pools that fail by chance, each at the same place again, while ``fails``."""

    def __init__(self, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self._rng = rng
        self._bad: dict[tuple[str, int], int | None] = {}
        self.sound = PoolTape.open
        monkeypatch.setattr(PoolTape, "open", lambda tape, number: self.open(tape, number))  # noqa: PLW0108  a method

    def open(self, tape: PoolTape, number: int) -> TapeReader:
        if not self.fails:
            return self.sound(tape, number)
        rng = self._rng
        left = self._bad.setdefault((tape.name, number), rng.choice((0, 1_000, 70_000)) if rng.random() < 0.1 else None)
        if left is None:
            return self.sound(tape, number)
        if not left:
            raise BusyError(TAKEN)
        return _Failing(self.sound(tape, number), left)


def archived(ground: Archived, rng: random.Random, copies: str) -> list[Path]:
    """A chain, or an archive and a copy of it. Returns: where the tapes are."""
    images = {"db0": image(rng, SIZE, 60), "db1": image(rng, SIZE // 2, 10)}
    ground.archive(images)
    if copies == "chain":
        ground.archive({name: changed(rng, content, 12) for name, content in images.items()}, since=True)
    if copies != "tapes":
        ground.archive_again()
        return [ground.path]
    copied = ground.path.parent / "copied"
    shutil.copytree(ground.path, copied)
    return [ground.path, copied]


def attempt(places: list[Path], media: Media, to: Path, *, resume: bool) -> Recalled:
    with closing(GivenTapes([slot for path in places for slot in slots_of_path(path)])) as given:
        media.fails = False
        damage = Damage()
        known = look(given, damage)
        found = plan(known, chosen(known, "latest"))
        media.fails = not resume
        with closing(Landing(to, [step.archive.uuid for step in found.steps], (), resume=resume)) as landing:
            others = Known(given, known, damage).others(found)
            return Recall(found, given, landing, Options(), ignore, others).run()


@pytest.mark.parametrize("copies", ["archives", "tapes", "chain"])
@pytest.mark.parametrize("seed", range(RUNS))
def test_bytes_are_right_or_named(
    ground: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, copies: str
) -> None:
    """Where no copy answers, the recall ends; when all answer, it goes on and has everything that is not damaged."""
    rng = random.Random(seed)
    places = archived(ground, rng, copies)
    spoiled = rng.choice([path for path in ground.files() if path.suffix == ".tar"])
    content = bytearray(spoiled.read_bytes())
    content[len(content) // 2] ^= 1
    spoiled.write_bytes(content)
    media = Media(rng, monkeypatch)
    try:
        done = attempt(places, media, tmp_path / "to", resume=False)
    except (StoreError, BusyError):
        assert not (tmp_path / "to" / "db0").exists()
        done = attempt(places, media, tmp_path / "to", resume=True)
        assert done.lost == []
    right_or_named(done, ground.points[-1][1], tmp_path / "to")


def test_what_is_damaged_too_is_no_reason_to_ask_for_ever(
    ground: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    places = archived(ground, rng, "tapes")
    for place in places:
        path = sorted(place.glob("*/*.tar"))[1]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        gone = sorted(place.glob("*/*.tar"))[3]
        gone.rename(gone.with_suffix(".away"))
    media = Media(rng, monkeypatch)
    monkeypatch.setattr(Media, "open", lambda media, tape, number: media.sound(tape, number))
    with pytest.raises(NotFoundError):
        attempt(places, media, tmp_path / "to", resume=False)
    for away in ground.path.glob("*/*.away"):
        away.rename(away.with_suffix(".tar"))
    done = attempt(places, media, tmp_path / "to", resume=True)
    right_or_named(done, ground.points[-1][1], tmp_path / "to")
    assert [lost.why for lost in done.lost]
    assert sum(lost.length_bytes for lost in done.lost) <= 65536
