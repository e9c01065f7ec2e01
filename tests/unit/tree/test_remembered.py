"""What a tree leaves behind for the tree of the next process, and what needs nothing left behind."""

from __future__ import annotations

import pytest

from tests.unit.tree.fakes import FakeRepository
from tests.unit.tree.walking import walk
from vsnapfs.tree import inodes
from vsnapfs.tree.handles import HANDLE_BIT, Texts, handle_of, inode_of
from vsnapfs.tree.listing import Entry
from vsnapfs.tree.nodes import DiffPair, Directory, Fixed
from vsnapfs.tree.remembered import Remembered
from vsnapfs.tree.tree import Tree

pytestmark = pytest.mark.unit


def pairs(repository: FakeRepository, count: int) -> list[DiffPair]:
    """Comparisons of the bookmarks a and b under so many names."""
    repository.bookmark("a")
    repository.bookmark("b")
    tree = Tree(repository, live=True)
    first = walk(tree, "diff/a..b")
    assert isinstance(first, DiffPair)
    return [DiffPair(f"-{number}s..b", first.since, first.until) for number in range(count)]


def test_the_next_tree_knows_what_was_compared(repository: FakeRepository) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    memory = memoryview(bytearray(1 << 16))
    first = Tree(repository, live=True, memory=memory)
    nodes = [walk(first, path) for path in ("diff/a..b", "diff/a..b/db.json", "diff/@1..b")]
    second = Tree(repository, live=True, memory=memory)
    assert [second.node(node.ino) for node in nodes] == nodes


def test_each_is_kept_once_and_the_newest_come_first(repository: FakeRepository) -> None:
    some = pairs(repository, 3)
    memory = memoryview(bytearray(1 << 16))
    remembered = Remembered(memory)
    for pair in [*some, *some]:
        remembered.add(pair)
    assert list(Remembered(memory)) == list(remembered) == some[::-1]


def test_a_full_memory_forgets_the_older_half(repository: FakeRepository) -> None:
    many = pairs(repository, 100)
    memory = memoryview(bytearray(4096))
    remembered = Remembered(memory)
    for number, pair in enumerate(many):
        remembered.add(pair)
        kept = list(Remembered(memory))
        assert kept == list(remembered)
        assert kept == many[number::-1][: len(kept)]
    assert 3 < len(list(remembered)) < len(many)


def test_a_writer_that_died_leaves_an_entry_or_none(repository: FakeRepository) -> None:
    """Every store of the second entry but the last, its length."""
    first, second = pairs(repository, 2)
    memory = bytearray(1 << 12)
    remembered = Remembered(memoryview(memory))
    remembered.add(first)
    before = bytes(memory)
    remembered.add(second)
    end = before.rstrip(b"\0")
    memory[len(end) : len(end) + 4] = bytes(4)
    assert list(Remembered(memoryview(memory))) == [first]


def test_a_listing_goes_on_behind_its_cookie(repository: FakeRepository, tree: Tree) -> None:
    for name in "abcdef":
        repository.bookmark(name)
    snaps = Fixed(inodes.SNAPS)
    first = tree.entries(snaps, 0, 2)
    assert [entry.name for entry in first] == ["a", "b"]
    repository.remove("a")
    repository.remove("b")
    repository.remove("d")
    repository.bookmark("g", at=1)
    rest = Tree(repository, live=True).entries(snaps, first[-1].cookie, 100)
    assert [entry.name for entry in rest] == ["c", "e", "f", "g", "latest"]
    assert tree.entries(snaps, rest[-1].cookie) == []


@pytest.mark.parametrize("path", ["", "live", "snaps/a", "diff/a..b", "snaps"])
def test_a_listing_in_pieces_is_the_listing(repository: FakeRepository, tree: Tree, path: str) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    node = walk(tree, path)
    assert isinstance(node, Directory)
    whole = list(tree.entries(node))
    pieces: list[Entry] = []
    after = 0
    while piece := tree.entries(node, after, 1):
        pieces += piece
        after = piece[-1].cookie
    assert pieces == whole
    assert [entry.cookie for entry in whole] == sorted({entry.cookie for entry in whole})


def test_handles_are_made_of_inodes() -> None:
    ino = inodes.number(inodes.Kind.DIFF_FILE, inodes.VALUE_MAX)
    assert handle_of(ino) & HANDLE_BIT
    assert inode_of(handle_of(ino)) == ino


def test_a_text_stays_as_it_was_while_somebody_has_it_open() -> None:
    texts = Texts()
    texts.open(7, b"old")
    texts.open(7, b"new")
    texts.close(7)
    assert texts.get(7) == b"old"
    texts.close(7)
    assert texts.get(7) is None
    texts.close(7)
    texts.open(7, b"new")
    assert texts.get(7) == b"new"
