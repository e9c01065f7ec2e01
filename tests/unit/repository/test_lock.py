"""One owner at a time, whoever and wherever the other is; no lock outlives its holder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import child, environment
from vsnapfs.core.errors import LockedError, UsageError
from vsnapfs.repository import lock
from vsnapfs.repository.repository import Repository

OWN = """
import sys
from pathlib import Path
from vsnapfs.repository.repository import Repository
repository = Repository.open(Path(sys.argv[1]), owner=True)
print("open", flush=True)
sys.stdin.read()
"""

TRY = """
import sys
from pathlib import Path
from vsnapfs.core.errors import LockedError
from vsnapfs.repository.repository import Repository
try:
    Repository.open(Path(sys.argv[1]), owner=True)
except LockedError as error:
    print(error.pid)
"""


def test_a_second_owner_is_told_who_the_first_is(path: Path) -> None:
    command = [sys.executable, "-c", OWN, str(path)]
    with child(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder.stdin, holder.stdout:
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(LockedError) as caught:
                Repository.open(path, owner=True)
            Repository.open(path, owner=False).close()
            holder.kill()
            holder.wait()
    assert caught.value.pid == holder.pid
    assert str(holder.pid) in str(caught.value)
    assert caught.value.exit_status == 5
    Repository.open(path, owner=True).close()


@pytest.mark.requires_root
def test_mount_namespaces_do_not_part_owners(repository: Repository) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [unshare, "--mount", sys.executable, "-c", TRY, str(repository.path)],
        env=environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"{os.getpid()}\n"


PID_NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.requires_root
def test_pid_namespaces_do_not_part_owners(path: Path) -> None:
    """From inside, the holder is who it is outside; from outside, the holder is not the number it has inside."""
    with Repository.open(path, owner=True):
        done = subprocess.run(
            [*PID_NAMESPACE, sys.executable, "-c", TRY, str(path)],
            env=environment(), capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stdout == f"{os.getpid()}\n"
    command = [*PID_NAMESPACE, sys.executable, "-c", OWN, str(path)]
    with child(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder.stdin, holder.stdout:
            assert holder.stdout.readline() == b"open\n"
            assert (path / "lock").read_bytes() == b"1\n"
            with pytest.raises(LockedError) as caught:
                Repository.open(path, owner=True)
            assert caught.value.pid is not None
            status = Path(f"/proc/{caught.value.pid}/status").read_text()
            assert f"NSpid:\t{caught.value.pid}\t1\n" in status
            assert f"PPid:\t{holder.pid}\n" in status


def test_the_same_process_cannot_own_it_twice(repository: Repository) -> None:
    with pytest.raises(LockedError) as caught:
        Repository.open(repository.path, owner=True)
    assert caught.value.pid == os.getpid()


def test_closing_gives_the_lock_back(path: Path) -> None:
    for _ in range(3):
        Repository.open(path, owner=True).close()
    assert (path / "lock").read_bytes() == b""


def test_an_open_that_fails_gives_the_lock_back(path: Path) -> None:
    (path / "vsnapfs.toml").write_text("[journal]\nack = 'never'\n")
    with pytest.raises(UsageError):
        Repository.open(path, owner=True)
    (path / "vsnapfs.toml").unlink()
    Repository.open(path, owner=True).close()


def test_a_holder_without_a_pid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Repository.open(path, owner=True):
        (path / "lock").write_bytes(b"?")
        monkeypatch.setattr(lock, "LOCKS", Path("/dev/null"))
        with pytest.raises(LockedError) as caught:
            Repository.open(path, owner=True)
    assert caught.value.pid is None
    assert "another process" in str(caught.value)
