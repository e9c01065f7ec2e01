"""What is attached, and what is kept about it while it is."""

from __future__ import annotations

from typing import Literal

import msgspec

Step = Literal["begun", "mounting", "attached", "detaching"]
"""How far an attach or a detach has come. In all but ``attached`` somebody is at work, or was killed."""


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A volume's filesystem on a directory."""

    directory: str
    """Absolute and without symlinks."""
    device: str
    """The loop device; "": not yet."""
    filesystem: str
    """As blkid calls it: ext4, xfs …"""
    partition: int | None
    """Its number in the volume's partition table; None: the volume has none."""
    options: str
    """It was mounted with these."""
    writable: bool
    source: str
    """The file that the volume is shown as."""
    what: str
    """Of which point or branch which volume, for people."""
    since: str
    """When that was, by the clock of this machine."""
    notes: list[str]
    """What one has to know to read it, such as a journal that was not replayed."""
    problem: str = ""
    """Why it is stale, as far as somebody looked; "": it is not."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of /run says: enough to take it all away again."""

    attached: Attached
    step: Step
    pid: int
    """Who does the step."""
    made_directory: bool
    """It goes when the filesystem does."""
    tree: str
    """The mount of vsnapfs that the source lies in; "": none."""
    tree_device: str
    """Its ``major:minor``, which no other mount has while it lives."""
    namespace: str
    """The mount namespace, as /proc/PID/ns/mnt names it: elsewhere none of this can be seen."""
