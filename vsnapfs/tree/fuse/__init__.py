"""The mount, and the only user of pyfuse3: ``operations`` answers its requests, ``mount`` is its life."""

from vsnapfs.tree.fuse.connection import Connection, Device, Wanted, mount_device
from vsnapfs.tree.fuse.mount import Mount

__all__ = ["Connection", "Device", "Mount", "Wanted", "mount_device"]
