"""Files below a repository: no symlink is followed, nothing is half written, nothing damaged is thrown away."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vsnapfs.core.errors import IntegrityError, NoSpaceError, NotFoundError
from vsnapfs.repository import layout as layout_module
from vsnapfs.repository.layout import Layout


@pytest.fixture
def layout(memory_path: Path) -> Iterator[Layout]:
    layout = Layout(memory_path)
    yield layout
    layout.close()


def test_names_of_files() -> None:
    assert layout_module.base_image(255) == "base/000000ff.img"
    assert layout_module.base_index(255) == "base/000000ff.idx"
    assert layout_module.primary_image(1) == "primary/00000001.img"
    assert layout_module.segment(1) == "journal/00000000000000000001.seg"


def test_a_symlink_is_not_followed(layout: Layout, memory_path: Path) -> None:
    (memory_path / "secret").write_text("x")
    (memory_path / "lock").symlink_to("secret")
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(IntegrityError, match="symlink"):
            layout.open("lock", flags)


def test_a_directory_that_is_a_symlink_leads_nowhere(layout: Layout, memory_path: Path) -> None:
    """Also when it was put there after the repository was opened."""
    (memory_path / "elsewhere").mkdir()
    (memory_path / "elsewhere/victim").write_text("untouched")
    (memory_path / "base").symlink_to("elsewhere")
    doings: list[Callable[[], object]] = [
        lambda: layout.open("base/victim", os.O_RDONLY),
        lambda: layout.open("base/new", os.O_RDWR | os.O_CREAT),
        lambda: layout.exists("base/victim"),
        lambda: layout.names("base"),
        lambda: layout.make_directory("base/new"),
        lambda: layout.write("base/victim", b"changed"),
        lambda: layout.rename("base/victim", "base/other"),
        lambda: layout.remove("base/victim"),
        lambda: layout.sync("base"),
    ]
    for doing in doings:
        with pytest.raises(IntegrityError, match="symlink"):
            doing()
    assert (memory_path / "elsewhere/victim").read_text() == "untouched"
    assert os.listdir(memory_path / "elsewhere") == ["victim"]


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(layout: Layout, memory_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        layout.write("vsnapfs.toml", b"")
        layout.make_directory("base")
        os.close(layout.open("base/x", os.O_RDWR | os.O_CREAT | os.O_EXCL))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((memory_path / name).stat().st_mode) for name in ("vsnapfs.toml", "base", "base/x")}
    assert modes == {"vsnapfs.toml": 0o600, "base": 0o700, "base/x": 0o600}


def test_the_way_to_the_repository_may_be_a_symlink(memory_path: Path) -> None:
    (memory_path / "real").mkdir()
    (memory_path / "way").symlink_to("real")
    layout = Layout(memory_path / "way")
    assert layout.path == memory_path.resolve() / "real"
    layout.close()


def test_write_replaces_the_whole_file(layout: Layout, memory_path: Path) -> None:
    layout.write("repository.json", b"old and long")
    layout.write("repository.json", b"new")
    assert (memory_path / "repository.json").read_bytes() == b"new"
    assert stat.S_IMODE((memory_path / "repository.json").stat().st_mode) == 0o600
    assert os.listdir(memory_path) == ["repository.json"]


def test_a_file_for_a_part_of_which_there_is_room_stays_as_it_was(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel writes what there is room for, and says that there is none with the next call."""
    layout.write("vsnapfs.toml", b"before")
    write, room = os.write, 5

    def short(fd: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, content[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(NoSpaceError):
        layout.write("vsnapfs.toml", b"afterwards")
    monkeypatch.undo()
    assert layout.read("vsnapfs.toml", 100) == b"before"
    layout.write("vsnapfs.toml", b"afterwards")
    assert layout.read("vsnapfs.toml", 100) == b"afterwards"


def test_write_does_not_write_through_a_symlink(layout: Layout, memory_path: Path) -> None:
    (memory_path / "victim").write_text("untouched")
    (memory_path / "repository.json.part").symlink_to("victim")
    (memory_path / "repository.json").symlink_to("victim")
    layout.write("repository.json", b"ours")
    assert (memory_path / "victim").read_text() == "untouched"
    assert (memory_path / "repository.json").read_bytes() == b"ours"


def test_set_aside_keeps_every_old_file(layout: Layout, memory_path: Path) -> None:
    assert layout.set_aside("catalog.db") is None
    kept = []
    for content in ("first", "second", "third"):
        (memory_path / "catalog.db").write_text(content)
        kept.append(layout.set_aside("catalog.db"))
    assert kept == ["catalog.db.bad", "catalog.db.2.bad", "catalog.db.3.bad"]
    assert [(memory_path / str(name)).read_text() for name in kept] == ["first", "second", "third"]


@pytest.mark.parametrize(("user", "blocks"), [(0, 7), (1000, 5)])
def test_what_a_filesystem_keeps_for_root_is_free_for_root(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, user: int, blocks: int
) -> None:
    found = os.statvfs_result((4096, 1024, 10, 7, 5, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert layout.free_bytes() == blocks * 1024


def test_removing_what_is_not_there_is_no_error(layout: Layout, memory_path: Path) -> None:
    (memory_path / "a").touch()
    layout.remove("a")
    layout.remove("a")
    assert not layout.exists("a")


def test_names_and_sizes_of_a_directory(layout: Layout, memory_path: Path) -> None:
    assert layout.names("base") == []
    assert layout.allocated_bytes("base") == 0
    layout.make_directory("base")
    for name in ("b", "a"):
        (memory_path / "base" / name).write_bytes(b"x" * 4096)
    (memory_path / "catalog.db").write_bytes(b"x" * 4096)
    assert layout.names("base") == ["a", "b"]
    assert layout.allocated_bytes("base") == 8192
    assert layout.allocated_bytes("", "catalog") == 4096
    assert stat.S_IMODE((memory_path / "base").stat().st_mode) == 0o700


def test_a_directory_may_come_and_go_while_others_look(layout: Layout, memory_path: Path) -> None:
    """What is missing has no names, whenever that shows."""
    come_and_go = "import os\nwhile True: os.mkdir('base'), os.rmdir('base')"
    with subprocess.Popen((sys.executable, "-c", come_and_go), cwd=memory_path) as other:
        try:
            seen = 0
            while seen < 1000:
                seen += layout.exists("base")
                assert layout.names("base") == []
        finally:
            other.kill()


def test_errors_are_ours(layout: Layout) -> None:
    with pytest.raises(NotFoundError, match="missing"):
        layout.open("missing", os.O_RDONLY)
    with pytest.raises(NotFoundError, match="missing"):
        layout.rename("missing", "other")
