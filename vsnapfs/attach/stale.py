"""What was left: by a process that was killed, by an umount past us, by a server that is gone. Found, and taken away.

Nothing in here waits for a filesystem that does not answer.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from vsnapfs.attach.loop import backing_file
from vsnapfs.attach.model import Attached, Record
from vsnapfs.attach.mounting import is_mounted, unmount
from vsnapfs.attach.records import Lock, all_records, locked, sweep
from vsnapfs.core.errors import BusyError
from vsnapfs.mounts.table import UNSERVED, mounts

DELETED = " (deleted)"
ANSWER_S = 5.0
"""A server that says nothing for so long may be at work; it is not taken for dead."""


def own_namespace() -> str:
    return os.readlink("/proc/self/ns/mnt")


class Look:
    """One look at what is there: each tree is asked once."""

    def __init__(self) -> None:
        self._answers: dict[str, int] = {}

    def problem_of(self, record: Record) -> str:
        """Why a record is stale, if nobody is at work on it; "": it is not."""
        if record.namespace != own_namespace():
            return "" if _lives(record.namespace) else "its mount namespace is gone"
        if record.step != "attached":
            return "whoever attached or detached it was killed"
        if not is_ours(record):
            return "it was unmounted"
        if (backing_file(record.attached.device) or "").endswith(DELETED):
            return f"{record.attached.source} was deleted"
        if record.tree and not self._is_served(record):
            return f"nobody serves {record.tree} any more"
        return ""

    def _is_served(self, record: Record) -> bool:
        if all(entry.device != record.tree_device for entry in mounts()):
            return False
        if record.tree not in self._answers:
            self._answers[record.tree] = _answer_of(record.tree)
        return self._answers[record.tree] not in UNSERVED


def is_ours(record: Record) -> bool:
    """What is mounted on the directory is what the record tells of: the number of the device may belong to another by now."""
    attached = record.attached
    if (
        not attached.device
        or record.namespace != own_namespace()
        or not is_mounted(attached.directory, attached.device)
    ):
        return False
    behind = (backing_file(attached.device) or "").removesuffix(DELETED)
    return behind != "" and attached.source.endswith(
        behind
    )  # of a mount that was taken away the kernel has the end alone


def clean(lock: Lock, record: Record) -> None:
    """Take away all that a record tells of, and the record. Raises: StoreError: the kernel refuses. BusyError: something else is
    mounted over it."""
    if is_ours(record):
        try:
            unmount(record.attached.directory, record.attached.device, lazy=False, lock_fd=lock.fd)
        except BusyError:
            unmount(record.attached.directory, record.attached.device, lazy=True, lock_fd=lock.fd)
    remove_directory(record)
    lock.forget()


def remove_directory(record: Record) -> None:
    """If it was made for this; what somebody has put into it since stays, and so does it."""
    if record.made_directory and record.namespace == own_namespace():
        with suppress(OSError):
            Path(record.attached.directory).rmdir()


def clean_all() -> list[Attached]:
    """Take away all that is stale, but for what somebody is at work on. Returns: what it was, each with its problem.

    Only root attaches, so for others there is nothing.
    """
    if os.geteuid() != 0:
        return []
    look = Look()
    done: list[Attached] = []
    for record in all_records():
        if look.problem_of(record):  # else it is left alone: whoever detaches it must not find it locked
            with suppress(BusyError), locked(record.attached.directory, wait_s=0) as lock:
                done += clean_one(lock, look)
    sweep()
    return done


def clean_one(lock: Lock, look: Look | None = None) -> list[Attached]:
    """Take away what is on the directory of a lock, if it is stale. Returns: what it was, if it was."""
    record = lock.read()
    problem = "" if record is None else (look or Look()).problem_of(record)
    if record is None or not problem:
        return []
    clean(lock, record)
    return [replace(record.attached, problem=problem)]


def listed() -> list[Attached]:
    """What is attached, by directory; ``problem`` says what is stale. What somebody is just at work on is not."""
    if os.geteuid() != 0:
        return []
    look = Look()
    return [replace(record.attached, problem=_told(record, look)) for record in all_records()]


def _told(record: Record, look: Look) -> str:
    problem = look.problem_of(record)
    if not problem:
        return ""
    try:
        with locked(record.attached.directory, wait_s=0) as lock:
            now = lock.read()
            return "" if now is None else look.problem_of(now)
    except BusyError:
        return ""


def _lives(namespace: str) -> bool:
    """Whether a process is in it."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "ns/mnt") == namespace:
                return True
    return False


def _answer_of(tree: str) -> int:
    """The errno with which a mount answers; 0: none, or it has not answered in time."""
    answer: list[int] = []
    asking = threading.Thread(target=_ask, args=(tree, answer), daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    return answer[0] if answer else 0


def _ask(tree: str, answer: list[int]) -> None:
    """In a thread of its own, which may wait for ever: the kernel lets it go when the process ends."""
    try:
        os.statvfs(tree)  # asks the server; the kernel answers stat of a dead mount from what it remembers
    except OSError as error:
        answer.append(error.errno or 0)
