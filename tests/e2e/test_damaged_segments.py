"""A segment torn, damaged, missing, swapped, foreign or newer: what the command says, and that it changes nothing.

Whoever opens the journal for writing may cut a torn tail, and keeps it; nobody cuts anything else.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, refused, small_segments
from tests.support.format_reader import BLOCK, crc32c
from tests.support.processes import Mounted, must, must_json, run
from tests.support.volumes import files_of
from vsnapfs.repository.repository import Repository

INTEGRITY, FORMAT_UNKNOWN = 6, 10
BOOKMARKS = [f"b{number}" for number in range(5)]
IMAGE_BYTES = 128 << 10

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root]


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(IMAGE_BYTES)


def make(path: Path) -> Path:
    """A repository with five bookmarks, each behind 128 KiB of writes, each of those in a segment of its own."""
    Repository.create(path)
    small_segments(path)
    image = path.with_name("image")
    with Repository.open(path, owner=True) as repository:
        for number, name in enumerate(BOOKMARKS):
            image.write_bytes(content(number))
            repository.import_images({"db": image}, name)
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make(tmp_path / "made")


def segments(repository: Path) -> list[Path]:
    """Oldest first; the last one is active."""
    return sorted((repository / "journal").glob("*.seg"))


def names(repository: Path) -> list[str]:
    return [bookmark["name"] for bookmark in must_json(repository, "bookmark", "list")["bookmarks"]]


def flip(path: Path, at: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


EVERYBODY = [
    ("bookmark", "add", "new"),
    ("bookmark", "list"),
    ("status",),
    ("check", "--repair"),
    ("export", "b0", "db", "--to", "nowhere"),
    ("volume", "resize", "db", "1M"),
]


def assert_refused_to_all(repository: Path, status: int, *words: str) -> None:
    """Each command ends with this status and names these words, and the journal's directory stays as it is. ``check`` too,
    but if it is damage it says all that it costs."""
    mountpoint = repository.with_name("mount")
    mountpoint.mkdir(exist_ok=True)
    before = files_of(repository / "journal")
    for command in (*EVERYBODY, ("serve", str(mountpoint)), ("mount", str(mountpoint))):
        line = refused(repository, status, *command)
        for word in words:
            assert word in line, f"{command}: {line}"
    checked = run(repository, "check")
    assert checked.returncode == status
    if status == INTEGRITY:
        for word in words:
            assert word in checked.stdout
        assert "costs all points from @" in checked.stdout
    assert files_of(repository / "journal") == before


def assert_sound_part(repository: Path, kept: int) -> None:
    """The first ``kept`` bookmarks are shown, on demand, and read; check lists all others, and only those."""
    mountpoint = repository.with_name("sound")
    mountpoint.mkdir(exist_ok=True)
    damages = json.loads(run(repository, "check", "--json").stdout)["damages"]
    costs = {cost for damage in damages for cost in damage["costs"] if not cost.startswith("late")}
    assert costs == {f"{name}/db" for name in BOOKMARKS[kept:]}
    with Mounted(repository, mountpoint, verb="mount", options=("--foreground", "--sound-part")) as mounted:
        shown = sorted(path.name for path in (mountpoint / "snaps").iterdir() if path.name.startswith("b"))
        assert shown == BOOKMARKS[:kept]
        for number in range(kept):
            assert (mountpoint / "snaps" / f"b{number}" / "db").read_bytes() == content(number)
    assert "only what stands before damage is shown" in mounted.log


def test_a_torn_tail_is_cut_and_kept(made: Path) -> None:
    active = segments(made)[-1]
    whole = active.read_bytes()
    junk = random.Random(7).randbytes(3 * BLOCK + 100)
    active.write_bytes(whole + junk)
    assert names(made) == BOOKMARKS
    assert active.read_bytes() == whole + junk, "a reader cut it"
    must(made, "bookmark", "add", "new")
    assert names(made) == [*BOOKMARKS, "new"]
    (kept,) = (made / "journal").glob("*.torn")
    assert kept.name == f"{active.name}.{len(whole)}.torn"
    assert kept.read_bytes() == junk
    must(made, "check", "--read-data")


def test_a_batch_that_is_half_written_is_a_torn_tail(made: Path) -> None:
    """As a crash leaves it: what was not acknowledged is not in the catalog either."""
    active, catalog = segments(made)[-1], made / "catalog.db"
    before, catalog_before = active.read_bytes(), catalog.read_bytes()
    must(made, "bookmark", "add", "unacknowledged")
    half = active.read_bytes()[: len(before) + BLOCK // 2]
    active.write_bytes(half)
    catalog.write_bytes(catalog_before)
    assert names(made) == BOOKMARKS
    must(made, "bookmark", "add", "new")
    assert names(made) == [*BOOKMARKS, "new"]
    assert [kept.read_bytes() for kept in (made / "journal").glob("*.torn")] == [half[len(before) :]]


def test_damage_in_the_middle_of_the_active_segment_is_never_cut(made: Path) -> None:
    for number in range(3):
        must(made, "bookmark", "add", f"late{number}")
    active = segments(made)[-1]
    flip(active, active.stat().st_size - 2 * BLOCK + 100)
    assert_refused_to_all(made, INTEGRITY, active.name, "damaged", "nothing was cut")
    assert_sound_part(made, len(BOOKMARKS))
    flip(active, active.stat().st_size - 2 * BLOCK + 100)
    assert names(made)[:5] == BOOKMARKS
    must(made, "check", "--read-data")


@pytest.mark.parametrize("at", [BLOCK + 700, 20 * BLOCK + 5], ids=["descriptor", "payload"])
def test_damage_in_a_sealed_segment_is_said_with_place_and_points(made: Path, at: int) -> None:
    """b2's content is written over by b3 altogether, so that b2 alone is lost."""
    broken = segments(made)[2]
    flip(broken, at)
    found = run(made, "check", "--read-data", "--json")
    assert found.returncode == INTEGRITY
    damages = json.loads(found.stdout)["damages"]
    assert {damage["file"] for damage in damages} == {f"journal/{broken.name}"}
    assert at - at % BLOCK in {damage["offset_bytes"] - damage["offset_bytes"] % BLOCK for damage in damages}
    if at > BLOCK * 10:
        assert [damage["costs"] for damage in damages] == [["b2/db"]]
        assert "costs b2/db" in run(made, "check", "--read-data").stdout
    for number in (0, 1, 3, 4):
        target = made.with_name(f"{number}.img")
        must(made, "export", f"b{number}", "db", "--to", target)
        assert target.read_bytes() == content(number)


@pytest.mark.parametrize("index", [0, 2, 4], ids=["first", "middle", "last sealed"])
def test_a_missing_segment_is_missed(made: Path, index: int) -> None:
    missing = segments(made)[index]
    missing.rename(made.with_name("aside"))
    assert_refused_to_all(made, INTEGRITY, "journal")
    if index:
        assert_sound_part(made, index - 1)  # a segment begins with the bookmark of what the one before it holds
    made.with_name("aside").rename(missing)
    must(made, "check", "--read-data")


def test_swapped_segments_are_seen(made: Path) -> None:
    one, other = segments(made)[1:3]
    for source, target in ((one, made / "x"), (other, one), (made / "x", other)):
        source.rename(target)
    assert_refused_to_all(made, INTEGRITY, "journal/")


def test_a_segment_of_another_repository_is_seen(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other/made")
    for index in (1, -1):
        ours, theirs = segments(made)[index], segments(other)[index]
        assert ours.name == theirs.name
        kept = ours.read_bytes()
        shutil.copyfile(theirs, ours)
        assert_refused_to_all(made, INTEGRITY, ours.name)
        ours.write_bytes(kept)
    must(made, "check", "--read-data")


@pytest.mark.parametrize(("at", "value"), [(8, 2), (12, 1)], ids=["version", "feature"])
@pytest.mark.parametrize("index", [1, -1], ids=["sealed", "active"])
def test_a_segment_of_a_newer_format_is_not_touched(made: Path, index: int, at: int, value: int) -> None:
    """Header and trailer have version and features at the same place."""
    newer = segments(made)[index]
    whole = bytearray(newer.read_bytes())
    for start in (0, len(whole) - BLOCK) if index == 1 else (0,):
        whole[start + at : start + at + 4] = value.to_bytes(4, "little")
        whole[start + BLOCK - 4 : start + BLOCK] = crc32c(bytes(whole[start : start + BLOCK - 4])).to_bytes(4, "little")
    newer.write_bytes(whole)
    assert_refused_to_all(made, FORMAT_UNKNOWN, newer.name)


@pytest.mark.parametrize("loss", ["missing", "an older copy"])
def test_the_end_of_the_journal_is_missed_too(made: Path, loss: str) -> None:
    """The journal alone cannot tell, but the catalog has seen more."""
    active = segments(made)[-1]
    older = active.read_bytes()
    must(made, "bookmark", "add", "new")
    newer = active.read_bytes()
    if loss == "missing":
        active.unlink()
    else:
        active.write_bytes(older)
    before = files_of(made / "journal")
    checked = run(made, "check")
    assert checked.returncode == INTEGRITY
    assert "the journal ends with" in checked.stdout
    mountpoint = made.with_name("mount")
    mountpoint.mkdir()
    for command in (("bookmark", "add", "newer"), ("volume", "resize", "db", "1M"), ("serve", str(mountpoint))):
        line = refused(made, INTEGRITY, *command)
        assert "the journal ends with" in line
        assert "catalog.db" in line
    assert before.items() <= files_of(made / "journal").items()
    active.write_bytes(newer)
    must(made, "bookmark", "add", "newer")
    assert names(made) == [*BOOKMARKS, "new", "newer"]


def test_whoever_moves_the_catalog_away_goes_on_without_the_lost_end(made: Path) -> None:
    active = segments(made)[-1]
    older = active.read_bytes()
    must(made, "bookmark", "add", "new")
    active.write_bytes(older)
    (made / "catalog.db").rename(made.with_name("catalog.db"))
    must(made, "bookmark", "add", "other")
    assert names(made) == [*BOOKMARKS, "other"]
    must(made, "check", "--read-data")


def test_sizes_are_what_the_names_say(made: Path) -> None:
    """What the other tests stand on: a segment per bookmark, and one more that is active."""
    assert len(segments(made)) == len(BOOKMARKS) + 1
    assert all(path.stat().st_size > IMAGE_BYTES for path in segments(made)[:-1])
    assert segments(made)[-1].stat().st_size < MIB
