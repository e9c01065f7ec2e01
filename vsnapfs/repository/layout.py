"""Where the files of a repository are, and the only way in which they are opened.

A repository is trusted no further than its directory: whatever stands below it may come from elsewhere, so nothing below
it is reached through a symlink, not even one that is put there in the middle of an operation: every name is opened, or
its directory is, in one step that follows none (native/include/beneath.h). The path of the repository itself may lead
through symlinks.

Source: native/FORMAT.md section 1.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsnapfs.core.errors import IntegrityError, NotFoundError, from_os_error

IDENTITY = "repository.json"
SETTINGS = "vsnapfs.toml"
LOCK = "lock"
VERIFY_LOCK = "verify.lock"
"""Of the one verification."""
CATALOG = "catalog.db"
TAPES = "tapes.db"
"""Which archive is on which tape; made when it is needed."""
SOCKET = "vsnapfs.sock"
SCRUB = "scrub.json"
LEASES = "leases"
JOURNAL = "journal"
GENERATION = f"{JOURNAL}/generation"
"""Tells readers of a compaction; derived."""
BASE = "base"
MAPS = "maps"
PRIMARY = "primary"
FEDERATED = "federated"
"""Made when it is needed."""
BRANCHES = "branches"
"""Made with the first branch."""
LAYERS = f"{BRANCHES}/layers"
BRANCH_IDS = f"{LAYERS}/ids.json"
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


def changed_map(volume: int) -> str:
    """Which parts of a volume were written while the journal could not take them."""
    return f"{PRIMARY}/{volume:08x}.changed"


def federated_file(federation: str) -> str:
    """Where a bookmark over several repositories waits for what the first of them says."""
    return f"{FEDERATED}/{federation}.json"


def branch_file(name: str) -> str:
    """What a branch consists of."""
    return f"{BRANCHES}/{name}.json"


def branch_layer(layer: int) -> str:
    """The directory of what was written to a branch between two moments."""
    return f"{LAYERS}/{layer:08x}"


def segment(first_seqno: int, generation: int = 0) -> str:
    """A file of the journal; generation: of the compaction that wrote it, 0: none did."""
    return f"{JOURNAL}/{first_seqno:020d}{f'-{generation}' if generation else ''}.seg"


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

    def close(self) -> None:
        os.close(self.fd)

    def absolute(self, name: str) -> Path:
        return self.path / name

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a file, or with O_DIRECTORY of a directory; mode 0600 where it is made. Waits for nobody.

        Raises: IntegrityError: a symlink is on the way to it, or it is something else, such as a pipe.
        """
        with self._told(f"open {self.absolute(name)}", name):
            fd = _open_beneath(self.fd, name, flags | os.O_NONBLOCK)
        if not flags & os.O_DIRECTORY and not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IntegrityError(f"{self.absolute(name)} is not a file", hint="see what it is, and put the file back")
        return fd

    def exists(self, name: str) -> bool:
        """True if a file, or anything else, stands under that name."""
        return self.stat(name) is not None

    def stat(self, name: str) -> os.stat_result | None:
        """Of what stands under that name, a symlink itself too; None: nothing does."""
        try:
            with self._told(f"look at {self.absolute(name)}", name), self._directory_of(name) as (fd, last):
                return os.stat(last, dir_fd=fd, follow_symlinks=False)
        except NotFoundError:
            return None

    def allocated_bytes(self, directory: str, prefix: str = "") -> int:
        """Bytes of disk that the files of a directory take whose names begin so; 0 when it is missing. "": the
        repository's own.
        """
        names = (os.path.join(directory, name) for name in self.names(directory) if name.startswith(prefix))
        return sum(found.st_blocks * 512 for name in names if (found := self.stat(name)))

    def free_bytes(self) -> int:
        """Of the disk that the repository is on, for who runs this: some filesystems keep a part for root."""
        disk = os.fstatvfs(self.fd)
        return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize

    def names(self, directory: str) -> list[str]:
        """Names in a directory, sorted; none when it is missing, or goes just now."""
        try:
            fd = self.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        except NotFoundError:
            return []
        try:
            with self._told(f"read {self.absolute(directory)}", directory):
                return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def make_directory(self, name: str) -> None:
        with self._told(f"make {self.absolute(name)}", name), self._directory_of(name) as (fd, last):
            os.mkdir(last, DIRECTORY_MODE, dir_fd=fd)
            made = _open_beneath(fd, last, os.O_PATH | os.O_DIRECTORY)
            try:
                os.chmod(f"/proc/self/fd/{made}", DIRECTORY_MODE)  # whatever the umask has left of it
            finally:
                os.close(made)

    def read(self, name: str, bytes_max: int) -> bytes:
        """A whole small file, of which no more than so much is read. Raises: NotFoundError, StoreError."""
        fd = self.open(name, os.O_RDONLY)
        try:
            return os.read(fd, bytes_max)
        except OSError as error:
            raise from_os_error(error, f"read {self.absolute(name)}") from error
        finally:
            os.close(fd)

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a whole small file; after a crash it is the old one or the new one."""
        part = name + PART
        self.remove(part)
        fd = self.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            written = 0
            while written < len(content):  # a disk that has room for a part of it says so with the next call
                written += os.write(fd, content[written:])
            os.fsync(fd)
        except OSError as error:
            raise from_os_error(error, f"write {self.absolute(part)}") from error
        finally:
            os.close(fd)
        self.rename(part, name)

    def rename(self, name: str, to: str) -> None:
        """Give a file another name in the same directory, replacing what has it, durably."""
        with (
            self._told(f"rename {self.absolute(name)} to {to}", name),
            self._directory_of(name) as (fd, last),
            self._directory_of(to) as (to_fd, to_last),
        ):
            os.rename(last, to_last, src_dir_fd=fd, dst_dir_fd=to_fd)
        self.sync(os.path.dirname(name))

    def remove(self, name: str) -> None:
        """Remove a file if it is there, durably."""
        try:
            with self._told(f"remove {self.absolute(name)}", name), self._directory_of(name) as (fd, last):
                os.unlink(last, dir_fd=fd)
        except NotFoundError:
            return
        self.sync(os.path.dirname(name))

    def remove_directory(self, name: str) -> None:
        """Remove a directory of files, and them, if it is there, durably. Raises: StoreError: it holds a directory."""
        if not self.exists(name):
            return
        for below in self.names(name):
            with self._told(f"remove {self.absolute(name)}/{below}", name), self._directory_of(f"{name}/{below}") as at:
                os.unlink(at[1], dir_fd=at[0])
        with self._told(f"remove {self.absolute(name)}", name), self._directory_of(name) as (fd, last):
            os.rmdir(last, dir_fd=fd)
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

    @contextmanager
    def _directory_of(self, name: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that ``name`` is in, and its last component, for calls that follow no symlink
        in that one."""
        directory, last = os.path.split(name)
        fd = _open_beneath(self.fd, directory or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd, last
        finally:
            os.close(fd)

    @contextmanager
    def _told(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ELOOP:
                link = error.filename if isinstance(error.filename, str) else name
                hint = "nothing below a repository may be one"
                raise IntegrityError(f"cannot {doing}: {link} is, or leads through, a symlink", hint=hint) from error
            raise from_os_error(error, doing) from error


def _open_beneath(dir_fd: int, path: str, flags: int) -> int:
    from vsnapfs.binding import open_beneath  # not before it is needed: a command knows the names alone

    return open_beneath(dir_fd, path, flags, FILE_MODE)


def _bad_names(name: str) -> Iterator[str]:
    yield name + BAD
    number = 2
    while True:
        yield f"{name}.{number}{BAD}"
        number += 1
