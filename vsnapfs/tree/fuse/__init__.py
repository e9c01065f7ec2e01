"""The mount, and the only user of pyfuse3: ``operations`` answers its requests, ``mount`` is its life."""

from vsnapfs.tree.fuse.mount import Mount

__all__ = ["Mount"]
