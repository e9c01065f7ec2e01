"""What differs between before and after, in bytes and in rows: against a comparison byte by byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pruned import grow, opened
from vsnapfs.core.errors import PointGoneError
from vsnapfs.hunt.write import ROW_BYTES, ROWS_MAX, describe, difference
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit


def test_rows_that_differ_are_shown_at_their_places() -> None:
    before = b"4711,Meyer,12.50"
    found = difference(iter([(before, bytes(16), 0x40059000)]))
    assert found.lines == [
        "- 000040059000  34 37 31 31 2c 4d 65 79 65 72 2c 31 32 2e 35 30  |4711,Meyer,12.50|",
        "+ 000040059000  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  |................|",
    ]


def test_a_write_in_the_middle_of_a_row_is_shown_alone() -> None:
    found = difference(iter([(b"abc", b"axc", 13)]))
    assert (found.changed_bytes, found.compared_bytes) == (1, 3)
    assert [line.split("  ")[0] for line in found.lines] == ["- 00000000000d", "+ 00000000000d"]


@settings(max_examples=200, deadline=None)
@given(
    before=st.binary(min_size=1, max_size=600), changes=st.dictionaries(st.integers(0, 599), st.integers(0, 255)),
    offset=st.integers(0, 100), cut=st.integers(1, 600), shorter=st.integers(0, 3),
)  # fmt: skip
def test_all_bytes_that_differ_are_counted(
    before: bytes, changes: dict[int, int], offset: int, cut: int, shorter: int
) -> None:
    after = bytearray(before)
    for at, value in changes.items():
        if at < len(after):
            after[at] = value
    old = before[: len(before) - shorter] if shorter < len(before) else before
    pieces = [(old[at : at + cut], bytes(after[at : at + cut]), offset + at) for at in range(0, len(before), cut)]
    found = difference(iter(pieces))
    filled = old.ljust(len(after), b"\0")
    assert found.compared_bytes == len(after)
    assert found.changed_bytes == sum(a != b for a, b in zip(filled, after, strict=True))
    assert len(found.lines) <= 2 * ROWS_MAX
    if cut % ROW_BYTES == 0 or cut >= len(before):
        rows = {(offset + at) // ROW_BYTES for at in range(len(after)) if filled[at] != after[at]}
        assert len(found.lines) == 2 * min(ROWS_MAX, len(rows)) or (offset % ROW_BYTES and cut < len(before))


def test_where_records_are_gone_no_write_is_named(memory_path: Path) -> None:
    """Between two bookmarks that a prune has left alone."""
    path = memory_path / "repository"
    Repository.create(path)
    with opened(path, 'protection_window = "1ms"\nkeep_last = 100') as repository:
        grow(repository, random.Random(1), [f"m{number}" for number in range(9)], 60)
        repository.prune()
        ids = {volume.id: volume.name for volume in repository.volumes()}
        points = [repository.resolve(bookmark.name) for bookmark in repository.bookmarks()]
        good, bad = (repository.state(ids, point) for point in points[2:4])
        assert repository.instants(ids, good, bad, 100) == []
        with pytest.raises(PointGoneError, match=r"not all are there any more|is not a write"):
            describe(repository, ids, good, bad, memory_path, memory_path / "never")
