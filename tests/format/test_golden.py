"""Repositories of released formats open for ever, and the worked example of native/FORMAT.md is one of them, byte for byte."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.format.make_golden import GOLDEN, SAMPLES, branch_contents, contents
from tests.support import format_branches, format_reader
from tests.support.format_repository import Shown, read_repository
from vsnapfs import Repository
from vsnapfs.core.errors import PointGoneError
from vsnapfs.core.model import Point
from vsnapfs.core.times import iso

pytestmark = pytest.mark.format

FORMAT = Path(__file__).parents[2] / "native/FORMAT.md"
FIRST_SEGMENT = "journal/00000000000000000001.seg"
VERSIONS = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.tar.xz"))
DUMP_LINE = re.compile(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ){1,16}) *\|", re.MULTILINE)


def unpack(version: str, where: Path) -> Path:
    subprocess.run(["tar", "-C", where, "-xf", GOLDEN / f"{version}.tar.xz"], check=True)
    return where / version


def test_there_is_one_for_each_version() -> None:
    assert set(VERSIONS) == set(SAMPLES)


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_as_when_it_was_made(version: str, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / f"{version}.json").read_text())
    with Repository.open(unpack(version, tmp_path), owner=False) as repository:
        assert contents(repository) == expected
        assert repository.check(read_data=True).damages == []


def test_bookmarks_are_as_they_were(tmp_path: Path) -> None:
    with Repository.open(unpack("v1", tmp_path), owner=False) as repository:
        assert repository.bookmark("round-3").held
        assert repository.bookmark("then").seqno == repository.bookmark("first").seqno


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_derived_can_go(version: str, tmp_path: Path) -> None:
    path = unpack(version, tmp_path)
    shutil.rmtree(path / "maps")
    (path / "catalog.db").unlink()
    (path / "journal/generation").unlink(missing_ok=True)
    expected = json.loads((GOLDEN / f"{version}.json").read_text())
    with Repository.open(path, owner=False) as repository:
        assert contents(repository) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_reader_reads_the_same(version: str, tmp_path: Path) -> None:
    """Every seqno: whether it can be opened, and what each volume is then."""
    path = unpack(version, tmp_path)
    plain = read_repository(path)
    with Repository.open(path, owner=False) as repository:
        assert plain.bookmarks() == {bookmark.name: bookmark.seqno for bookmark in repository.bookmarks()}
        assert plain.last_seqno == repository.journal.facts().last_seqno
        for seqno in range(1, plain.last_seqno + 1):
            try:
                point = repository.resolve(f"@{seqno}")
            except PointGoneError:
                assert not plain.can_open(seqno)
                continue
            assert plain.can_open(seqno)
            assert_same(plain.volumes(seqno), repository, point)


def assert_same(found: dict[str, Shown], repository: Repository, point: Point) -> None:
    assert sorted(found) == [volume.name for volume in repository.volumes(point)]
    for name, shown in found.items():
        told = repository.volume_at(name, point)
        with repository.view(name, point) as view:
            assert view.read(0, view.size_bytes) == bytes(shown.content)
        assert (told.size_bytes, told.data_bytes) == (shown.size_bytes, shown.data_bytes)
        assert (told.last_write_seqno, told.last_write_time) == (shown.last_write_seqno, iso(shown.last_write_ns))


def test_the_pruned_one_has_what_prunes_make(tmp_path: Path) -> None:
    """Or else it would not show that the page tells of it."""
    path = unpack("v1-pruned", tmp_path)
    plain = read_repository(path)
    assert plain.features == ["compaction"]
    assert plain.floor > 1
    compacted = [segment.compacted for segment in plain.segments if segment.compacted]
    assert {told.ordinals for told in compacted} == {1, 8}
    assert any(told.base_floor for told in compacted)
    assert len([segment for segment in plain.segments if not segment.compacted]) == 3
    bases = [format_reader.read_base(file.read_bytes(), plain.uuid) for file in sorted(path.glob("base/*.idx"))]
    assert [base.volume for base in bases if base.seqno] == [1, 2]
    assert any(base.patches for base in bases)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_reader_reads_branches_the_same(version: str, tmp_path: Path) -> None:
    path = unpack(version, tmp_path)
    plain = read_repository(path)
    found = {branch["name"]: format_branches.contents(plain, branch) for branch in format_branches.branches(plain)}
    with Repository.open(path, owner=False) as repository:
        assert found == branch_contents(repository)


def test_the_one_with_branches_has_what_writing_makes(tmp_path: Path) -> None:
    """Or else it would not show that the page tells of it."""
    plain = read_repository(unpack("v1-branches", tmp_path))
    assert plain.features == ["branches"]
    told = {branch["name"]: branch for branch in format_branches.branches(plain)}
    x, y, z = (told[name]["layers"] for name in "xyz")
    assert len(x) == len(y) == 2
    assert (x[0], x[1] == y[1], len(z)) == (y[0], False, 1)
    assert not format_branches.logs(plain, z[0])
    file = format_branches.logs(plain, x[0])[1]
    log = format_branches.read_log(file.read_bytes(), plain.uuid, x[0], 1, 20 * 4096 + 512)
    assert log.after > 0  # it was written anew
    assert {slot != 0 for slot, _ in log.slots.values()} == {True, False}


def test_the_worked_example_is_in_it(tmp_path: Path) -> None:
    segment = (unpack("v1", tmp_path) / FIRST_SEGMENT).read_bytes()
    lines = DUMP_LINE.findall(FORMAT.read_text())
    assert len(lines) > 30
    for position, text in lines:
        at, content = int(position, 16), bytes.fromhex(text)
        assert segment[at : at + len(content)] == content, f"the line of {position}"
