"""Parts of attaching that need no device: options, refusals, records and their locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.processes import child
from tests.support.waiting import eventually
from vsnapfs.attach.content import Content
from vsnapfs.attach.filesystems import REFUSED, WRITABLE, checked_options, way_of
from vsnapfs.attach.model import Attached, Record
from vsnapfs.attach.places import branch_of, file_of
from vsnapfs.attach.programs import Ended, run
from vsnapfs.attach.records import all_records, locked, place, sweep
from vsnapfs.attach.stale import Look, own_namespace
from vsnapfs.core.errors import BusyError, NotFoundError, UsageError

pytestmark = pytest.mark.unit

SHOWN = Attached(
    directory="/nowhere/shown",
    device="/dev/loop-none",
    filesystem="ext4",
    partition=None,
    options="ro",
    writable=False,
    source="/nowhere/image",
    what="",
    since="2026-11-23T10:15:00.000000000Z",
    notes=[],
)
HOLD = "import sys; from vsnapfs.attach.records import locked\nwith locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path))
    yield tmp_path
    assert list(place().glob("*.lock")) == []


def is_swept() -> bool:
    sweep()
    return list(place().iterdir()) == []


def record(**changes: object) -> Record:
    whole = Record(
        attached=SHOWN, step="attached", pid=1, made_directory=False, tree="", tree_device="", namespace=own_namespace()
    )
    return replace(whole, **changes)


@pytest.mark.parametrize(
    "option", ["remount", "bind", "loop", "loop=/dev/loop1", "offset=4096", "sizelimit=1", "rw", "users"]
)
def test_options_that_would_mount_something_else(option: str) -> None:
    with pytest.raises(UsageError, match=f"'{option}'"):
        checked_options(f"noatime,{option}", writable=False)


def test_options_are_taken_apart() -> None:
    assert checked_options("noatime,,exec,", writable=False) == ["noatime", "exec"]
    assert checked_options("rw", writable=True) == ["rw"]


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_is_refused_says_what_to_do(kind: str) -> None:
    with pytest.raises(UsageError, match=r"monday db0 holds .*, no filesystem; \w+") as said:
        way_of(Content(kind, "raid", ""), "monday db0", writable=False)
    assert said.value.exit_status == 2


def test_what_is_not_known_is_refused_by_name() -> None:
    for kind, noun in (("f2fs", "filesystem"), ("bcache", "other")):
        with pytest.raises(UsageError, match=f"of kind {kind}, which cannot be attached"):
            way_of(Content(kind, noun, ""), "monday db0", writable=True)


def test_only_what_can_be_written_is_mounted_so() -> None:
    writable = {kind for kind, way in WRITABLE.items() if "rw" in way.attempts[0].split(",")}
    assert writable == {"ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "ntfs"}
    assert all("ro" in way.attempts[-1].split(",") for kind, way in WRITABLE.items() if kind not in writable)


def test_a_lock_is_waited_for_and_then_told(here: Path) -> None:
    with locked("/nowhere/shown") as lock:
        lock.write(record(pid=4711))
    with child([sys.executable, "-c", HOLD, "/nowhere/shown"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="process 4711 is just attaching"), locked("/nowhere/shown", wait_s=0):
            pass
        holder.stdin.close()
        with locked("/nowhere/shown") as lock:
            lock.forget()
        holder.stdout.close()


def test_a_killed_holder_holds_nothing(here: Path) -> None:
    with child([sys.executable, "-c", HOLD, "/nowhere/shown"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        sweep()
        assert list(place().glob("*.lock")) != []
        holder.kill()
        holder.wait()
        eventually(is_swept, "swept")
        holder.stdout.close()
        holder.stdin.close()


def test_what_is_no_record_is_passed_over(here: Path) -> None:
    for name, content in (("a.json", b""), ("b.json", b"{}"), ("c.json", b"[" * 100000), ("d.json", b"\xff")):
        (place() / name).write_bytes(content)
    assert all_records() == []


def test_why_something_is_stale() -> None:
    look = Look()
    assert look.problem_of(record()) == "it was unmounted"
    assert look.problem_of(record(step="mounting")) == "whoever attached or detached it was killed"
    assert look.problem_of(record(namespace="mnt:[1]")) == "its mount namespace is gone"


def test_a_branch_is_told_from_a_point() -> None:
    assert branch_of("branch:try") == "try"
    assert branch_of("monday") is None


def test_a_tree_has_to_be_ours(here: Path) -> None:
    for tree in (here, Path("/proc"), Path("/")):
        with pytest.raises(NotFoundError, match="vsnapfs is not mounted on"):
            file_of(tree, "monday", "db0")


def test_what_mount_says_is_told_and_not_where_more_is_said() -> None:
    said = "mount: /x: wrong fs type, bad option.\n       dmesg(1) may have more information after failed mount system call.\n"
    assert Ended(32, "", said).said() == "mount: /x: wrong fs type, bad option."
    assert Ended(32, "", "").said() == "exit status 32"


def test_a_program_does_not_get_the_ctrl_c_that_is_for_who_runs_it() -> None:
    """One that it ended would have failed, and a hunt would take the point for one that cannot be tested."""
    group = run([sys.executable, "-c", "import os; print(os.getpgrp())"], "python3").output
    assert int(group) != os.getpgrp()


def test_an_interrupt_while_a_program_begins_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it comes, nobody knows its number yet."""
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def _execute_child(self, *args: object) -> None:
            super()._execute_child(*args)  # type: ignore[misc]
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(["sleep", "60"], "coreutils")
    (process,) = started
    assert process.returncode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
