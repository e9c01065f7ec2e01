"""Names of control sockets: made where nobody else can, replaced only when they are dead, removed at the end."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, PermissionDeniedError, StoreError
from vsnapfs.daemon import listening

pytestmark = pytest.mark.unit

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    return directory / "x.sock"


@pytest.fixture
def directory_fd(place: Path) -> Iterator[int]:
    fd = listening.open_directory(place)
    yield fd
    os.close(fd)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(place: Path, directory_fd: int, mask: int) -> None:
    before = os.umask(mask)
    try:
        names = [listening.in_repository(directory_fd), listening.for_others(directory_fd, place, None)]
    finally:
        os.umask(before)
    assert mode(place.with_name("vsnapfs.sock")) == 0o600
    assert mode(place) == 0o666
    for name in names:
        name.close()
    assert os.listdir(place.parent) == []


@pytest.mark.requires_root
def test_one_group_is_let_in_alone(place: Path, directory_fd: int) -> None:
    name = listening.for_others(directory_fd, place, NOBODY)
    assert (mode(place), place.stat().st_gid) == (0o660, NOBODY)
    name.close()


def test_who_cannot_give_it_to_the_group_opens_it(
    place: Path, directory_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    name = listening.for_others(directory_fd, place, NOBODY)
    assert mode(place) == 0o666
    name.close()


def test_a_dead_one_is_replaced(place: Path, directory_fd: int) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    name = listening.for_others(directory_fd, place, None)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(place))
    name.close()


def test_a_live_one_is_not(place: Path, directory_fd: int) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen(0)
        inode = place.stat().st_ino
        waiting = []
        for _ in range(3):  # also when its queue is full
            with pytest.raises(BusyError, match="another server"):
                listening.for_others(directory_fd, place, None)
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            waiting.append(sock)
            sock.connect_ex(str(place))
        for sock in waiting:
            sock.close()
    assert place.stat().st_ino == inode


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "pipe"])
def test_nothing_else_is_replaced(place: Path, directory_fd: int, kind: str) -> None:
    victim = place.with_name("victim")
    victim.write_text("untouched")
    make: dict[str, Callable[[], None]] = {
        "file": place.touch,
        "directory": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "symlink": lambda: place.symlink_to(victim),
    }
    make[kind]()
    found = place.lstat()
    with pytest.raises(NameTakenError, match="no socket"):
        listening.for_others(directory_fd, place, None)
    assert place.lstat() == found
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("kind", ["directory", "symlink"])
def test_in_the_repository_nothing_is_followed(place: Path, directory_fd: int, kind: str) -> None:
    own = place.with_name("vsnapfs.sock")
    if kind == "directory":
        own.mkdir()
        with pytest.raises(StoreError, match="make the control socket"):
            listening.in_repository(directory_fd)
    else:
        own.symlink_to(place.with_name("victim"))
        listening.in_repository(directory_fd).close()
    assert not place.with_name("victim").exists()


@pytest.mark.parametrize("bits", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(place: Path, bits: int) -> None:
    place.parent.chmod(bits)
    with pytest.raises(PermissionDeniedError, match="put another socket"):
        listening.open_directory(place)


@pytest.mark.requires_root
def test_so_is_one_of_somebody_elses(place: Path) -> None:
    os.chown(place.parent, NOBODY, NOBODY)
    with pytest.raises(PermissionDeniedError):
        listening.open_directory(place)


def test_a_directory_that_is_missing_is_not_made(place: Path) -> None:
    with pytest.raises(NotFoundError, match="RuntimeDirectory"):
        listening.open_directory(place.parent / "missing/x.sock")


def test_at_the_end_only_its_own_name_is_removed(place: Path, directory_fd: int) -> None:
    name = listening.for_others(directory_fd, place, None)
    place.unlink()
    place.write_text("mine")
    name.close()
    assert place.read_text() == "mine"


def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    place = tmp_path / ("d" * 120) / "x.sock"
    place.parent.mkdir()
    fd = listening.open_directory(place)
    name = listening.for_others(fd, place, None)
    assert stat.S_ISSOCK(place.stat().st_mode)
    name.close()
    os.close(fd)
