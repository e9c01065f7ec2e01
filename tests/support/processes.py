"""The real program as its users start it: commands that run and end, and servers and mounts that stay.

Every process is started by us and ended by its own pid; a mount point is ours and is lazily unmounted whatever happened. Readiness is
what a script would look at: the path is a mount point.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import eventually
from vsnapfs.mounts.table import UNSERVED

READY_S = 60.0
END_S = 60.0


def program() -> list[str]:
    """How to start vsnapfs: that of the interpreter which runs the tests."""
    return [sys.executable, "-m", "vsnapfs.cli"]


def environment(repository: Path | None = None) -> dict[str, str]:
    """The environment of a command: this one, with no repository but the given one. Where records are in place of /run stays."""
    kept = ("VSNAPFS_RUN",)
    env = {key: value for key, value in os.environ.items() if not key.startswith("VSNAPFS_") or key in kept}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), env.get("PYTHONPATH", "")])
    if repository is not None:
        env["VSNAPFS_REPO"] = str(repository)
    return env


def run(repository: Path | None, *args: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, whatever its exit status."""
    return subprocess.run(
        [*program(), *map(str, args)],
        env=environment(repository), capture_output=True, text=True, timeout=timeout_s, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def must(repository: Path, *args: str | Path, timeout_s: float = 60.0, status: int = 0) -> str:
    """Run one command that has to exit so; returns what it printed."""
    done = run(repository, *args, timeout_s=timeout_s)
    assert done.returncode == status, (
        f"vsnapfs {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def must_json(repository: Path, *args: str | Path, status: int = 0) -> Any:
    """Run one command with --json, before its words; returns the object it printed."""
    return json.loads(must(repository, "--json", *args, status=status))


def _told(path: Path) -> bytes:
    """What the kernel says in a file of /proc; empty: that process has gone."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children_of(pid: int) -> list[int]:
    """Its own, not theirs; of a process that has ended, none. A thread that ends meanwhile hands its children to another: then all
    are asked again."""
    while Path(f"/proc/{pid}/task").exists():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            tasks = Path(f"/proc/{pid}/task").iterdir()
            return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def command_of(pid: int) -> list[bytes]:
    """The words of its command; none: it has ended."""
    return _told(Path(f"/proc/{pid}/cmdline")).split(b"\0")


def is_alive(pid: int) -> bool:
    """There is such a process, and it has not ended."""
    return _state(Path(f"/proc/{pid}/stat")) not in ("", "Z", "X")


def _state(path: Path) -> str:
    return _told(path).rpartition(b") ")[2][:1].decode()


def stand_still(pid: int) -> None:
    """SIGSTOP a process of ours, and wait until it runs no more: from then on it starts no other and reaps none."""
    os.kill(pid, signal.SIGSTOP)
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    eventually(lambda: not any(_state(task / "stat") in ("R", "S") for task in tasks), f"process {pid} stands still")


def is_mounted(path: Path) -> bool:
    """Is something mounted at exactly this path? Asks the kernel's table, so a dead mount does not matter."""
    wanted = str(path).replace(" ", "\\040")
    lines = Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape").split("\n")
    return any(line.split(" ")[4] == wanted for line in lines if line)


def is_served(path: Path) -> bool:
    """Is something mounted at this path that answers? OSError, an errno of UNSERVED: its server is gone.

    Both are asked of one open directory: a mount that is taken away in between answers for itself, not for what it stood on.
    """
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        on_top = os.fstat(fd).st_dev != os.stat(path.parent).st_dev
        return on_top and os.fstatvfs(fd).f_bsize > 0  # statfs is never answered from a cache
    finally:
        os.close(fd)


def unmount(path: Path) -> None:
    """Take away what is mounted at a path of ours; lazily, so that it cannot fail because of an open file."""
    while is_mounted(path):
        done = subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True, text=True)
        assert done.returncode == 0 or not is_mounted(path), done.stderr  # a worker whose keeper was killed does it too


def umount(path: Path) -> None:
    """As people do it, not lazily. Who only looks at the mount in this moment, as its own server does at first, is waited for."""

    def is_gone() -> bool:
        return subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0

    eventually(is_gone, f"umount {path}")


class Mounted:
    """A running `vsnapfs serve` or `vsnapfs mount`.

    A context manager: entered, it is ready; left, it was asked to end by SIGTERM, the mount is gone, and an exit status other than 0 is an
    AssertionError with the log. ``mountpoint``: made if need be. ``within``: stands before its command. ``log``: everything it printed.
    """

    def __init__(
        self,
        repository: Path,
        mountpoint: Path,
        *,
        verb: str = "serve",
        options: tuple[str, ...] = (),
        within: tuple[str, ...] = (),
    ) -> None:
        self.repository = repository
        self.mountpoint = mountpoint
        self.log_path = mountpoint.with_name(mountpoint.name + ".log")
        self._command = [*within, *program(), verb, *options, str(mountpoint)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def is_running(self) -> bool:
        """It was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        if not is_mounted(self.mountpoint):
            self.mountpoint.mkdir(exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment(self.repository), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start it and wait until it is mounted."""
        self.launch()
        try:
            eventually(self._ready, f"{self._command} ready", deadline_s=READY_S)
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"{self._command} ended with {status}:\n{self.log}"
        try:
            return is_served(self.mountpoint)
        except OSError as error:
            if error.errno in UNSERVED:
                return False  # the mount of the server before
            raise

    def stop(self) -> int:
        """SIGTERM, wait; returns the exit status. SIGKILL and an AssertionError if it does not end in time."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._command} did not end within {END_S} s:\n{self.log}") from None
        finally:
            self.kill()

    def kill(self, *, leave_mount: bool = False) -> None:
        """SIGKILL it if it still runs, reap it, and take its mount away unless told not to. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if not leave_mount:
            unmount(self.mountpoint)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or self._process is None:
            self.kill()
        else:
            status = self.stop()
            assert status == 0, f"{self._command} exited {status}:\n{self.log}"


@contextlib.contextmanager
def child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed and reaped when the block is left."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def make_repository(path: Path, **sizes: str | int) -> Path:
    """A new repository with thin volumes of these sizes."""
    must(path, "init")
    for name, size in sizes.items():
        must(path, "volume", "add", name, "--size", str(size))
    return path
