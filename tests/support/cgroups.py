"""A memory cgroup with a limit, in whichever hierarchy this machine has the controller: version 2 or 1."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

ROOTS_V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
ROOT_V1 = Path("/sys/fs/cgroup/memory")


class MemoryGroup:
    """A group. ``enter``: what a command is prefixed with to run in it."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self._version = version

    @property
    def enter(self) -> tuple[str, ...]:
        return ("sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh")

    def limit(self, limit_bytes: int) -> None:
        name = "memory.max" if self._version == 2 else "memory.limit_in_bytes"
        (self.path / name).write_text(str(limit_bytes))

    def used_bytes(self) -> int:
        name = "memory.current" if self._version == 2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text())

    def times_at_limit(self) -> int:
        """How often somebody in it wanted more than there was, and memory was taken back."""
        if self._version == 1:
            return int((self.path / "memory.failcnt").read_text())
        events = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
        return int(events["max"])

    def pids(self) -> list[int]:
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]


def _root() -> tuple[Path, int] | None:
    for root in ROOTS_V2:
        with contextlib.suppress(OSError):
            if "memory" in (root / "cgroup.subtree_control").read_text().split():
                return root, 2
    return (ROOT_V1, 1) if (ROOT_V1 / "memory.limit_in_bytes").exists() else None


def has_memory_groups() -> bool:
    return _root() is not None


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[MemoryGroup]:
    """A new group, without a limit yet. Who is left in it at the end is killed; it is removed."""
    found = _root()
    assert found is not None, "no memory controller"
    root, version = found
    path = root / f"vsnapfs-{name}-{os.getpid()}"
    path.mkdir()
    group = MemoryGroup(path, version)
    try:
        yield group
    finally:
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: _is_removed(path), "the end of the group's processes")


def _is_removed(path: Path) -> bool:
    """A process that is not listed any more may still be on its way out."""
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
