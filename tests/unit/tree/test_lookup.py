"""What is where: names to nodes."""

from __future__ import annotations

from errno import ESTALE

import pytest

from tests.unit.tree.fakes import FakeRepository
from tests.unit.tree.walking import listed, walk
from vsnapfs.core.errors import NameTooLongError, NotFoundError, UsageError
from vsnapfs.tree import inodes
from vsnapfs.tree.nodes import (
    NAME_TIMEOUT_S,
    STABLE_TIMEOUT_S,
    DiffPair,
    Directory,
    Fixed,
    LiveFile,
    PointDirectory,
    ViewFile,
)
from vsnapfs.tree.tree import StaleError, Tree

pytestmark = pytest.mark.unit


def test_the_root_shows_what_can_be_written_to_its_owner_only(repository: FakeRepository) -> None:
    assert listed(Tree(repository, live=True), "") == ["snaps", "at", "diff", "live", "branches"]
    repository.calls.clear()
    reader = Tree(repository, live=False)
    assert listed(reader, "") == ["snaps", "at", "diff"]
    for name in ("live", "branches"):
        with pytest.raises(NotFoundError):
            walk(reader, name)
    assert repository.calls["branch_places"] == 0


def test_snaps_lists_bookmarks_as_they_were_made_and_latest(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("b")
    repository.bookmark("a", at=1)
    repository.bookmark("c")
    repository.bookmark("d", at=1)
    assert listed(tree, "snaps") == ["b", "a", "c", "d", "latest"]
    assert tree.latest() == "c"


def test_of_two_bookmarks_on_one_seqno_the_later_made_is_latest(repository: FakeRepository, tree: Tree) -> None:
    seqno = repository.bookmark("z").seqno
    repository.bookmark("a", at=seqno)
    assert tree.latest() == "a"


def test_without_bookmarks_there_is_no_latest(tree: Tree) -> None:
    assert listed(tree, "snaps") == []
    with pytest.raises(NotFoundError):
        walk(tree, "snaps/latest")
    with pytest.raises(NotFoundError):
        tree.latest()


def test_a_point_shows_its_volumes_and_a_manifest(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("early", at=1)
    repository.bookmark("late")
    assert listed(tree, "snaps/early") == ["MANIFEST.json", "db"]
    assert listed(tree, "snaps/late") == ["MANIFEST.json", "db", "logs"]
    with pytest.raises(NotFoundError):
        walk(tree, "snaps/early/logs")


def test_at_and_diff_list_nothing_but_find_by_name(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    assert listed(tree, "at") == []
    assert listed(tree, "diff") == []
    assert listed(tree, "at/@2") == ["MANIFEST.json", "db", "logs"]
    assert listed(tree, "diff/a..b") == ["db.json", "logs.json"]


def test_a_diff_shows_the_volumes_of_its_later_point(tree: Tree) -> None:
    assert listed(tree, "diff/@1..@2") == ["db.json", "logs.json"]
    assert listed(tree, "diff/@1..@1") == ["db.json"]
    for name in ("logs.json", "db", "db.txt"):
        with pytest.raises(NotFoundError):
            walk(tree, f"diff/@1..@1/{name}")


@pytest.mark.parametrize("name", ["a", "a..", "..b", "a..b..c", "a...b"])
def test_what_is_no_pair_of_points_is_not_there(repository: FakeRepository, tree: Tree, name: str) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    with pytest.raises((NotFoundError, UsageError)):
        walk(tree, f"diff/{name}")


@pytest.mark.parametrize("text", ["@9", "nosuch", "@99999999999"])
def test_a_point_that_is_not_there_is_enoent(tree: Tree, text: str) -> None:
    with pytest.raises(NotFoundError):
        walk(tree, f"at/{text}")


@pytest.mark.parametrize("text", ["-5parsecs", "@x", "2026-13-01"])
def test_a_text_that_is_no_point_is_einval(tree: Tree, text: str) -> None:
    with pytest.raises(UsageError):
        walk(tree, f"at/{text}")


@pytest.mark.parametrize("place", ["", "snaps", "at", "diff", "live", "at/@2", "diff/@1..@2"])
def test_hidden_names_that_programs_probe_for_are_not_there(tree: Tree, place: str) -> None:
    parent = walk(tree, place) if place else Fixed(inodes.ROOT)
    for name in (".git", ".Trash", ".hidden"):
        with pytest.raises(NotFoundError):
            tree.lookup(parent, name)


def test_a_name_that_no_filesystem_has_is_too_long(tree: Tree) -> None:
    for place in ("snaps", "at", "diff", "live", "at/@2"):
        with pytest.raises(NameTooLongError):
            tree.lookup(walk(tree, place), "é" * 128)


def test_files_have_no_entries(repository: FakeRepository, tree: Tree) -> None:
    for path in ("at/@2/db", "at/@2/MANIFEST.json", "live/db", "diff/@1..@2/db.json"):
        with pytest.raises(NotFoundError):
            tree.lookup(walk(tree, path), "x")


@pytest.mark.parametrize("path", ["at/@2", "at/-1s", "diff/@1..@2", "diff/-1s..@2"])
def test_the_name_of_a_point_is_looked_up_again_since_the_point_may_be_given_up(tree: Tree, path: str) -> None:
    attributes = tree.attributes(walk(tree, path))
    assert (attributes.entry_timeout_s, attributes.attr_timeout_s) == (NAME_TIMEOUT_S, STABLE_TIMEOUT_S)


def test_a_bookmark_in_at_is_the_bookmark(repository: FakeRepository, tree: Tree) -> None:
    made = repository.bookmark("b", consistency="application", application="db")
    node = walk(tree, "at/b")
    assert isinstance(node, PointDirectory)
    assert node.bookmark == made
    assert node.ino != walk(tree, "snaps/b").ino
    assert node.ino != walk(tree, f"at/@{made.seqno}").ino


def test_live_shows_volumes_with_a_primary(repository: FakeRepository, tree: Tree) -> None:
    assert listed(tree, "live") == ["db", "logs"]
    assert walk(tree, "live/logs") == LiveFile(2)
    repository.remove_volume("logs")
    assert listed(tree, "live") == ["db"]
    with pytest.raises(NotFoundError):
        walk(tree, "live/logs")


def test_a_removed_bookmark_is_gone_and_made_again_is_another(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("b")
    before = walk(tree, "snaps/b")
    repository.remove("b")
    with pytest.raises(NotFoundError):
        walk(tree, "snaps/b")
    repository.bookmark("b")
    assert walk(tree, "snaps/b").ino != before.ino


def test_one_inode_for_one_content_over_many_bookmarks(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.write("logs")
    repository.bookmark("b")
    repository.write("db")
    repository.bookmark("c")
    db = [walk(tree, f"snaps/{name}/db").ino for name in "abc"]
    logs = [walk(tree, f"snaps/{name}/logs").ino for name in "abc"]
    assert db[0] == db[1] != db[2]
    assert logs[0] != logs[1] == logs[2]
    assert walk(tree, "at/@2/db").ino == db[0]


def test_no_two_nodes_share_a_number(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    paths = [
        "snaps",
        "at",
        "diff",
        "live",
        "snaps/latest",
        "snaps/a",
        "snaps/b",
        "at/a",
        "at/@2",
        "diff/a..b",
        "diff/@1..@2",
    ]
    paths += ["snaps/a/db", "snaps/a/logs", "snaps/a/MANIFEST.json", "at/a/MANIFEST.json", "at/@2/MANIFEST.json"]
    paths += ["diff/a..b/db.json", "diff/a..b/logs.json", "diff/@1..@2/db.json", "live/db", "live/logs"]
    numbers = {walk(tree, path).ino for path in paths}
    assert len(numbers) == len(paths)
    assert inodes.ROOT not in numbers


FOUND_AGAIN = """
snaps snaps/latest snaps/a snaps/a/db snaps/a/MANIFEST.json at/a at/a/MANIFEST.json at/@2 at/@2/logs
at/@2/MANIFEST.json live/db
"""


@pytest.mark.parametrize("path", FOUND_AGAIN.split())
def test_a_node_is_found_again_from_its_number(repository: FakeRepository, tree: Tree, path: str) -> None:
    repository.bookmark("a")
    repository.write("db")
    node = walk(tree, path)
    again = Tree(repository, live=True).node(node.ino)
    if isinstance(node, ViewFile):
        assert isinstance(again, ViewFile)
        assert again.volume == node.volume
    else:
        assert again == node


def test_numbers_that_name_nothing_any_more_are_stale(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    lost = [walk(tree, path).ino for path in ("snaps/a", "at/a/MANIFEST.json", "diff/a..b", "diff/a..b/db.json")]
    lost.append(inodes.number(inodes.Kind.VIEW, repository.bookmark("not a write").seqno))
    repository.remove("a")
    another = Tree(repository, live=True)
    for ino in lost:
        with pytest.raises(StaleError) as caught:
            another.node(ino)
        assert caught.value.errno == ESTALE


def test_entries_are_what_lookup_finds(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    places: list[Directory] = [Fixed(inodes.ROOT)]
    for path in ("snaps", "live", "snaps/a", "diff/a..b"):
        node = walk(tree, path)
        assert isinstance(node, (Fixed, PointDirectory, DiffPair))
        places.append(node)
    for place in places:
        for _, name, node, attributes in tree.entries(place):
            found = tree.lookup(place, name)
            assert (found, tree.attributes(found)) == (node, attributes)
            assert attributes.ino == node.ino
