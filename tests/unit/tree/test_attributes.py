"""What stat, getxattr and read show of each node."""

from __future__ import annotations

import json
import stat

import msgspec
import pytest

from tests.unit.tree.fakes import FakeRepository, time_ns_of
from tests.unit.tree.walking import walk
from vsnapfs.core.errors import NotFoundError
from vsnapfs.core.times import iso
from vsnapfs.tree.nodes import (
    LIVE_TIMEOUT_S,
    NAME_TIMEOUT_S,
    STABLE_TIMEOUT_S,
    Attributes,
    DiffFile,
    LiveFile,
    ManifestFile,
    ViewFile,
)
from vsnapfs.tree.tree import Tree

pytestmark = pytest.mark.unit


def attributes(tree: Tree, path: str) -> Attributes:
    return tree.attributes(walk(tree, path))


def text(tree: Tree, path: str) -> bytes:
    node = walk(tree, path)
    assert isinstance(node, (ManifestFile, DiffFile))
    return tree.content(node)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("", stat.S_IFDIR | 0o555),
        ("snaps", stat.S_IFDIR | 0o550),
        ("snaps/latest", stat.S_IFLNK | 0o777),
        ("snaps/a", stat.S_IFDIR | 0o550),
        ("snaps/a/db", stat.S_IFREG | 0o440),
        ("snaps/a/MANIFEST.json", stat.S_IFREG | 0o440),
        ("at", stat.S_IFDIR | 0o550),
        ("at/@2", stat.S_IFDIR | 0o550),
        ("diff", stat.S_IFDIR | 0o550),
        ("diff/@1..@2", stat.S_IFDIR | 0o550),
        ("diff/@1..@2/db.json", stat.S_IFREG | 0o440),
        ("live", stat.S_IFDIR | 0o550),
        ("live/db", stat.S_IFREG | 0o600),
    ],
)
def test_modes(repository: FakeRepository, tree: Tree, path: str, mode: int) -> None:
    repository.bookmark("a")
    assert attributes(tree, path).mode == mode


def test_nlink_counts_directories_as_find_expects(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b")
    expected = {
        "": 7,
        "snaps": 4,
        "at": 2,
        "diff": 2,
        "live": 2,
        "branches": 2,
        "snaps/a": 2,
        "snaps/a/db": 2,
        "snaps/latest": 1,
        "live/db": 1,
    }
    assert {path: attributes(tree, path).nlink for path in expected} == expected


def test_a_view_has_size_blocks_and_mtime_of_its_content(repository: FakeRepository, tree: Tree) -> None:
    seqno = repository.write("db")
    repository.write("logs")
    repository.bookmark("a")
    shown = attributes(tree, "snaps/a/db")
    assert (shown.size_bytes, shown.mtime_ns) == (1 << 20, time_ns_of(seqno))
    assert shown.blocks == (4096 + 100 + 511) // 512
    assert (shown.entry_timeout_s, shown.attr_timeout_s) == (STABLE_TIMEOUT_S, STABLE_TIMEOUT_S)


def test_a_directory_has_the_time_of_its_point(repository: FakeRepository, tree: Tree) -> None:
    made = repository.bookmark("a", at=2)
    for path, time_ns in (
        ("snaps/a", made.time_ns),
        ("snaps", made.time_ns),
        ("at/@1", time_ns_of(1)),
        ("diff/@1..@2", time_ns_of(2)),
    ):
        assert attributes(tree, path).mtime_ns == time_ns, path


def test_names_that_may_change_are_remembered_for_under_a_second(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    for path in ("snaps/a", "snaps/latest", "at/a", "at/-1s", "live/db"):
        assert attributes(tree, path).entry_timeout_s == NAME_TIMEOUT_S, path


def test_latest_is_as_long_as_its_target(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a-long-name")
    assert attributes(tree, "snaps/latest").size_bytes == len(tree.latest()) == 11


def test_live_has_the_size_of_now_and_counts_as_full(repository: FakeRepository, tree: Tree) -> None:
    seqno = repository.write("db")
    shown = attributes(tree, "live/db")
    assert (shown.size_bytes, shown.blocks, shown.mtime_ns) == (1 << 20, 2048, time_ns_of(seqno))
    assert shown.attr_timeout_s == LIVE_TIMEOUT_S
    repository.resize("db", 1 << 21)
    assert attributes(tree, "live/db").size_bytes == 1 << 21


def test_a_live_volume_that_was_removed_is_not_there(repository: FakeRepository, tree: Tree) -> None:
    node = walk(tree, "live/db")
    assert isinstance(node, LiveFile)
    repository.remove_volume("db")
    with pytest.raises(NotFoundError):
        tree.attributes(node)
    with pytest.raises(NotFoundError):
        tree.writable_file(node)


@pytest.mark.parametrize("path", ["snaps/a/MANIFEST.json", "at/@2/MANIFEST.json", "diff/@1..a/db.json"])
def test_the_size_of_text_is_exact(repository: FakeRepository, tree: Tree, path: str) -> None:
    repository.bookmark("a")
    content = text(tree, path)
    shown = attributes(tree, path)
    assert shown.size_bytes == len(content) > 0
    assert shown.blocks == -(-len(content) // 512)
    assert json.loads(content)


def test_a_manifest_is_that_of_its_directory(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a", at=2)
    assert json.loads(text(tree, "snaps/a/MANIFEST.json")) == {"seqno": 2, "bookmark": "a", "held": False}
    assert json.loads(text(tree, "at/a/MANIFEST.json")) == {"seqno": 2, "bookmark": "a", "held": False}
    assert json.loads(text(tree, "at/@2/MANIFEST.json")) == {"seqno": 2, "bookmark": None, "held": False}


def test_a_manifest_follows_its_bookmark(repository: FakeRepository, tree: Tree) -> None:
    made = repository.bookmark("a")
    node = walk(tree, "snaps/a/MANIFEST.json")
    assert isinstance(node, ManifestFile)
    before = tree.content(node)
    repository.put(msgspec.structs.replace(made, held=True))
    assert json.loads(tree.content(node))["held"] is True
    assert tree.attributes(node).size_bytes == len(tree.content(node)) != len(before)


def test_the_manifest_of_a_removed_bookmark_is_not_that_of_its_namesake(repository: FakeRepository, tree: Tree) -> None:
    made = repository.bookmark("a")
    node = walk(tree, "snaps/a/MANIFEST.json")
    assert isinstance(node, ManifestFile)
    repository.remove("a")
    repository.put(msgspec.structs.replace(repository.bookmark("a"), held=True))
    assert json.loads(tree.content(node)) == {"seqno": made.seqno, "bookmark": None, "held": False}


def test_text_is_made_once_for_lookup_stat_and_open(repository: FakeRepository, tree: Tree) -> None:
    for _ in range(3):
        attributes(tree, "diff/@1..@2/db.json")
        attributes(tree, "at/@2/MANIFEST.json")
    assert (repository.calls["diff"], repository.calls["manifest"]) == (1, 1)


def test_pairs_that_differ_in_name_keep_their_own_points(repository: FakeRepository, tree: Tree) -> None:
    seqno = repository.bookmark("a").seqno
    named = json.loads(text(tree, "diff/@1..a/db.json"))
    numbered = json.loads(text(tree, f"diff/@1..@{seqno}/db.json"))
    assert (named["until"]["bookmark"], numbered["until"]["bookmark"]) == ("a", None)


def test_xattrs_of_a_bookmark(repository: FakeRepository, tree: Tree) -> None:
    made = repository.bookmark("a", consistency="application", application="postgres")
    expected = {
        "seqno": str(made.seqno),
        "time": made.time,
        "consistency": "application",
        "application": "postgres",
        "profile": "",
    }
    assert tree.xattrs(walk(tree, "snaps/a")) == expected
    assert tree.xattrs(walk(tree, "at/a")) == expected


def test_any_instant_is_as_after_a_power_cut(tree: Tree) -> None:
    shown = tree.xattrs(walk(tree, "at/@2"))
    assert shown == {"seqno": "2", "time": iso(time_ns_of(2)), "consistency": "crash", "application": "", "profile": ""}


def test_xattrs_of_a_view_are_of_its_content(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    repository.bookmark("b", consistency="filesystem")
    shown = [tree.xattrs(walk(tree, f"snaps/{name}/db")) for name in "ab"]
    assert shown[0] == shown[1] == {"seqno": "1", "time": iso(time_ns_of(1))}


@pytest.mark.parametrize("path", ["", "snaps", "snaps/a/MANIFEST.json", "diff/@1..@2/db.json", "live/db"])
def test_nothing_else_has_xattrs(repository: FakeRepository, tree: Tree, path: str) -> None:
    repository.bookmark("a")
    assert tree.xattrs(walk(tree, path)) == {}


def test_a_view_is_opened_at_a_point_with_its_content(repository: FakeRepository, tree: Tree) -> None:
    repository.bookmark("a")
    made = repository.bookmark("b")
    node = walk(tree, "snaps/b/db")
    assert isinstance(node, ViewFile)
    assert tree.view(node).file() == f"db@{made.seqno}"
    repository.remove("b")
    assert tree.view(node).file() == f"db@{made.seqno}"


def test_live_is_opened_by_id(tree: Tree) -> None:
    node = walk(tree, "live/logs")
    assert isinstance(node, LiveFile)
    assert tree.writable_file(node) == "live 2"
    assert tree.live_nodes() == [LiveFile(1), LiveFile(2)]
