"""Is a filesystem whole? By its own checker, which is told to change nothing."""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.attach.programs import run
from vsnapfs.core.errors import NotFoundError, TimedOutError

LINES_MAX = 20


class Verdict(NamedTuple):
    """ok: True, it is whole; False, it is not; None, nobody knows: no checker, or it broke. text: the last of what it said."""

    ok: bool | None
    text: str


class Checker(NamedTuple):
    """sound, damaged: exit statuses that mean it; any other means that it could not tell."""

    argv: tuple[str, ...]
    package: str
    sound: frozenset[int]
    damaged: frozenset[int]


def _checker(argv: str, package: str, damaged: set[int]) -> Checker:
    return Checker(tuple(argv.split()), package, frozenset({0}), frozenset(damaged))


E2FSCK = _checker("e2fsck -f -n", "e2fsprogs", {1, 2, 3, 4, 5, 6, 7, 12})
CHECKERS = {
    "ext2": E2FSCK,
    "ext3": E2FSCK,
    "ext4": E2FSCK,
    "xfs": _checker("xfs_repair -n", "xfsprogs", {1}),
    "btrfs": _checker("btrfs check --readonly", "btrfs-progs", {1}),
    "vfat": _checker("fsck.vfat -n", "dosfstools", {1}),
}


def check_filesystem(device: str, filesystem: str, *, timeout_s: float | None = None) -> Verdict:
    """Let the filesystem's own checker look at a device that is not mounted; it changes nothing.

    A journal that was not replayed reads as damage to it: mount a branch once before, for writing, and unmount it.

    Args: device: of ``device_of``. filesystem: as blkid calls it. timeout_s: then it is killed, and nobody knows.
    """
    checker = CHECKERS.get(filesystem)
    if checker is None:
        return Verdict(None, f"there is no checker of {filesystem or 'what is not known'}")
    try:
        done = run([*checker.argv, device], checker.package, timeout_s=timeout_s)
    except (NotFoundError, TimedOutError) as error:
        return Verdict(None, str(error))
    text = "\n".join([line for line in (done.output + done.errors).splitlines() if line.strip()][-LINES_MAX:])
    if done.status in checker.sound:
        return Verdict(True, text)
    return Verdict(False if done.status in checker.damaged else None, text or f"exit status {done.status}")
