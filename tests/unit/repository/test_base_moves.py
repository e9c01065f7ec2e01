"""Points are given up at the old end, and bases move to the oldest that is left: what is refused, what stays, what moves."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

from tests.support.base_moves import estimates, floor, move_bases
from tests.support.volumes import content_at, discard, mark, put
from vsnapfs.binding.base_move import base_seqno
from vsnapfs.core.errors import IntegrityError, PointGoneError, ReadOnlyError
from vsnapfs.repository.check import Wanted
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.inodes import Kind, number
from vsnapfs.tree.nodes import ViewFile
from vsnapfs.tree.tree import Tree

BLOCK = 4096
SIZE = 32 * BLOCK


@pytest.fixture
def history(repository: Repository, memory_path: Path) -> Repository:
    """``ext`` on a base and ``thin``; five bookmarks b0 … b4, before each of which both are written to."""
    rng = random.Random(3)
    image = memory_path / "disk.img"
    image.write_bytes(rng.randbytes(SIZE))
    repository.volume_add("ext", primary=image)
    repository.volume_add("thin", size_bytes=SIZE)
    for step in range(5):
        put(repository, "thin", step * 2 * BLOCK, rng.randbytes(BLOCK))
        mark(repository, "ext", step * 4 * BLOCK, rng.randbytes(BLOCK + 700), f"b{step}")
        if step % 2:
            repository.journal.seal()
    return repository


def drop_to(repository: Repository, name: str) -> int:
    """Every bookmark before this one goes, and all points. Returns the oldest that is left."""
    seqno = repository.bookmark(name).seqno
    for bookmark in repository.bookmarks():
        if bookmark.seqno < seqno:
            repository.bookmark_remove(bookmark.name)
    floor(repository, seqno)
    return seqno


def contents(repository: Repository, names: str = "b2 b3 b4") -> dict[str, bytes]:
    return {
        f"{point}/{volume}": content_at(repository, volume, point)
        for point in names.split()
        for volume in ("ext", "thin")
    }


def test_points_before_the_floor_are_gone(history: Repository, path: Path) -> None:
    before, gone = history.bookmark("b1"), history.bookmark("b0").seqno
    seqno = drop_to(history, "b2")
    words = rf"is gone: the oldest point is .* \(@{seqno}\)"
    for text in (f"@{before.seqno}", before.time, f"@{seqno - 1}", "@1"):
        with pytest.raises(PointGoneError, match=words):
            history.resolve(text)
    with pytest.raises(PointGoneError, match=words):
        history.bookmark_add("again", at=f"@{gone}")
    with pytest.raises(PointGoneError, match=f"@{gone} is gone: the oldest point is @{seqno}"):
        history.journal.view(history.volume("ext").id, gone)
    status = history.status()
    assert status.window_first == history.resolve(f"@{seqno}")
    assert status.window_last == history.resolve("-0s")
    assert json.loads((path / "repository.json").read_bytes())["features"] == ["compaction"]


def test_a_reader_learns_of_the_floor_when_it_looks_again(history: Repository, path: Path) -> None:
    old = history.bookmark("b0")
    with Repository.open(path, owner=False) as reader:
        assert reader.resolve(f"@{old.seqno}").seqno == old.seqno
        seqno = drop_to(history, "b2")
        reader.refresh()
        with pytest.raises(PointGoneError, match="the oldest point is"):
            reader.resolve(f"@{old.seqno}")
        assert reader.resolve(f"@{seqno}").seqno == seqno
        with pytest.raises(ReadOnlyError):
            floor(reader, seqno)
        with pytest.raises(ReadOnlyError):
            move_bases(reader)


def test_what_cannot_become_the_floor(history: Repository) -> None:
    with pytest.raises(PointGoneError, match="cannot become the oldest point"):
        floor(history, history.status().last_seqno + 1)
    seqno = drop_to(history, "b2")
    last = history.status().last_seqno
    floor(history, seqno)
    assert history.status().last_seqno == last, "what is the floor already needs no other record"
    with pytest.raises(PointGoneError, match="cannot become the oldest point"):
        floor(history, seqno - 1)


def test_all_that_is_left_reads_as_before(history: Repository, path: Path) -> None:
    before = contents(history)
    states = {name: history.volume_at(name, history.resolve("b2")) for name in ("ext", "thin")}
    seqno = drop_to(history, "b2")
    history.journal.commit()
    expected = estimates(history, seqno)
    assert set(expected) == {"ext", "thin"}
    assert expected["ext"].patched_bytes == 3 * BLOCK
    assert expected["thin"].copied_bytes == 3 * BLOCK
    assert move_bases(history) == []
    assert estimates(history, seqno) == {}
    assert contents(history) == before
    for name, state in states.items():
        assert history.volume_at(name, history.resolve("b2")) == state
        assert base_seqno(history.journal, history.volume(name).id) == seqno
        with history.journal.base(history.volume(name).id) as base:
            assert base.read(0, SIZE) == before[f"b2/{name}"], "the base alone is the volume at the floor"
            assert base.stat().data_bytes == state.data_bytes
            assert base.stat().last_write_seqno == state.last_write_seqno
    assert history.check(read_data=True).damages == []
    history.close()
    with Repository.open(path, owner=True) as again:
        assert contents(again) == before
        assert again.status().problems == []
        assert again.check(read_data=True).damages == []
        drop_to(again, "b4")
        assert move_bases(again) == []
        assert contents(again, "b4") == {name: content for name, content in before.items() if name.startswith("b4")}
        assert again.check(read_data=True).damages == []


def test_a_write_before_the_floor_is_shown_by_a_point_that_is_left(history: Repository) -> None:
    """So what is known by its last write alone, as inodes are, is found again."""
    first, last = history.bookmark("b0"), history.bookmark("b2")
    written = history.volume_at("thin", history.resolve("b2")).last_write_seqno
    assert history.point_not_before(written).seqno == written < last.seqno
    drop_to(history, "b2")
    assert history.point_not_before(written).seqno == last.seqno
    assert history.point_not_before(first.seqno).seqno == last.seqno
    assert history.volume_at("thin", history.point_not_before(written)).last_write_seqno == written
    with pytest.raises(PointGoneError, match="there is no point"):
        history.point_not_before(history.status().last_seqno + 1)
    kept = content_at(history, "thin", "b2")
    tree = Tree(history, live=False)
    for _ in range(2):
        node = tree.node(number(Kind.VIEW, written))
        assert isinstance(node, ViewFile)
        with tree.view(node) as view:
            assert view.read(0, SIZE) == kept
        move_bases(history)


def test_a_volume_that_is_gone_loses_its_base_and_a_new_one_gets_none(
    history: Repository, path: Path, memory_path: Path
) -> None:
    history.volume_remove("ext")
    history.bookmark_add("without")
    drop_to(history, "b2")
    assert move_bases(history) == []
    bases = {file.name for file in (path / "base").iterdir()}
    assert bases == {"00000001.img", "00000001.idx", "00000002.img", "00000002.idx"}, "b2 has it still"
    drop_to(history, "without")
    history.volume_add("ext", primary=memory_path / "disk.img")
    later = {file: file.read_bytes() for file in (path / "base").iterdir() if file.name.startswith("00000003")}
    assert move_bases(history) == []
    assert {file.name for file in (path / "base").iterdir()} == {file.name for file in later} | bases - {
        "00000001.img",
        "00000001.idx",
    }
    assert {file: file.read_bytes() for file in later} == later
    assert history.check(read_data=True).damages == []


def test_import_export_and_resize_over_moved_bases(history: Repository, memory_path: Path) -> None:
    drop_to(history, "b2")
    move_bases(history)
    image = memory_path / "new.img"
    content = bytearray(content_at(history, "thin", "b4"))
    content[5 * BLOCK : 6 * BLOCK] = b"x" * BLOCK
    image.write_bytes(content)
    history.volume_add("kept", size_bytes=SIZE)
    last = history.status().last_seqno
    history.import_images({"other": image}, "first")
    history.import_images({"other": image}, "second")
    assert content_at(history, "other", "second") == content
    history.volume_resize("thin", SIZE // 2 + 512)
    history.volume_resize("thin", SIZE)
    discard(history, "ext", BLOCK // 2, 3 * BLOCK)
    history.bookmark_add("later")
    expected = {name: content_at(history, name, "later") for name in ("ext", "thin", "kept", "other")}
    assert expected["thin"][: SIZE // 2] == content_at(history, "thin", "b4")[: SIZE // 2]
    assert not any(expected["thin"][SIZE // 2 + 512 :])
    assert history.status().last_seqno > last
    drop_to(history, "later")
    assert move_bases(history) == []
    for name, wanted in expected.items():
        assert content_at(history, name, "later") == wanted
        with history.journal.base(history.volume(name).id) as base:
            assert base.read(0, SIZE) == wanted
        out = io.BytesIO()
        history.export(history.resolve("later"), name, out)
        assert out.getvalue() == wanted
    assert history.check(read_data=True).damages == []


def test_an_anchor_says_which_bases_it_does_not_speak_of(history: Repository) -> None:
    anchor = history.anchor().value
    proof = history.check(wanted=Wanted(percent=100, anchor=anchor)).anchor
    assert proof is not None
    assert (proof.holds, proof.not_covered) == (True, [])
    drop_to(history, "b2")
    move_bases(history)
    proof = history.check(wanted=Wanted(percent=100, anchor=anchor)).anchor
    assert proof is not None
    assert (proof.holds, proof.not_covered) == (True, ["ext", "thin"])


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_only_what_the_oldest_point_reads_of_a_base_can_be_damaged(history: Repository, path: Path) -> None:
    """Whole blocks that records cover may be anything: a move that was interrupted leaves them so."""
    drop_to(history, "b2")
    damage(path / "base/00000001.img", 0)  # written over whole before b0
    damage(path / "base/00000001.img", 4 * BLOCK + 1)
    assert history.check(read_data=True).damages == []
    before = contents(history)
    move_bases(history)
    assert contents(history) == before
    assert history.check(read_data=True).damages == []
    damage(path / "base/00000001.img", 7 * BLOCK)
    found = history.check(read_data=True).damages
    assert [(damage.file, damage.offset_bytes, damage.costs) for damage in found] == [
        ("base/00000001.img", 7 * BLOCK, ["b2/ext", "b3/ext", "b4/ext"])
    ]
    with pytest.raises(IntegrityError):
        content_at(history, "ext", "b3")
    assert content_at(history, "thin", "b3") == before["b3/thin"]


def test_a_damaged_source_stops_its_volume_and_nothing_is_worse(history: Repository, path: Path) -> None:
    seqno = drop_to(history, "b2")
    damage(path / "base/00000001.img", BLOCK + 1000)  # of a block that b0 covers in part
    with pytest.raises(IntegrityError, match="checksum"):
        move_bases(history)
    assert base_seqno(history.journal, 1) == 0
    found = history.check(read_data=True).damages
    assert [damage.costs for damage in found] == [["b2/ext", "b3/ext", "b4/ext"]]
    damage(path / "base/00000001.img", BLOCK + 1000)
    assert history.check(read_data=True).damages == []
    assert move_bases(history) == []
    assert base_seqno(history.journal, 1) == seqno


def test_a_moved_base_that_is_missing_is_damage_and_not_zeros(history: Repository, path: Path) -> None:
    drop_to(history, "b2")
    move_bases(history)
    history.close()
    (path / "base/00000002.idx").unlink()
    with Repository.open(path, owner=False) as reader:
        with pytest.raises(IntegrityError, match=r"00000002\.idx is missing"):
            content_at(reader, "thin", "b3")
        found = reader.check().damages
        assert [(damage.file, damage.costs) for damage in found] == [
            ("base/00000002.idx", ["b2/thin", "b3/thin", "b4/thin"])
        ]
        assert content_at(reader, "ext", "b3")


def test_who_reads_below_is_waited_for_as_long_as_is_wanted(history: Repository, path: Path) -> None:
    """Another process's reader too, as one of its own stands for here."""
    asked: list[str] = []
    with Repository.open(path, owner=False) as reader:
        old = reader.resolve("b0")
        view = reader.view("ext", old)
        content = content_at(history, "ext", "b0")
        seqno = drop_to(history, "b2")

        def give_up() -> bool:
            asked.append("ext")
            return len(asked) % 3 == 0

        assert move_bases(history, give_up=give_up) == ["ext", "thin"]
        assert len(asked) == 6
        assert move_bases(history) == ["ext", "thin"]
        assert view.read(0, SIZE) == content
        with pytest.raises(PointGoneError):
            reader.view("ext", old)

        def close_when_asked() -> bool:
            view.close()
            return False

        assert move_bases(history, close_when_asked) == []
    assert base_seqno(history.journal, 1) == base_seqno(history.journal, 2) == seqno
