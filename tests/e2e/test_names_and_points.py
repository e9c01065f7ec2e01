"""Names that are bad, unknown or taken, points outside the window: exit status, errno, hint."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.e2e.ground import refused
from tests.support.files import opened
from tests.support.processes import must, must_json, run
from vsnapfs.repository.repository import Repository

NOT_FOUND, USAGE, BUSY = 3, 2, 5
RULE = "a name is 1 to 127 of A-Z a-z 0-9"
LONG = "x" * 128

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture
def marked(repository: Path) -> Path:
    """The repository with the bookmarks monday and tuesday, at @2 and @3."""
    with Repository.open(repository, owner=True) as opened:
        opened.bookmark_add("monday")
        opened.bookmark_add("tuesday")
    return repository


@pytest.mark.parametrize(
    "words",
    [
        ("bookmark", "show", "mondy"),
        ("bookmark", "remove", "Monday"),
        ("bookmark", "hold", "mondai"),
        ("bookmark", "release", "mond"),
        ("bookmark", "add", "x", "--at", "mondy"),
        ("volume", "list", "--at", "mondy"),
        ("diff", "mondy", "tuesday"),
        ("export", "mondy", "db", "--to", "nowhere"),
    ],
)
def test_an_unknown_bookmark_is_said_with_the_name_that_was_meant(marked: Path, words: tuple[str, ...]) -> None:
    assert "did you mean monday" in refused(marked, NOT_FOUND, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("volume", "remove", "dbb"),
        ("volume", "resize", "DB", "8M"),
        ("volume", "resync", "db1"),
        ("export", "monday", "db0", "--to", "nowhere"),
        ("diff", "monday", "tuesday", "db2"),
    ],
)
def test_an_unknown_volume_is_said_with_the_name_that_was_meant(marked: Path, words: tuple[str, ...]) -> None:
    assert "did you mean db?" in refused(marked, NOT_FOUND, *words)


NOT_THERE = {
    "snaps/mondy": errno.ENOENT,
    "at/mondy": errno.ENOENT,
    "at/monday/dbb": errno.ENOENT,
    "diff/mondy..tuesday": errno.ENOENT,
    "at/@99": errno.ENOENT,
    "at/@0": errno.ENOENT,
    "at/1999-12-31": errno.ENOENT,
    "at/@x": errno.EINVAL,
    "at/a b": errno.EINVAL,
    "diff/tuesday..a b": errno.EINVAL,
    f"snaps/{'x' * 256}": errno.ENAMETOOLONG,
    f"at/{'x' * 256}": errno.ENAMETOOLONG,
}


def errno_of(path: Path) -> int | None:
    """What stat says. None: it is there."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno
    return None


def test_the_tree_tells_names_that_are_not_there_from_names_that_cannot_be(marked: Path, mount: Path) -> None:
    assert {path: errno_of(mount / path) for path in NOT_THERE} == NOT_THERE


BAD = ["", "a/b", ".a", "a b", "a..b", "-a", "ä", "a\nb", "..", LONG]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_the_rule(repository: Path, name: str) -> None:
    assert RULE in refused(repository, USAGE, "bookmark", "add", "--", name)
    assert RULE in refused(repository, USAGE, "volume", "add", "--size", "1M", "--", name)
    assert must_json(repository, "bookmark", "list")["bookmarks"] == []
    assert len(must_json(repository, "volume", "list")["volumes"]) == 1


@pytest.mark.parametrize("name", ["latest", "2026-11-23", "2026-11-23T10:15:00Z"])
def test_a_bookmark_cannot_have_the_name_of_another_form_of_point(repository: Path, name: str) -> None:
    assert "another form of point" in refused(repository, USAGE, "bookmark", "add", name)


def test_a_volume_cannot_have_the_name_of_the_manifest(repository: Path) -> None:
    refused(repository, USAGE, "volume", "add", "MANIFEST.json", "--size", "1M")


def test_the_longest_name_will_do(repository: Path) -> None:
    must(repository, "bookmark", "add", LONG[1:])
    assert must_json(repository, "bookmark", "show", LONG[1:])["bookmark"]["name"] == LONG[1:]


def test_a_taken_name_leaves_the_old_one(marked: Path) -> None:
    before = must_json(marked, "bookmark", "list"), must_json(marked, "volume", "list")
    assert "monday" in refused(marked, BUSY, "bookmark", "add", "monday")
    assert "monday" in refused(marked, BUSY, "bookmark", "add", "monday", "--at", "@1")
    assert "db" in refused(marked, BUSY, "volume", "add", "db", "--size", "1M")
    assert (must_json(marked, "bookmark", "list"), must_json(marked, "volume", "list")) == before


def test_a_taken_name_is_refused_by_the_server_too(marked: Path, server: object) -> None:
    assert "monday" in refused(marked, BUSY, "bookmark", "add", "monday")
    assert "db" in refused(marked, BUSY, "volume", "add", "db", "--size", "1M")


@pytest.mark.parametrize("point", ["@99", "@0", "1999-12-31", "-100w"])
def test_a_point_outside_the_window_is_said_with_the_window(marked: Path, point: str) -> None:
    for words in (("bookmark", "add", "x", "--at", point), ("export", point, "db", "--to", "nowhere")):
        line = refused(marked, NOT_FOUND, *words)
        assert "outside the window" in line
        assert "(@1) to " in line
        assert "(@3)" in line
    assert [bookmark["name"] for bookmark in must_json(marked, "bookmark", "list")["bookmarks"]] == [
        "monday",
        "tuesday",
    ]


def test_the_points_of_a_diff_stand_in_the_order_of_time(marked: Path) -> None:
    assert "older point first" in refused(marked, USAGE, "diff", "tuesday", "monday")


def test_a_held_bookmark_cannot_be_removed_until_it_is_released(marked: Path) -> None:
    must(marked, "bookmark", "hold", "monday", "--note", "audit of Mr Smith")
    line = refused(marked, BUSY, "bookmark", "remove", "monday")
    assert "audit of Mr Smith" in line
    assert "bookmark release monday" in line
    must(marked, "bookmark", "release", "monday")
    must(marked, "bookmark", "remove", "monday")
    assert [bookmark["name"] for bookmark in must_json(marked, "bookmark", "list")["bookmarks"]] == ["tuesday"]


def test_a_removed_bookmarks_point_can_still_be_read(marked: Path, server: object, mount: Path) -> None:
    with opened(mount / "snaps/monday/db") as fd:
        must(marked, "bookmark", "remove", "monday")
        assert len(os.pread(fd, 1 << 23, 0)) == 4 << 20
    assert (mount / "at/@2/db").stat().st_size == 4 << 20
    assert run(marked, "bookmark", "show", "monday").returncode == NOT_FOUND


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("bokmark", "list"), "bookmark"),
        (("bookmark", "ad", "x"), "add"),
        (("volume", "lst"), "list"),
        (("status", "--jsn"), "--json"),
    ],
)
def test_a_mistyped_command_is_said_with_the_one_that_was_meant(
    repository: Path, words: tuple[str, ...], meant: str
) -> None:
    assert f"did you mean {meant}?" in refused(repository, USAGE, *words)


@pytest.mark.parametrize("size", ["0", "-1", "1X", "1.3", "511", "100K1", "9999P"])
def test_a_size_that_cannot_be_is_refused(repository: Path, size: str) -> None:
    refused(repository, USAGE, "volume", "add", "new", f"--size={size}")
    refused(repository, USAGE, "volume", "resize", "db", "--", size)
    assert [v["size_bytes"] for v in must_json(repository, "volume", "list")["volumes"]] == [4 << 20]
