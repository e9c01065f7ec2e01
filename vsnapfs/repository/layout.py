"""Where the files of a repository are, and the only way in which they are opened.

A repository is trusted no further than its directory: whatever stands below it may come from elsewhere, so no symlink
below it is followed: the directories are looked at once, when the repository is opened, and files are opened without
following. The path of the repository itself may lead through symlinks.

Source: native/FORMAT.md section 1.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vsnapfs.core.errors import IntegrityError, from_os_error

IDENTITY = "repository.json"
SETTINGS = "vsnapfs.toml"
LOCK = "lock"
CATALOG = "catalog.db"
SOCKET = "vsnapfs.sock"
SCRUB = "scrub.json"
JOURNAL = "journal"
BASE = "base"
MAPS = "maps"
PRIMARY = "primary"
DIRECTORIES = (JOURNAL, BASE, MAPS, PRIMARY)

PART = ".part"
"""Ends the name of a file that is being built; what a crash left of it is removed at the next start."""
BAD = ".bad"
"""Ends the name of a file that was replaced and kept."""

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


def base_image(volume: int) -> str:
    """The image a volume starts from."""
    return f"{BASE}/{volume:08x}.img"


def base_index(volume: int) -> str:
    """Checksums and map of the base image."""
    return f"{BASE}/{volume:08x}.idx"


def primary_image(volume: int) -> str:
    """The primary of a volume that was added with a size."""
    return f"{PRIMARY}/{volume:08x}.img"


def segment(first_seqno: int) -> str:
    """A file of the journal."""
    return f"{JOURNAL}/{first_seqno:020d}.seg"


class Layout:
    """An open repository directory. Every name given to it is relative and has no ``..``.

    Resource handling: holds one descriptor, ``fd``; ``close`` ends it.
    Error handling: OSError never leaves; it becomes the error of core.errors that stands for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise from_os_error(error, f"open {path}") from error
        for directory in DIRECTORIES:
            self._refuse_symlink(directory)

    def close(self) -> None:
        os.close(self.fd)

    def absolute(self, name: str) -> Path:
        return self.path / name

    def open(self, name: str, flags: int) -> int:
        """A descriptor of ``name``, mode 0600 where it is made. Raises: IntegrityError: it is a symlink."""
        try:
            return os.open(name, flags | os.O_NOFOLLOW, FILE_MODE, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                self._refuse_symlink(name)
            raise from_os_error(error, f"open {self.absolute(name)}") from error

    def exists(self, name: str) -> bool:
        """True if a file, or anything else, stands under that name."""
        return self._stat(name) is not None

    def allocated_bytes(self, directory: str, prefix: str = "") -> int:
        """Bytes of disk that the files of a directory take whose names begin so; 0 when it is missing. "": the
        repository's own.
        """
        names = (os.path.join(directory, name) for name in self.names(directory) if name.startswith(prefix))
        return sum(found.st_blocks * 512 for name in names if (found := self._stat(name)))

    def names(self, directory: str) -> list[str]:
        """Names in a directory, sorted; none when it is missing."""
        if directory and not self.exists(directory):
            return []
        fd = self.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(name, DIRECTORY_MODE, dir_fd=self.fd)
        except OSError as error:
            raise from_os_error(error, f"make {self.absolute(name)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a whole small file; after a crash it is the old one or the new one."""
        part = name + PART
        self.remove(part)
        fd = self.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, content)
            os.fsync(fd)
        except OSError as error:
            raise from_os_error(error, f"write {self.absolute(part)}") from error
        finally:
            os.close(fd)
        self.rename(part, name)

    def rename(self, name: str, to: str) -> None:
        """Give a file another name in the same directory, replacing what has it, durably."""
        try:
            os.rename(name, to, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            raise from_os_error(error, f"rename {self.absolute(name)} to {to}") from error
        self.sync(os.path.dirname(name))

    def remove(self, name: str) -> None:
        """Remove a file if it is there, durably."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, f"remove {self.absolute(name)}") from error
        self.sync(os.path.dirname(name))

    def set_aside(self, name: str) -> str | None:
        """Rename ``name`` to ``name.bad``, or ``name.2.bad`` if that is taken.

        Returns the new name, None if there was no file.
        """
        if not self.exists(name):
            return None
        kept = next(candidate for candidate in _bad_names(name) if not self.exists(candidate))
        self.rename(name, kept)
        return kept

    def sync(self, directory: str = "") -> None:
        """Make the names in a directory durable; "" is the repository itself."""
        fd = self.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        except OSError as error:
            raise from_os_error(error, f"sync {self.absolute(directory)}") from error
        finally:
            os.close(fd)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, f"look at {self.absolute(name)}") from error

    def _refuse_symlink(self, name: str) -> None:
        found = self._stat(name)
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise IntegrityError(f"{self.absolute(name)} is a symlink", hint="nothing below a repository may be one")


def _bad_names(name: str) -> Iterator[str]:
    yield name + BAD
    number = 2
    while True:
        yield f"{name}.{number}{BAD}"
        number += 1
