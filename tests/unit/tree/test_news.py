"""When a tree looks for what changed."""

from __future__ import annotations

import pytest

from tests.unit.tree.fakes import FakeRepository
from tests.unit.tree.walking import listed, walk
from vsnapfs.core.errors import NotFoundError
from vsnapfs.tree import inodes
from vsnapfs.tree.inodes import Kind
from vsnapfs.tree.listing import Listing, directory_of
from vsnapfs.tree.nodes import NAME_TIMEOUT_S, Fixed
from vsnapfs.tree.tree import FRESH_FOR_S, Tree

pytestmark = pytest.mark.unit

SNAPS = Fixed(inodes.SNAPS)


class Clock:
    """Stands still until a test moves it."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository()


@pytest.fixture
def reader(repository: FakeRepository, clock: Clock) -> Tree:
    return Tree(repository, live=False, clock=clock)


def test_what_a_tree_says_and_the_kernel_remembers_is_under_a_second_old() -> None:
    assert FRESH_FOR_S + NAME_TIMEOUT_S < 1


def test_a_reader_finds_a_new_bookmark_at_once(repository: FakeRepository, reader: Tree) -> None:
    listed(reader, "snaps")
    repository.bookmark("new", seen=False)
    assert walk(reader, "snaps/new").ino


def test_a_reader_finds_a_new_point_at_once(repository: FakeRepository, reader: Tree) -> None:
    listed(reader, "snaps")
    repository.bookmark("new", seen=False)
    assert walk(reader, "at/new").ino
    assert walk(reader, "diff/@1..new").ino


class Overtaken(Tree):
    """Whatever it keeps, another thread puts in its place what that one had begun to make before."""

    @property
    def _listing(self) -> Listing:
        return self._first

    @_listing.setter
    def _listing(self, made: Listing) -> None:
        self._first = getattr(self, "_first", made)


@pytest.mark.parametrize("live", [True, False])
def test_a_name_is_found_whatever_other_threads_keep(repository: FakeRepository, clock: Clock, live: bool) -> None:
    tree = Overtaken(repository, live=live, clock=clock)
    bookmark = repository.bookmark("new")
    for name in ("snaps/new", "snaps/latest"):
        assert walk(tree, name).ino
    assert walk(tree, "at/new").ino == directory_of(Kind.AT_BOOKMARK, bookmark).ino


def test_a_reader_lists_what_is_new_after_a_moment(repository: FakeRepository, reader: Tree, clock: Clock) -> None:
    assert listed(reader, "snaps") == []
    repository.bookmark("new", seen=False)
    assert listed(reader, "snaps") == []
    clock.now_s += FRESH_FOR_S
    assert listed(reader, "snaps") == ["new", "latest"]


def test_a_reader_looks_once_for_many_questions(repository: FakeRepository, reader: Tree) -> None:
    repository.bookmark("a")
    for _ in range(10):
        walk(reader, "snaps/a/db")
        listed(reader, "snaps")
        reader.attributes(SNAPS)
    assert repository.calls["refresh"] == 1


def test_a_name_that_is_not_there_costs_one_look(repository: FakeRepository, reader: Tree) -> None:
    listed(reader, "snaps")
    before = repository.calls["refresh"]
    with pytest.raises(NotFoundError):
        walk(reader, "snaps/nosuch")
    assert repository.calls["refresh"] == before + 1


def test_an_owner_never_looks_into_its_own_journal(repository: FakeRepository) -> None:
    owner = Tree(repository, live=True)
    repository.bookmark("a")
    walk(owner, "snaps/a")
    with pytest.raises(NotFoundError):
        walk(owner, "snaps/nosuch")
    assert listed(owner, "snaps") == ["a", "latest"]
    assert repository.calls["refresh"] == 0


def test_bookmarks_are_read_once_a_generation(repository: FakeRepository) -> None:
    owner = Tree(repository, live=True)
    repository.bookmark("a")
    before = repository.calls["bookmarks"]
    for _ in range(10):
        walk(owner, "snaps/a")
        listed(owner, "snaps")
    assert repository.calls["bookmarks"] == before + 1


def test_lookup_nowait_answers_from_a_fresh_listing_only(
    repository: FakeRepository, reader: Tree, clock: Clock
) -> None:
    repository.bookmark("a")
    assert reader.lookup_nowait(SNAPS, "a") is None
    found = walk(reader, "snaps/a")
    assert reader.lookup_nowait(SNAPS, "a") == found
    assert reader.lookup_nowait(SNAPS, "latest") is None
    assert reader.lookup_nowait(Fixed(inodes.ROOT), "snaps") is None
    clock.now_s += FRESH_FOR_S
    assert reader.lookup_nowait(SNAPS, "a") is None
    listed(reader, "snaps")
    repository.remove("a")
    assert reader.lookup_nowait(SNAPS, "a") is None


def test_a_second_listing_makes_no_directory_anew(repository: FakeRepository, reader: Tree) -> None:
    for number in range(100):
        repository.bookmark(f"b{number:05}")
    first = reader.entries(SNAPS)
    again = reader.entries(SNAPS)
    assert len(first) == 101
    assert all(one[1] is other[1] and one[2] is other[2] for one, other in zip(first[:100], again[:100], strict=True))
