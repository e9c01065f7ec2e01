"""Making applications and filesystems still for the moment of a bookmark, by a process that is sure to let them go."""
