"""What becomes of a recall when tapes are damaged, missing, or others than they seem."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.archived import DEFAULT, PLAIN, Archived, Images, changed, ignore, image, images_in, recall
from vsnapfs.archive.chain import chosen, plan
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.given import GivenTapes, slots_of_path
from vsnapfs.archive.index import Compression
from vsnapfs.archive.inventory import of_catalog
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Options
from vsnapfs.archive.recall import Recall, Recalled
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, UsageError

pytestmark = pytest.mark.unit
SIZE = 1 << 20
ONE_TAPE = 16 << 20
SALVAGE = Options(salvage=True)


class Copied(NamedTuple):
    """Tapes to be damaged, and what was archived to those that they are copies of."""

    path: Path
    points: list[tuple[str, Images]]
    catalog: Tapes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    """A full archive of several pieces on three tapes, and two incremental ones behind it."""
    made = filled(tmp_path_factory.mktemp("made") / "archived")
    yield made
    made.close()


@pytest.fixture
def ground(made: Archived, tmp_path: Path) -> Copied:
    shutil.copytree(made.path, tmp_path / "tapes")
    return Copied(tmp_path / "tapes", made.points, made.catalog)


def filled(path: Path, coding: Coding = PLAIN, *, seed: int = 3, capacity: int = 320 << 10) -> Archived:
    made = Archived(path, capacity=capacity, piece=96 << 10, coding=coding)
    rng = random.Random(seed)
    images = {"db0": image(rng, SIZE, 120), "db1": image(rng, SIZE, 10)}
    made.archive(images)
    for _ in range(2):
        images = {name: changed(rng, content, 12) for name, content in images.items()}
        made.archive(images, since=True)
    return made


def of_archive(ground: Archived | Copied, number: int, kind: str) -> list[Path]:
    """Files of pieces, or of indexes, of an archive, in order."""
    archive = ground.catalog.archives()[number].uuid
    labels = {tape.uuid: tape.label for tape in ground.catalog.tapes()}
    behind = 1 if kind == "index" else 0
    places = [(labels[piece.tape_uuid], piece.file + behind) for piece in ground.catalog.pieces(archive)]
    return [next((ground.path / label).glob(f"{file:05d}.*")) for label, file in places]


def same_but_for_lost(done: Recalled, wanted: Images, to: Path) -> int:
    """Returns: bytes lost, all of which are zeros, and named."""
    for name, content in wanted.items():
        expected = bytearray(content)
        for lost in done.lost:
            if lost.volume == name and lost.zeros:
                expected[lost.offset_bytes : lost.end_bytes] = bytes(lost.length_bytes)
        assert (to / name).read_bytes() == expected
    return sum(lost.length_bytes for lost in done.lost)


def test_what_is_lost_of_an_incremental_archive_is_zeros_and_not_what_was_before(
    ground: Copied, tmp_path: Path
) -> None:
    piece = of_archive(ground, 2, "piece")[0]
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes(content)
    done = recall([ground.path], tmp_path / "to")
    assert same_but_for_lost(done, ground.points[2][1], tmp_path / "to") > 0
    recall([ground.path], tmp_path / "before", "point-1")
    assert images_in(tmp_path / "before") == ground.points[1][1]


def test_what_a_later_archive_has_again_is_not_lost(tmp_path: Path) -> None:
    """All of a volume is written anew after the archive that is damaged."""
    ground = filled(tmp_path / "archived")
    images = {name: image(random.Random(9), SIZE, 400) for name in ("db0", "db1")}
    changed_all = {name: bytes(byte ^ 0xFF for byte in content) for name, content in images.items()}
    ground.archive(changed_all, since=True)
    for piece in of_archive(ground, 1, "piece"):
        content = bytearray(piece.read_bytes())
        for at in range(0, len(content), 9_000):
            content[at] ^= 1
        piece.write_bytes(content)
    done = recall([ground.path], tmp_path / "to")
    assert images_in(tmp_path / "to") == changed_all
    assert done.flaws
    assert done.lost == []
    ground.close()


def test_a_truncated_piece_costs_what_is_cut_off(ground: Copied, tmp_path: Path) -> None:
    piece = of_archive(ground, 0, "piece")[1]
    with piece.open("r+b") as file:
        file.truncate(70_000)
    done = recall([ground.path], tmp_path / "to")
    assert 0 < same_but_for_lost(done, ground.points[-1][1], tmp_path / "to") <= 96 << 10
    assert any("ends before" in flaw.why for flaw in done.flaws)
    assert {(lost.tape, lost.file) for lost in done.lost} == {(piece.parent.name, int(piece.stem))}


def test_a_piece_without_its_index_is_recalled_and_known_by_its_digest(ground: Copied, tmp_path: Path) -> None:
    for index in of_archive(ground, 0, "index")[1:3]:
        index.unlink()
    done = recall([ground.path], tmp_path / "to")
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    assert len(done.flaws) == 2
    assert done.lost == []


def test_without_any_index_the_stream_itself_says_what_it_is(tmp_path: Path) -> None:
    ground = filled(tmp_path / "archived", capacity=ONE_TAPE)
    for number in range(2):
        for index in of_archive(ground, number, "index"):
            index.unlink()
    done = recall([ground.path], tmp_path / "to", "point-1")
    assert images_in(tmp_path / "to") == ground.points[1][1]
    assert done.flaws
    assert done.lost == []
    ground.close()


def test_without_any_index_what_is_on_other_tapes_is_found_by_how_it_begins(tmp_path: Path) -> None:
    with closing(filled(tmp_path / "archived")) as ground:
        for index in of_archive(ground, 0, "index"):
            content = bytearray(index.read_bytes())
            content[300] ^= 1
            index.write_bytes(content)
        assert len({index.parent for index in of_archive(ground, 0, "index")}) > 2
        done = recall([ground.path], tmp_path / "to")
        assert images_in(tmp_path / "to") == ground.points[-1][1]
        assert done.lost == []


def test_without_a_digest_to_compare_what_is_not_certain_is_named(ground: Copied, tmp_path: Path) -> None:
    of_archive(ground, 0, "index")[1].unlink()
    done = recall([ground.path], tmp_path / "to", "point-0", options=Options(verify=False))
    assert {path: (tmp_path / "to" / path).read_bytes() for path in ("db0", "db1")} == ground.points[0][1]
    assert done.lost
    assert all(not lost.zeros for lost in done.lost)


def test_the_digest_of_an_incremental_archive_says_nothing_of_what_is_older(tmp_path: Path) -> None:
    """What hid the older one's doubts from its own digest is written again by the newer one."""
    with closing(Archived(tmp_path / "archived", capacity=ONE_TAPE, piece=96 << 10)) as ground:
        rng = random.Random(12)
        images = {"db0": rng.randbytes(SIZE // 2)}
        ground.archive(images)
        ground.archive({"db0": rng.randbytes(256 << 10) + images["db0"][256 << 10 :]}, since=True)
        for piece in (1, 4):
            path = of_archive(ground, 0, "piece")[piece]
            content = bytearray(path.read_bytes())
            content[70_000] ^= 1
            path.write_bytes(content)
        index = of_archive(ground, 0, "index")[4]
        index.write_bytes(index.read_bytes()[:-1])
        done = recall([ground.path], tmp_path / "to")
        found = (tmp_path / "to/db0").read_bytes()
        wrong = next(at for at, byte in enumerate(ground.points[1][1]["db0"]) if byte != found[at])
        assert [lost.zeros for lost in done.lost] == [False]
        assert any(lost.offset_bytes <= wrong < lost.end_bytes for lost in done.lost)


def test_wrong_bytes_in_a_piece_without_an_index_are_not_believed(ground: Copied, tmp_path: Path) -> None:
    of_archive(ground, 0, "index")[1].unlink()
    piece = of_archive(ground, 0, "piece")[1]
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes(content)
    done = recall([ground.path], tmp_path / "to", "point-0")
    assert any(not lost.zeros for lost in done.lost)


def test_a_missing_piece_is_named(ground: Copied, tmp_path: Path) -> None:
    of_archive(ground, 0, "piece")[1].unlink()
    with pytest.raises(NotFoundError):
        recall([ground.path], tmp_path / "no")
    done = recall([ground.path], tmp_path / "to", options=SALVAGE)
    assert same_but_for_lost(done, ground.points[-1][1], tmp_path / "to") > 0


def test_a_missing_tape_is_named_before_the_first_byte(ground: Copied, tmp_path: Path) -> None:
    shutil.rmtree(ground.path / "W00002")
    with pytest.raises(NotFoundError, match="W00002"):
        recall([ground.path], tmp_path / "no", "point-0")
    assert not list((tmp_path / "no").glob("*.partial"))


def test_what_other_tapes_have_is_salvaged(ground: Copied, tmp_path: Path) -> None:
    first = of_archive(ground, 0, "piece")
    middle = first[len(first) // 2].parent
    assert middle.name not in (first[0].parent.name, first[-1].parent.name)
    shutil.rmtree(middle)
    done = recall([ground.path], tmp_path / "to", options=SALVAGE)
    lost = same_but_for_lost(done, ground.points[-1][1], tmp_path / "to")
    assert 0 < lost < SIZE
    assert "missing" in done.lost[0].why
    listed = (tmp_path / "to" / f"{done.lost[0].volume}.damage").read_text()
    assert f"bytes {done.lost[0].offset_bytes} to {done.lost[0].end_bytes}" in listed


def test_directories_of_tapes_may_be_called_anything(ground: Copied, tmp_path: Path) -> None:
    (ground.path / "W00001").rename(ground.path / "x")
    (ground.path / "W00002").rename(ground.path / "W00001")
    (ground.path / "x").rename(ground.path / "W00002")
    done = recall([ground.path], tmp_path / "to")
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    assert done.flaws == []


def test_of_two_tapes_with_one_label_the_right_one_is_read(ground: Copied, tmp_path: Path) -> None:
    other = Archived(tmp_path / "other", capacity=320 << 10, piece=96 << 10)
    other.points.append(("of another day", {}))
    images = {"db0": image(random.Random(4), SIZE, 120)}
    uuid = other.archive(images)
    other.close()
    done = recall([other.path, ground.path], tmp_path / "to", "point-2")
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    assert done.flaws == []
    recall([ground.path, other.path], tmp_path / "other-to", uuid)
    assert images_in(tmp_path / "other-to") == images
    shutil.rmtree(ground.path / "W00002")
    with pytest.raises(NotFoundError, match="W00002"):
        recall([other.path, ground.path], tmp_path / "no", "point-0")


def test_a_tape_of_the_same_label_is_not_taken_for_the_one_that_the_catalog_means(
    ground: Copied, tmp_path: Path
) -> None:
    other = filled(tmp_path / "other", seed=4)
    other.close()
    known = of_catalog(ground.catalog)
    slots = slots_of_path(other.path)
    wanted = next(tape for tape in known.tapes.values() if tape.label == "W00002")
    with pytest.raises(NotFoundError, match="another one"):
        GivenTapes(slots).tape(wanted)
    with closing(GivenTapes([*slots, *slots_of_path(ground.path)])) as given:
        tape = given.tape(wanted)
        assert tape.label is not None
        assert tape.label.uuid == wanted.uuid


def test_a_damaged_label_is_named_also_where_the_catalog_says_what_is_where(ground: Copied, tmp_path: Path) -> None:
    label = ground.path / "W00001/00000.label"
    content = bytearray(label.read_bytes())
    content[600] ^= 1
    label.write_bytes(content)
    known = of_catalog(ground.catalog)
    found = plan(known, chosen(known, "point-0"))
    with (
        closing(GivenTapes(slots_of_path(ground.path))) as given,
        closing(Landing(tmp_path / "to", [found.point.uuid], (), resume=False)) as landing,
    ):
        done = Recall(found, given, landing, DEFAULT, ignore).run()
    assert [(flaw.tape, flaw.file) for flaw in done.flaws] == [("W00001", 0)]
    assert images_in(tmp_path / "to") == ground.points[0][1]


def test_an_archive_that_was_broken_off_is_no_point(ground: Copied, tmp_path: Path) -> None:
    last = of_archive(ground, 0, "piece")[-1].parent
    for directory in sorted(ground.path.iterdir()):
        if directory.name >= last.name:
            shutil.rmtree(directory)
    with pytest.raises(NotFoundError, match="broken off"):
        recall([ground.path], tmp_path / "no", "point-0")
    done = recall([ground.path], tmp_path / "to", "point-0", options=SALVAGE)
    assert 0 < same_but_for_lost(done, ground.points[0][1], tmp_path / "to") < SIZE


def test_the_archive_that_an_incremental_one_needs_is_named(ground: Copied, tmp_path: Path) -> None:
    uuid = ground.catalog.archives()[0].uuid
    for path in [*of_archive(ground, 0, "piece"), *of_archive(ground, 0, "index")]:
        path.unlink()
    with pytest.raises(NotFoundError, match=uuid[:8]):
        recall([ground.path], tmp_path / "no", "point-2")


def test_a_point_that_is_not_there_is_told_with_near_ones(ground: Copied, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean") as raised:
        recall([ground.path], tmp_path / "no", "pont-1")
    assert "point-1" in raised.value.near


def test_one_volume_alone(ground: Copied, tmp_path: Path) -> None:
    recall([ground.path], tmp_path / "to", volumes=["db1"])
    assert images_in(tmp_path / "to") == {"db1": ground.points[-1][1]["db1"]}


def test_what_exists_is_not_written_over(ground: Copied, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "db0").write_bytes(b"mine")
    with pytest.raises(NameTakenError):
        recall([ground.path], tmp_path / "to")
    assert (tmp_path / "to" / "db0").read_bytes() == b"mine"


def test_a_recall_that_was_broken_off_goes_on(ground: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Landing.settle
    settled: list[tuple[int, int]] = []

    def broken(self: Landing, step: int, piece: int, stream_bytes: int) -> None:
        settle(self, step, piece, stream_bytes)
        settled.append((step, piece))
        raise KeyboardInterrupt

    monkeypatch.setattr(Landing, "settle", broken)
    done: Recalled | None = None
    for number in range(100):
        try:
            done = recall([ground.path], tmp_path / "to", resume=number > 0)
            break
        except KeyboardInterrupt:
            continue
        finally:
            if number == 1:
                with pytest.raises(BusyError, match="--resume"):
                    recall([ground.path], tmp_path / "to")
                with pytest.raises(UsageError):
                    recall([ground.path], tmp_path / "to", "point-0", resume=True)
    assert done is not None
    assert done.resumed
    assert all(done.sums), "also of an archive whose last piece an earlier try has read"
    assert settled == sorted(set(settled)), "each piece is read once"
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    assert (done.flaws, done.lost) == ([], [])


def test_compressed_pieces(tmp_path: Path) -> None:
    ground = filled(tmp_path / "archived", Coding("zstd"))
    recall([ground.path], tmp_path / "to")
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    piece = of_archive(ground, 0, "piece")[1]
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes(content)
    done = recall([ground.path], tmp_path / "damaged")
    assert 0 < same_but_for_lost(done, ground.points[-1][1], tmp_path / "damaged") <= 96 << 10
    of_archive(ground, 0, "index")[2].unlink()
    again = recall([ground.path], tmp_path / "without", "point-0")
    assert {(flaw.file, flaw.tape) for flaw in done.flaws} < {(flaw.file, flaw.tape) for flaw in again.flaws}
    ground.close()


def key(path: Path) -> str:
    """Make a private key. Returns: the public one."""
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    return path.read_text().split("public key: ")[1].split()[0]


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_encrypted_pieces(tmp_path: Path, compression: Compression | None) -> None:
    recipient = key(tmp_path / "key")
    key(tmp_path / "other")
    ground = filled(tmp_path / "archived", Coding(compression, (recipient,)), capacity=ONE_TAPE)
    mine = Options((tmp_path / "key",))
    recall([ground.path], tmp_path / "to", options=mine)
    assert images_in(tmp_path / "to") == ground.points[-1][1]
    with pytest.raises(UsageError, match="--identity"):
        recall([ground.path], tmp_path / "no")
    with pytest.raises(UsageError, match="no identity matched"):
        recall([ground.path], tmp_path / "neither", options=Options((tmp_path / "other",)))
    for index in of_archive(ground, 0, "index"):
        index.unlink()
    done = recall([ground.path], tmp_path / "without", options=mine)
    assert images_in(tmp_path / "without") == ground.points[-1][1]
    assert done.lost == []
    ground.close()
