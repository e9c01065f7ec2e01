"""branches/ in the tree: names, attributes, numbers that are found again, and what becomes of a branch that was removed."""

from __future__ import annotations

import json
import stat
from errno import ESTALE

import pytest

from tests.unit.tree.fakes import FakeRepository, time_ns_of
from tests.unit.tree.walking import listed, walk
from vsnapfs.core.errors import NotFoundError
from vsnapfs.core.times import iso
from vsnapfs.tree import inodes
from vsnapfs.tree.nodes import BranchDirectory, BranchFile, BranchManifest, Fixed
from vsnapfs.tree.tree import StaleError, Tree

pytestmark = pytest.mark.unit


def test_branches_are_listed_as_they_were_made(repository: FakeRepository, tree: Tree) -> None:
    assert listed(tree, "branches") == []
    for name in ("b", "a", "c"):
        repository.branch(name)
    assert listed(tree, "branches") == ["b", "a", "c"]
    assert tree.attributes(walk(tree, "branches")).nlink == 5


def test_a_listing_goes_on_behind_a_cookie(repository: FakeRepository, tree: Tree) -> None:
    for name in "abcd":
        repository.branch(name)
    first, second = tree.entries(Fixed(inodes.BRANCHES), 0, 2)
    repository.remove_branch("b")
    repository.branch("e")
    assert [entry.name for entry in (first, second)] == ["a", "b"]
    assert [entry.name for entry in tree.entries(Fixed(inodes.BRANCHES), second.cookie)] == ["c", "d", "e"]


def test_a_new_branch_is_seen_at_once(repository: FakeRepository, tree: Tree) -> None:
    with pytest.raises(NotFoundError):
        walk(tree, "branches/x")
    repository.branch("x")
    assert isinstance(walk(tree, "branches/x"), BranchDirectory)


def test_a_branch_shows_its_volumes_and_a_manifest(repository: FakeRepository, tree: Tree) -> None:
    repository.branch("x")
    repository.branch("early", seqno=1)
    assert listed(tree, "branches/x") == ["MANIFEST.json", "db", "logs"]
    assert listed(tree, "branches/early") == ["MANIFEST.json", "db"]
    assert isinstance(walk(tree, "branches/x/MANIFEST.json"), BranchManifest)
    assert isinstance(walk(tree, "branches/x/logs"), BranchFile)
    for path in ("branches/y", "branches/x/other", "branches/early/logs", "branches/.x", "branches/x/.db"):
        with pytest.raises(NotFoundError):
            walk(tree, path)


def test_attributes(repository: FakeRepository, tree: Tree) -> None:
    made = repository.branch("x")
    directory = tree.attributes(walk(tree, "branches/x"))
    assert (directory.mode, directory.nlink, directory.mtime_ns) == (stat.S_IFDIR | 0o550, 2, made.created_ns)
    volume = tree.attributes(walk(tree, "branches/x/db"))
    assert (volume.mode, volume.size_bytes, volume.blocks) == (stat.S_IFREG | 0o600, 1 << 20, 2048)
    assert volume.mtime_ns == time_ns_of(100 * made.id + len("db"))
    manifest = walk(tree, "branches/x/MANIFEST.json")
    assert isinstance(manifest, BranchManifest)
    assert json.loads(tree.content(manifest)) == {"branch": "x", "id": made.id}
    assert tree.attributes(manifest).size_bytes == len(tree.content(manifest))
    assert tree.attributes(manifest).mode == stat.S_IFREG | 0o440


def test_xattrs_tell_the_point(repository: FakeRepository, tree: Tree) -> None:
    repository.branch("x", seqno=2)
    assert tree.xattrs(walk(tree, "branches/x")) == {"seqno": "2", "time": iso(time_ns_of(2))}
    assert tree.xattrs(walk(tree, "branches/x/db")) == {}


@pytest.mark.parametrize(
    "path", ["branches", "branches/x", "branches/x/db", "branches/x/logs", "branches/x/MANIFEST.json"]
)
def test_a_number_gives_back_its_node(repository: FakeRepository, tree: Tree, path: str) -> None:
    repository.branch("w")
    repository.branch("x")
    node = walk(tree, path)
    assert Tree(repository, live=True).node(node.ino) == node


def test_numbers_differ(repository: FakeRepository, tree: Tree) -> None:
    names = ["db", "logs", "MANIFEST.json"]
    for name in "ab":
        repository.branch(name)
    paths = [f"branches/{branch}{below}" for branch in "ab" for below in ["", *(f"/{name}" for name in names)]]
    assert len({walk(tree, path).ino for path in paths}) == len(paths)


def test_it_is_opened_by_branch_and_volume_and_opened_again_by_number(repository: FakeRepository, tree: Tree) -> None:
    repository.branch("x")
    node = walk(tree, "branches/x/logs")
    assert isinstance(node, BranchFile)
    assert tree.writable_file(node) == "logs of x"
    assert Tree(repository, live=True).open_again(node.ino) == "logs of x"


def test_a_removed_branch_is_gone_also_when_there_is_a_new_one_of_its_name(
    repository: FakeRepository, tree: Tree
) -> None:
    repository.branch("x")
    nodes = [walk(tree, f"branches/x{below}") for below in ("", "/db", "/MANIFEST.json")]
    repository.remove_branch("x")
    repository.branch("x")
    for node in nodes:
        with pytest.raises(StaleError) as caught:
            tree.node(node.ino)
        assert caught.value.errno == ESTALE
    assert isinstance(nodes[1], BranchFile)
    with pytest.raises(StaleError):
        tree.writable_file(nodes[1])
    with pytest.raises(StaleError):
        tree.attributes(nodes[1])
    assert walk(tree, "branches/x/db").ino != nodes[1].ino


def test_a_number_of_a_volume_that_the_branch_does_not_have(repository: FakeRepository, tree: Tree) -> None:
    made = repository.branch("x", seqno=1)
    with pytest.raises(StaleError):
        tree.node(inodes.branch_volume(made.id, 2))
