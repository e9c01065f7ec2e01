"""Who may look, and what a failure behind the tree looks like from outside."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.mount.conftest import Shown
from vsnapfs.core.errors import IntegrityError, VsnapfsError
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

NOBODY = 65534
GROUP = 54321


def as_nobody(*command: str | Path, groups: str = "--clear-groups") -> subprocess.CompletedProcess[str]:
    """Run a command as a user without rights."""
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", groups]
    return subprocess.run([*drop, *command], capture_output=True, text=True, check=False)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A mount point that every user can get to."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    return tmp_path


def test_other_users_see_nothing(served: Shown, reachable: Path) -> None:
    done = as_nobody("ls", served.path)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


def test_allow_other_shows_owner_and_group_and_nobody_else(
    repository: Repository, mountpoint: Path, reachable: Path
) -> None:
    repository.bookmark_add("a")
    with Shown(repository, mountpoint, live=True, allow_other=True, gid=GROUP) as shown:
        assert os.stat(shown / "snaps/a/db").st_gid == GROUP
        assert as_nobody("ls", shown.path).stdout.split() == ["at", "branches", "diff", "live", "snaps"]
        for path in ("snaps", "at/@2", "live", "snaps/a/db"):
            assert "Permission denied" in as_nobody("ls", shown / path).stderr
        member = f"--groups={GROUP}"
        assert as_nobody("ls", shown / "snaps/a", groups=member).stdout.split() == ["MANIFEST.json", "db", "logs"]
        assert as_nobody("head", "-c1", shown / "snaps/a/db", groups=member).stdout == "\0"
        assert "Permission denied" in as_nobody("head", "-c1", shown / "live/db", groups=member).stderr


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


DAMAGE = IntegrityError("base/1.img is not there", volume="db", segment=7)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DAMAGE, errno.EIO),
        (VsnapfsError("something else"), errno.EIO),
        (OSError(errno.EMFILE, "too many open files"), errno.EMFILE),
        (ZeroDivisionError("a defect"), errno.EIO),
    ],
)
def test_a_failure_costs_one_request(
    served: Shown, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    served.repository.bookmark_add("a")
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(served.repository, "view", failing(error))
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            (served / "snaps/a/db").read_bytes()
    assert caught.value.errno == code
    assert [line["log_level"] for line in lines] == ["error"]
    assert lines[0]["request"] == "open"
    assert (served / "snaps/a/db").read_bytes() == bytes(4 << 20)


def test_damage_is_logged_with_its_place(served: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    served.repository.bookmark_add("a")
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(served.repository, "view", failing(DAMAGE))
        with pytest.raises(OSError, match="Input/output"):
            (served / "snaps/a/db").read_bytes()
    assert (lines[0]["volume"], lines[0]["segment"], lines[0]["error"]) == ("db", 7, str(DAMAGE))


def test_a_listing_with_a_gap_is_an_error_and_not_short(served: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    served.repository.bookmark_add("a")
    os.stat(served / "snaps/a")
    with monkeypatch.context() as patched, capture_logs():
        patched.setattr(served.repository, "volume_at", failing(DAMAGE))
        with pytest.raises(OSError, match="Input/output"):
            os.listdir(served / "snaps/a")
    assert sorted(os.listdir(served / "snaps/a")) == ["MANIFEST.json", "db", "logs"]


def test_a_slow_answer_holds_up_nobody_else(served: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        served.repository.bookmark_add(name)
    asked, go_on = threading.Event(), threading.Event()
    manifest = served.repository.manifest

    def slow(*args: object) -> object:
        asked.set()
        assert go_on.wait(10)
        return manifest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(served.repository, "manifest", slow)
    reader = threading.Thread(target=(served / "snaps/a/MANIFEST.json").read_bytes)
    reader.start()
    try:
        assert asked.wait(10)
        assert (served / "snaps/b/db").read_bytes() == bytes(4 << 20)
        assert set(os.listdir(served / "snaps")) == {"a", "b", "latest"}
    finally:
        go_on.set()
        reader.join()


def test_many_ask_at_once(served: Shown) -> None:
    """Names are looked up, listed, opened and forgotten by 8 threads while bookmarks come and go."""
    for number in range(3):
        served.repository.journal.write(1, 0, f"keep{number}".encode())
        served.repository.bookmark_add(f"keep{number}")
    with ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look_at_all, served, 40) for _ in range(8)]
        for number in range(60):
            served.repository.bookmark_add(f"gone{number}")
            served.repository.bookmark_remove(f"gone{number}")
            if number % 20 == 10:
                Path("/proc/sys/vm/drop_caches").write_text("2")
        assert [done.result() for done in looking] == [40 * 3] * 8


def look_at_all(shown: Shown, times: int) -> int:
    """Read every bookmark whose name begins with keep. Returns how many were read."""
    seen = 0
    for _ in range(times):
        for name in sorted(os.listdir(shown / "snaps")):
            if name.startswith("keep"):
                assert sorted(os.listdir(shown / "snaps" / name)) == ["MANIFEST.json", "db", "logs"]
                with (shown / "snaps" / name / "db").open("rb") as file:
                    assert file.read(5) == name.encode()
                seen += 1
    return seen
