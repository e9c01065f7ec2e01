"""What each filesystem needs to be mounted from a volume, and what cannot be mounted, with the way out.

The first attempt lets a filesystem do as it likes: the device is read-only, so one that has to replay its journal refuses, and
that is how a dirty journal is told from a clean one, by the kernel itself. The second attempt leaves the journal alone.
"""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.attach.content import Content
from vsnapfs.core.errors import UsageError

UNTRUSTED = ("nosuid", "nodev", "noexec")
"""Whoever could write to the volume has made what is in it: no device, no set-user-ID program of theirs counts here."""
NOT_REPLAYED = (
    "its journal was not replayed: what is shown may be older than the point, or not fit together; a branch replays it"
)


class Way(NamedTuple):
    """How to mount a kind. driver: as the kernel calls it. attempts: options, to be tried one after the other.
    noted: what it means that it was not the first that worked."""

    driver: str
    attempts: tuple[str, ...]
    noted: str = NOT_REPLAYED


ON_ERROR = "errors=remount-ro"
"""Else the filesystem itself says what the kernel does when it is found damaged; it may say: panic."""
EXT_READ_ONLY = Way("ext4", (f"ro,{ON_ERROR}", f"ro,noload,{ON_ERROR}"))
EXT_WRITABLE = Way("ext4", (f"rw,{ON_ERROR}",))
READ_ONLY = {
    "ext2": EXT_READ_ONLY,
    "ext3": EXT_READ_ONLY,
    "ext4": EXT_READ_ONLY,
    "xfs": Way("xfs", ("ro,nouuid", "ro,norecovery,nouuid")),
    "btrfs": Way("btrfs", ("ro", "ro,rescue=nologreplay")),
    "vfat": Way("vfat", ("ro",)),
    "ntfs": Way("ntfs3", ("ro",)),
    "iso9660": Way("iso9660", ("ro",)),
    "squashfs": Way("squashfs", ("ro",)),
    "erofs": Way("erofs", ("ro",)),
}
"""Several points of one filesystem are the same filesystem to the kernel: xfs has to be told not to mind (nouuid); ext does not
look, and btrfs gives the second one an identity of its own (Linux 6.7)."""

WRITABLE = READ_ONLY | {
    "ext2": EXT_WRITABLE,
    "ext3": EXT_WRITABLE,
    "ext4": EXT_WRITABLE,
    "xfs": Way("xfs", ("rw,nouuid",)),
    "btrfs": Way("btrfs", ("rw",)),
    "vfat": Way("vfat", ("rw",)),
    "ntfs": Way("ntfs3", ("rw",)),
}
"""What is not in it anew is never written to."""

ON_A_LOOP = "DEVICE=$(losetup --find --show --read-only FILE)"
REFUSED = {
    "LVM2_member": ("an LVM physical volume", "on a branch: losetup --find --show FILE, vgimportclone DEVICE, vgchange -ay"),
    "crypto_LUKS": ("an encrypted volume (LUKS)", f"{ON_A_LOOP}, cryptsetup open --readonly $DEVICE NAME, mount it"),
    "linux_raid_member": ("a member of an md array", f"{ON_A_LOOP} for each member, mdadm --assemble --readonly"),
    "swap": ("swap space", "there are no files in it"),
    "zfs_member": ("a member of a ZFS pool", "zpool import -d DIRECTORY -o readonly=on, on a branch"),
    "jbd": ("the journal of another filesystem", "attach the volume with that filesystem"),
}  # fmt: skip
"""What is no filesystem by itself: what it is, and what to do."""


def way_of(content: Content, what: str, *, writable: bool) -> Way:
    """How to mount it. what: of which file, for the message. Raises: UsageError: it cannot be; the message says why, and the way out."""
    if not content.kind:
        raise UsageError(f"{what} holds no filesystem that blkid knows", hint="is it empty, or encrypted?")
    refused = REFUSED.get(content.kind)
    if refused is not None:
        raise UsageError(f"{what} holds {refused[0]}, no filesystem", hint=refused[1])
    way = (WRITABLE if writable else READ_ONLY).get(content.kind)
    if way is None:
        noun = "filesystem" if content.usage == "filesystem" else "something"
        raise UsageError(
            f"{what} holds a {noun} of kind {content.kind}, which cannot be attached", hint=f"by hand: {ON_A_LOOP}"
        )
    return way


def checked_options(text: str, *, writable: bool) -> list[str]:
    """Mount options of a user's, apart. Raises: UsageError: one that would undo what attaching is."""
    found = [option for option in text.split(",") if option]
    wrong = {"bind", "rbind", "move", "remount", "loop", "user", "users"} | (set() if writable else {"rw"})
    for option in found:
        if option in wrong or option.startswith(("offset=", "sizelimit=", "loop=")):
            hint = "a point is read-only, a branch is not" if option == "rw" else "leave it out"
            raise UsageError(f"mount option {option!r} cannot be used here", hint=hint)
    return found
