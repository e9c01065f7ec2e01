"""Lookup counts: a node stays exactly as long as the kernel remembers it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.tree.nodes import LiveFile
from vsnapfs.tree.registry import Registry

pytestmark = pytest.mark.unit


def test_a_node_goes_with_its_last_lookup() -> None:
    registry, node = Registry(), LiveFile(1)
    registry.remember(node)
    registry.remember(node)
    registry.forget([(node.ino, 1)])
    assert registry.get(node.ino) is node
    registry.forget([(node.ino, 1)])
    assert registry.get(node.ino) is None
    assert len(registry) == 0


def test_the_newest_node_of_a_number_counts() -> None:
    registry, before, after = Registry(), LiveFile(1), LiveFile(1)
    registry.remember(before)
    registry.remember(after)
    assert registry.get(before.ino) is after


def test_forgetting_what_was_never_remembered_is_harmless() -> None:
    registry = Registry()
    registry.forget([(1, 1), (77, 5)])
    assert len(registry) == 0


STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(1, 3)), max_size=60)


@given(STEPS)
def test_it_counts_as_a_counter_does(steps: list[tuple[bool, int, int]]) -> None:
    registry, counts = Registry(), Counter[int]()
    for remember, volume, times in steps:
        node = LiveFile(volume)
        if remember:
            registry.remember(node)
            counts[node.ino] += 1
        else:
            drop = min(times, counts[node.ino])
            registry.forget([(node.ino, drop)] if drop else [])
            counts[node.ino] -= drop
        assert {ino for ino in map(number_of, range(1, 5)) if registry.get(ino)} == set(+counts)


def number_of(volume: int) -> int:
    return LiveFile(volume).ino
