"""Nothing shown can be changed but the bytes of live volumes; the errno of each attempt is part of the contract."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.mount.conftest import MIB, Shown
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

Attempt = Callable[[Path], object]

DIRECTORIES = ["", "snaps", "snaps/a", "at", "at/@2", "diff", "diff/a..b"]
FILES = ["snaps/a/db", "snaps/a/MANIFEST.json", "at/@2/db", "diff/a..b/db.json"]

INTO: dict[str, Attempt] = {
    "create": lambda at: os.open(at / "new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda at: os.mkdir(at / "new"),
    "symlink": lambda at: os.symlink("target", at / "new"),
    "mknod": lambda at: os.mknod(at / "new", stat.S_IFIFO | 0o600),
}

OF: dict[str, Attempt] = {
    "open for writing": lambda path: os.open(path, os.O_WRONLY),
    "open for both": lambda path: os.open(path, os.O_RDWR),
    "open truncating": lambda path: os.open(path, os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda path: os.truncate(path, 0),
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, path.with_name("other")),
    "link": lambda path: os.link(path, path.with_name("other")),
    "chmod": lambda path: os.chmod(path, 0o777),
    "chown": lambda path: os.chown(path, 1, 1),
    "utime": lambda path: os.utime(path, ns=(0, 0)),
    "setxattr": lambda path: os.setxattr(path, "user.vsnapfs.seqno", b"1"),
    "removexattr": lambda path: os.removexattr(path, "user.vsnapfs.seqno"),
}

OF_DIRECTORY: dict[str, Attempt] = {
    name: OF[name] for name in ("rename", "chmod", "chown", "utime", "setxattr", "removexattr")
} | {"rmdir": os.rmdir}


def refused(attempt: Attempt, path: Path) -> int:
    """The errno that an attempt gets."""
    with pytest.raises(OSError, match="Errno") as caught:
        attempt(path)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.fixture(params=["serve", "mount"])
def shown(repository: Repository, mountpoint: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """A repository with bookmarks a and b, as the owner and as a reader shows it."""
    repository.bookmark_add("a")
    repository.bookmark_add("b")
    with Shown(repository, mountpoint, live=request.param == "serve") as shown:
        yield shown


def test_nothing_can_be_made(shown: Shown) -> None:
    got = {(place, name): refused(attempt, shown / place) for place in DIRECTORIES for name, attempt in INTO.items()}
    assert {key: code for key, code in got.items() if code != errno.EROFS} == {}


def test_no_file_can_be_changed(shown: Shown) -> None:
    got = {(path, name): refused(attempt, shown / path) for path in FILES for name, attempt in OF.items()}
    assert {key: code for key, code in got.items() if code != errno.EROFS} == {}


def test_no_directory_can_be_changed(shown: Shown) -> None:
    places = [place for place in DIRECTORIES if place]
    got = {(place, name): refused(do, shown / place) for place in places for name, do in OF_DIRECTORY.items()}
    assert {key: code for key, code in got.items() if code != errno.EROFS} == {}


def test_latest_can_be_neither_removed_nor_renamed(shown: Shown) -> None:
    for name in ("unlink", "rename"):
        assert refused(OF[name], shown / "snaps/latest") == errno.EROFS


def test_everything_is_there_afterwards(shown: Shown) -> None:
    before = [os.stat(shown / path) for path in FILES]
    for path in FILES:
        for attempt in OF.values():
            refused(attempt, shown / path)
    after = [os.stat(shown / path) for path in FILES]
    assert [(s.st_ino, s.st_size, s.st_mode, s.st_mtime_ns) for s in after] == [
        (s.st_ino, s.st_size, s.st_mode, s.st_mtime_ns) for s in before
    ]


LIVE_EPERM = ["open truncating", "truncate", "unlink", "rename", "link", "chmod", "chown"]


@pytest.mark.parametrize("name", LIVE_EPERM)
def test_a_live_volume_keeps_its_name_size_and_mode(served: Shown, name: str) -> None:
    assert refused(OF[name], served / "live/db") == errno.EPERM
    assert os.stat(served / "live/db").st_size == 4 * MIB
    assert sorted(os.listdir(served / "live")) == ["db", "logs"]


@pytest.mark.parametrize("name", list(INTO))
def test_nothing_can_be_made_in_live(served: Shown, name: str) -> None:
    assert refused(INTO[name], served / "live") == errno.EPERM


def test_a_volume_cannot_be_moved_into_or_out_of_live(served: Shown) -> None:
    served.repository.bookmark_add("a")
    assert refused(lambda path: os.rename(path, served / "live/x"), served / "snaps/a/db") == errno.EPERM
    assert refused(lambda path: os.rename(path, served / "at/x"), served / "live/db") == errno.EPERM


@pytest.mark.parametrize("name", LIVE_EPERM)
def test_the_log_names_the_command_that_can(served: Shown, name: str) -> None:
    with capture_logs() as lines:
        refused(OF[name], served / "live/db")
    assert [line for line in lines if "vsnapfs volume resize" in line["event"]] != []
    assert len(lines) == 1


def test_times_of_a_live_volume_are_taken_without_effect(served: Shown) -> None:
    before = os.stat(served / "live/db").st_mtime_ns
    os.utime(served / "live/db")
    os.utime(served / "live/db", ns=(0, 0))
    assert os.stat(served / "live/db").st_mtime_ns == before


def test_xattrs_of_a_live_volume_are_not_supported(served: Shown) -> None:
    assert refused(OF["setxattr"], served / "live/db") == errno.EOPNOTSUPP
    assert refused(OF["removexattr"], served / "live/db") == errno.EOPNOTSUPP
