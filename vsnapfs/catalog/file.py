"""A file of SQLite in a repository: found beneath its directory alone, opened so that nothing in it is run, and its errors as ours."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from vsnapfs.binding import open_beneath
from vsnapfs.core.errors import BusyError, IntegrityError, NoSpaceError, StoreError, UsageError

IN_MEMORY = ":memory:"
FILE_MODE = 0o600


class Place(NamedTuple):
    """Where a catalog's file is: in the open directory, which stays open as long as it is in use. path: for people."""

    directory_fd: int
    path: Path

    @property
    def opened_as(self) -> str:
        """For SQLite, which takes no descriptor."""
        return f"/proc/self/fd/{self.directory_fd}/{self.path.name}"


def connect(place: Place | None, *, make: bool = True) -> apsw.Connection:
    """A connection to the file, or to one in memory. make: where there is no file it is made. Raises: apsw.Error, StoreError."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
    if place is None:
        db = apsw.Connection(IN_MEMORY, flags=flags)
    else:
        if make:
            _make_file(place)
        db = apsw.Connection(place.opened_as, flags=flags, vfs=_vfs().name)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    return db


def _make_file(place: Place) -> None:
    """SQLite would make it as the umask says; its log gets the same mode. Before SQLite has it open: closing a file ends
    the locks that this process has on it."""
    try:
        os.close(open_beneath(place.directory_fd, place.path.name, os.O_RDWR | os.O_CREAT, FILE_MODE))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise IntegrityError(f"{place.path} is a symlink") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"cannot make {place.path}: {error.strerror}") from error
        raise StoreError(f"cannot open {place.path}: {error.strerror}") from error


@contextmanager
def untouched(place: Place) -> Iterator[apsw.Connection]:
    """Raises: OSError: it is not there, or no file: SQLite would wait for whoever writes to a pipe."""
    fd = open_beneath(place.directory_fd, place.path.name, os.O_RDONLY | os.O_NONBLOCK, FILE_MODE)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a file")
    finally:
        os.close(fd)
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOFOLLOW
    uri = f"{Path(place.opened_as).as_uri()}?immutable=1"
    with closing(apsw.Connection(uri, flags=flags, vfs=_vfs().name)) as db:
        yield db


class _Vfs(apsw.VFS):
    """SQLite's own way to files, but for one thing: it would turn the name that we give into a path of text, and open
    that, wherever it leads by then. Files themselves it opens with O_NOFOLLOW."""

    name = "vsnapfs-beneath"

    def __init__(self) -> None:
        super().__init__(self.name, base="unix")

    def xFullPathname(self, name: str) -> str:  # noqa: N802  SQLite's name
        return name


@cache
def _vfs() -> _Vfs:
    """The one of this process: SQLite knows it as long as it is referred to."""
    return _Vfs()


def stands(place: Place) -> bool:
    """Raises: IntegrityError: something else than a file is there."""
    try:
        found = os.stat(place.path.name, dir_fd=place.directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot look at {place.path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(f"{place.path} is no file")
    return True


def faults_of(db: apsw.Connection) -> list[str]:
    """What SQLite's own check finds; empty when the file is sound."""
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
    except apsw.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


@contextmanager
def our_errors(doing: str) -> Iterator[None]:
    """Turn SQLite's errors into ours: damage, or a refusal of the operating system."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, msgspec.DecodeError, UsageError) as error:
        raise IntegrityError(f"cannot {doing}: {error}") from error
    except apsw.BusyError as error:
        raise BusyError(f"cannot {doing}: {error}", hint="somebody else is changing it; try again") from error
    except apsw.FullError as error:
        raise NoSpaceError(f"cannot {doing}: {error}") from error
    except apsw.Error as error:
        raise StoreError(f"cannot {doing}: {error}") from error
