"""Inode numbers: made of facts, found again, never colliding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.tree import inodes
from vsnapfs.tree.inodes import DIRECTORY_OF, MANIFEST_OF, VALUE_MAX, Kind, digest, number, split

pytestmark = pytest.mark.unit

VALUES = st.integers(0, VALUE_MAX)


@given(st.sampled_from(Kind), VALUES)
def test_a_number_gives_back_what_it_was_made_of(kind: Kind, value: int) -> None:
    assert split(number(kind, value)) == (kind, value)


@given(st.sampled_from(Kind), VALUES)
def test_numbers_are_positive_for_tools_that_read_them_as_signed(kind: Kind, value: int) -> None:
    assert 0 <= number(kind, value) < 1 << 63


def test_a_value_that_does_not_fit_is_refused_and_not_cut() -> None:
    for value in (-1, VALUE_MAX + 1):
        with pytest.raises(ValueError, match="does not fit"):
            number(Kind.VIEW, value)


def test_fixed_numbers_are_of_kind_fixed_and_the_root_is_the_kernels() -> None:
    fixed = [inodes.ROOT, inodes.SNAPS, inodes.AT, inodes.DIFF, inodes.LIVE, inodes.LATEST, inodes.BRANCHES]
    assert inodes.ROOT == 1
    assert len(set(fixed)) == len(fixed)
    assert {split(ino)[0] for ino in fixed} == {Kind.FIXED}


@given(st.integers(1, (1 << 32) - 1), st.integers(0, (1 << 27) - 1))
def test_a_branchs_volume_gives_back_both_ids(branch: int, volume: int) -> None:
    kind, value = split(inodes.branch_volume(branch, volume))
    assert (kind, inodes.branch_and_volume(value)) == (Kind.BRANCH_VOLUME, (branch, volume))


def test_a_volumes_id_that_does_not_fit_beside_a_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        inodes.branch_volume(1, 1 << 27)


def test_each_directory_has_a_manifest_of_its_own_kind() -> None:
    assert {MANIFEST_OF[directory]: directory for directory in MANIFEST_OF} == DIRECTORY_OF
    assert not set(MANIFEST_OF) & set(DIRECTORY_OF)


def test_the_digest_is_the_same_in_every_process() -> None:
    """Written down once: a change of it looks like new files to every incremental backup."""
    assert digest("a..b", 3, 9) == 264884538147635875


@given(st.lists(st.tuples(st.text("ab", max_size=3), VALUES, VALUES), unique=True, max_size=50))
def test_different_facts_have_different_digests(facts: list[tuple[str, int, int]]) -> None:
    assert len({digest(*fact) for fact in facts}) == len(facts)
