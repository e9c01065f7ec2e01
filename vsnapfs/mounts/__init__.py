"""What is mounted, and who uses it, as the kernel tells: nothing here asks a filesystem, so nothing hangs on a dead one."""
