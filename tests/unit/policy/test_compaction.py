"""Which files are worth rewriting."""

from __future__ import annotations

import random

import pytest

from vsnapfs.policy.compaction import JOINED_BYTES_MAX, File, Group, worth_rewriting

pytestmark = pytest.mark.unit

LARGE = JOINED_BYTES_MAX // 2


def fresh(count: int, before: int = LARGE, after: int | None = LARGE) -> list[File]:
    return [File(ordinal, 1, before, after) for ordinal in range(count)]


def test_nothing_of_nothing() -> None:
    assert worth_rewriting([]) == []


def test_large_files_are_left_alone_until_a_twentieth_of_them_is_of_no_use() -> None:
    files = fresh(9)
    assert worth_rewriting(files) == []
    files[3] = files[3]._replace(bytes_after=LARGE - LARGE // 21)
    files[5] = files[5]._replace(bytes_after=LARGE - LARGE // 19)
    assert worth_rewriting(files) == [Group(5, 1)]


def test_small_files_become_one() -> None:
    assert worth_rewriting(fresh(8, 1000, 1000)) == [Group(0, 8)]
    assert worth_rewriting(fresh(64, 1000, 1000)) == [Group(0, 64)]


def test_a_group_that_is_not_complete_waits_but_for_its_garbage() -> None:
    assert worth_rewriting(fresh(7, 1000, 1000)) == []
    assert worth_rewriting(fresh(7, 1000, 100)) == [Group(ordinal, 1) for ordinal in range(7)]
    assert worth_rewriting(fresh(10, 1000, 1000)) == [Group(0, 8)]


def test_what_is_joined_is_bounded() -> None:
    eighth = JOINED_BYTES_MAX // 8
    assert worth_rewriting(fresh(64, eighth, eighth)) == [Group(ordinal, 8) for ordinal in range(0, 64, 8)]
    assert worth_rewriting(fresh(8, eighth, eighth + 1)) == []


def test_joined_files_are_joined_again_and_never_split() -> None:
    joined = [File(ordinal, 8, 1000, 1000) for ordinal in range(0, 56, 8)]
    assert worth_rewriting(joined) == []
    assert worth_rewriting([*joined, File(56, 8, 1000, 1000)]) == [Group(0, 64)]
    assert worth_rewriting([File(0, 64, 1000, 990), File(64, 1, 1000, 900)]) == [Group(64, 1)]
    assert worth_rewriting([File(0, 64, 1000, 900)]) == [Group(0, 64)]


def test_one_that_cannot_be_read_is_in_no_group() -> None:
    files = fresh(16, 1000, 1000)
    files[3] = files[3]._replace(bytes_after=None)
    assert worth_rewriting(files) == [Group(8, 8)]


def test_again_and_again_it_comes_to_an_end_with_few_files() -> None:
    """Segments come one by one, each of them half garbage: what is left is rewritten a bounded number of times."""
    rng = random.Random(7)
    files: list[File] = []
    written = added = 0
    for ordinal in range(600):
        size = rng.randrange(1 << 20, 4 << 20)
        files.append(File(ordinal, 1, size, size // 2))
        added += size
        for group in worth_rewriting(files):
            inside = [file for file in files if group.ordinal <= file.ordinal < group.ordinal + group.ordinals]
            after = sum(file.bytes_after or 0 for file in inside)
            written += after
            at = files.index(inside[0])
            files[at : at + len(inside)] = [File(group.ordinal, group.ordinals, after, after)]
        assert worth_rewriting(files) == []
    assert len(files) < 30
    assert written < 3 * added
