"""May a repository be used as it stands? What matters is who else can write to it.

A server believes what it finds: which files and devices are primaries, what the journal says of them. So whoever can write
into a repository can have its server write elsewhere, and such a repository is refused rather than mended, because it may
have been written to already. A reader writes nothing, but it compares maps when it opens them and uses them, mapped, for
as long as it runs: it is safe with any bytes, as long as nobody changes them meanwhile.

Nobody gets past a directory that is closed to others, so what is below one is not looked at. Nobody writes to a filesystem
that is read-only, such as an old copy, whatever its modes say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from vsnapfs.core.errors import IntegrityError, PermissionDeniedError, from_os_error
from vsnapfs.repository.layout import BRANCHES, DIRECTORIES, DIRECTORY_MODE, LAYERS, Layout

ROOT = 0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITE = stat.S_IWGRP | stat.S_IWOTH
SEARCH = stat.S_IXGRP | stat.S_IXOTH


def require(layout: Layout, *, owner: bool) -> None:
    """Refuse a repository that others can write to. An owner also closes it to who could only read, as ``init`` made it.

    Raises: PermissionDeniedError: with whom, and what to do. ReadOnlyError. IntegrityError: a directory of it is none.
    """
    for directory in (*DIRECTORIES, BRANCHES, LAYERS):
        _require_directory(layout, directory)
    if os.fstatvfs(layout.fd).f_flag & os.ST_RDONLY:
        return  # an owner does not get further than to the lock
    found = os.fstat(layout.fd)
    if found.st_uid not in (ROOT, os.geteuid()):
        raise PermissionDeniedError(
            f"{layout.path} belongs to user {found.st_uid}", hint="work as that user, or give it away with chown -R"
        )
    for name in _within_reach(layout, found):
        _refuse_if_written_by_others(layout, name)
    if owner and found.st_mode & OTHERS:
        try:
            os.fchmod(layout.fd, DIRECTORY_MODE)
        except OSError as error:
            raise from_os_error(error, f"close {layout.path} to others") from error


def _require_directory(layout: Layout, directory: str) -> None:
    found = layout.stat(directory)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        what = "a symlink" if stat.S_ISLNK(found.st_mode) else "no directory"
        raise IntegrityError(f"{layout.absolute(directory)} is {what}", hint="put the directory back")


def _within_reach(layout: Layout, top: os.stat_result) -> Iterator[str]:
    """The repository itself, as ".", and what others can get at below it."""
    yield "."
    if not top.st_mode & SEARCH:
        return
    for name in layout.names(""):
        yield name
        if name in (*DIRECTORIES, BRANCHES):
            yield from _below(layout, name)


def _below(layout: Layout, directory: str) -> Iterator[str]:
    """What others can get at in a directory, and in those in it."""
    found = layout.stat(directory)
    if found is None or not (stat.S_ISDIR(found.st_mode) and found.st_mode & SEARCH):
        return
    for name in layout.names(directory):
        yield f"{directory}/{name}"
        yield from _below(layout, f"{directory}/{name}")


def _refuse_if_written_by_others(layout: Layout, name: str) -> None:
    found = layout.stat(name)
    if found is None or stat.S_ISLNK(found.st_mode):
        return  # it has gone meanwhile; or whoever opens it will refuse it
    if found.st_uid not in (ROOT, os.geteuid()):
        raise PermissionDeniedError(
            f"{layout.absolute(name)} belongs to user {found.st_uid}, and others than its owner can get at the repository",
            hint=f"see what it is, then chown it, or chmod 700 {layout.path}",
        )
    if found.st_mode & WRITE and not stat.S_ISSOCK(found.st_mode):
        raise PermissionDeniedError(
            f"{layout.absolute(name)} can be written to by others, its mode is {stat.S_IMODE(found.st_mode):04o}",
            hint=f"see whether somebody has, then chmod -R go-w {layout.path}",
        )
