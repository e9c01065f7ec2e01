"""Repositories of released formats open for ever, and the worked example of native/FORMAT.md is one of them, byte for byte."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.format.make_golden import GOLDEN, contents
from tests.support import format_reader
from vsnapfs import Repository

pytestmark = pytest.mark.format

FORMAT = Path(__file__).parents[2] / "native/FORMAT.md"
FIRST_SEGMENT = "journal/00000000000000000001.seg"
VERSIONS = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.tar.xz"))
DUMP_LINE = re.compile(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ){1,16}) *\|", re.MULTILINE)


def unpack(version: str, where: Path) -> Path:
    subprocess.run(["tar", "-C", where, "-xf", GOLDEN / f"{version}.tar.xz"], check=True)
    return where / version


def test_there_is_one_for_each_version() -> None:
    assert VERSIONS == ["v1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_as_when_it_was_made(version: str, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / f"{version}.json").read_text())
    with Repository.open(unpack(version, tmp_path), owner=False) as repository:
        assert contents(repository) == expected
        assert repository.check(read_data=True).damages == []
        assert repository.bookmark("round-3").held
        assert repository.bookmark("then").seqno == repository.bookmark("first").seqno


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_derived_can_go(version: str, tmp_path: Path) -> None:
    path = unpack(version, tmp_path)
    shutil.rmtree(path / "maps")
    (path / "catalog.db").unlink()
    expected = json.loads((GOLDEN / f"{version}.json").read_text())
    with Repository.open(path, owner=False) as repository:
        assert contents(repository) == expected


def test_the_second_reader_reads_it(tmp_path: Path) -> None:
    path = unpack("v1", tmp_path)
    segments = list(format_reader.read_journal(path))
    assert [bool(segment.footer) for segment in segments] == [True] * 8 + [False]


def test_the_worked_example_is_in_it(tmp_path: Path) -> None:
    segment = (unpack("v1", tmp_path) / FIRST_SEGMENT).read_bytes()
    lines = DUMP_LINE.findall(FORMAT.read_text())
    assert len(lines) > 30
    for position, text in lines:
        at, content = int(position, 16), bytes.fromhex(text)
        assert segment[at : at + len(content)] == content, f"the line of {position}"
