"""Plain files and pipes: the name that counts comes last, and what was broken off can be gone on with."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from vsnapfs.core.errors import BusyError, NameTakenError, NoSpaceError, NotFoundError, StoreError, UsageError
from vsnapfs.media import writeback
from vsnapfs.media.plain import PipeWriter, PlainWriter, index_of, open_plain, partial_bytes, partial_of

pytestmark = pytest.mark.unit


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    writer = PlainWriter(path)
    writer.write(b"abc")
    assert not path.exists()
    writer.finish()
    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["a.tar"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_broken_off_stays_and_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    assert partial_bytes(path) == 0
    writer = PlainWriter(path)
    writer.write(b"abcdef")
    writer.abandon()
    assert partial_bytes(path) == 6
    with pytest.raises(NameTakenError, match="from an earlier try"):
        PlainWriter(path)
    assert partial_bytes(path) == 6
    again = PlainWriter(path, resume=True)
    again.keep(4)
    again.write(b"XY")
    again.finish()
    assert path.read_bytes() == b"abcdXY"
    assert not partial_of(path).exists()


def test_a_file_that_exists_is_replaced_only_when_told_and_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"old")
    with pytest.raises(NameTakenError, match="--force"):
        PlainWriter(path)
    writer = PlainWriter(path, force=True)
    writer.write(b"new")
    assert path.read_bytes() == b"old"
    writer.finish()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("how", [{}, {"force": True}, {"resume": True}], ids=str)
def test_two_do_not_write_one_file(tmp_path: Path, how: dict[str, bool]) -> None:
    path = tmp_path / "a.tar"
    writer = PlainWriter(path)
    writer.write(b"abc")
    with pytest.raises(BusyError, match=r"a\.tar\.partial is being written"):
        PlainWriter(path, **how)
    writer.finish()
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize("how", [{}, {"force": True}, {"resume": True}], ids=str)
def test_who_is_refused_takes_nothing_away(tmp_path: Path, how: dict[str, bool]) -> None:
    """Of somebody who has written nothing yet, or who has just finished."""
    path = tmp_path / "a.tar"
    writer = PlainWriter(path)
    with pytest.raises(BusyError):
        PlainWriter(path, **how)
    writer.write(b"abc")
    writer.finish()
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize("again", [False, True])
def test_who_waited_while_another_finished(tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """again: a third one has begun by then."""
    path = tmp_path / "a.tar"
    first = PlainWriter(path, force=True)
    others: list[PlainWriter] = []

    def locked(fd: int, how: int) -> None:
        monkeypatch.undo()
        first.finish()
        fcntl.flock(fd, how)
        if again:
            others.append(PlainWriter(path, force=True))

    monkeypatch.setattr("vsnapfs.media.plain.fcntl.flock", locked)
    with pytest.raises(BusyError, match="written by somebody else"):
        PlainWriter(path, force=True)
    for other in others:
        other.write(b"abc")
        other.finish()
    assert path.read_bytes() == (b"abc" if again else b"")


def test_one_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    writer = PlainWriter(path)
    writer.write(b"abc")
    path.write_bytes(b"another")
    with pytest.raises(NameTakenError, match="exists"):
        writer.finish()
    writer.abandon()
    assert (path.read_bytes(), partial_of(path).read_bytes()) == (b"another", b"abc")


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tar"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no regular file"):
        PlainWriter(path, force=True)
    with pytest.raises(NotFoundError):
        PlainWriter(tmp_path / "gone" / "a.tar")


def test_a_full_disk_names_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = PlainWriter(tmp_path / "a.tar")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.write(b"abc")
    monkeypatch.setattr("vsnapfs.media.plain.os.write", full)
    with pytest.raises(NoSpaceError, match=r"a\.tar\.partial"):
        writer.write(b"abc")
    writer.abandon()
    assert partial_of(tmp_path / "a.tar").exists()
    nothing = PlainWriter(tmp_path / "b.tar")
    nothing.abandon()
    assert not partial_of(tmp_path / "b.tar").exists()


def test_a_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"abc" * 1000)
    reader = open_plain(path)
    buffer = bytearray(2000)
    assert reader.readinto(buffer) == 2000
    assert reader.readinto(buffer) == 1000
    assert reader.readinto(buffer) == 0
    reader.close()
    assert index_of(path) == tmp_path / "a.tar.index"
    with pytest.raises(NotFoundError):
        open_plain(tmp_path / "gone")


def test_a_pipe_that_nobody_reads_any_more(tmp_path: Path) -> None:
    out, into = os.pipe()
    writer = PipeWriter(into, "standard output")
    writer.write(b"abc")
    assert os.read(out, 10) == b"abc"
    os.close(out)
    with pytest.raises(StoreError, match="standard output was closed"):
        writer.write(b"more")
    writer.abandon()
    os.close(into)


def test_a_write_to_a_pipe_that_is_not_read_can_be_given_up() -> None:
    """And whoever else has the pipe finds it as it was: its writes wait."""
    out, into = os.pipe()
    writer = PipeWriter(into, "standard output")
    failures: list[StoreError] = []

    def write() -> None:
        try:
            writer.write(bytes(16 << 20))
        except StoreError as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    writer.give_up()
    thread.join(30)
    assert not thread.is_alive()
    assert [str(error) for error in failures] == ["standard output was given up"]
    assert os.get_blocking(into)
    writer.abandon()
    os.close(into)
    os.close(out)


def test_what_is_written_leaves_the_cache_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(writeback, "STEP_BYTES", 1000)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, at, length, advice: asked.append((at, length, advice)))
    partial_of(tmp_path / "a.tar").write_bytes(bytes(500))
    writer = PlainWriter(tmp_path / "a.tar", resume=True)
    writer.keep(500)
    for _ in range(5):
        writer.write(bytes(600))
    writer.finish()
    assert asked == [(0, 1700, os.POSIX_FADV_DONTNEED), (700, 2200, os.POSIX_FADV_DONTNEED)]
