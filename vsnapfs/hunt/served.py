"""The ground of a hunt on a repository that is served: branches by its server, their volumes in its mount."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vsnapfs.attach import attach, detach
from vsnapfs.attach.stale import clean_all, listed
from vsnapfs.core.errors import (
    BusyError,
    NameTakenError,
    NotFoundError,
    PointGoneError,
    StoreError,
    UntestableError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.hunt import HuntWrite
from vsnapfs.core.model import Bookmark, Point
from vsnapfs.daemon.again import call_again, make_branch
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BookmarkAdd, BookmarkShow, BranchAdd, BranchRemove, GetStatus, Request
from vsnapfs.hunt.ground import Place
from vsnapfs.hunt.log import Begin, Making, Named
from vsnapfs.hunt.write import describe
from vsnapfs.repository.repository import Repository

R = TypeVar("R")

INSTANTS_MAX = 1 << 20
"""Looked at at once; of more, some."""
DIRECTORY_MODE = 0o711
CLOSED_S_MAX = 10.0
"""The server hears of the end of a mount a moment after it."""
TRY_EVERY_S = 0.05


class ServedGround:
    """Threads: any. ``repository``: as reader, with all that was written before the hunt. ``mountpoint``: of the server."""

    def __init__(self, begin: Begin, repository: Repository, mountpoint: Path, log: Path) -> None:
        self._begin = begin
        self._repository = repository
        self._mountpoint = mountpoint
        self._label = label(begin.id, log)
        self._ids = frozenset(begin.volumes.values())
        self._pid = self._ask(GetStatus()).pid

    def make_safe(self, name: str) -> Point:
        try:
            made = self._ask(BookmarkAdd(name=name, note=f"before hunt {self._begin.id}"))
        except NameTakenError:  # by this hunt, which was killed before it could write that down
            made = self._ask(BookmarkShow(name=name)).bookmark
        return _point(made)

    def named(self) -> Named:
        self._repository.refresh()
        bookmarks, states = [], []
        for bookmark in self._repository.bookmarks():
            if self._begin.good.seqno <= bookmark.seqno <= self._begin.bad.seqno:
                with suppress(PointGoneError):
                    states.append(self._repository.state(self._ids, _point(bookmark)))
                    bookmarks.append(_point(bookmark))
        return Named(bookmarks=bookmarks, states=states)

    def instants(self, good: int, bad: int) -> Sequence[int]:
        self._repository.refresh()
        return self._repository.instants(self._ids, good, bad, INSTANTS_MAX)

    def point(self, state: int) -> Point:
        return self._repository.resolve(f"@{state}")

    def make(self, spot: Making) -> Place:
        top = self._branch(spot) if spot.branch else self._mountpoint / "at" / f"@{spot.point.seqno}"
        volumes = {name: top / name for name in self._begin.volumes}
        for file in volumes.values():
            self._look(file, spot.point)
        if spot.directory:
            top = _made(Path(spot.directory))
            volumes = {name: self._attached(file, top / name, spot) for name, file in volumes.items()}
        only = next(iter(volumes.values())) if len(volumes) == 1 else top
        return Place(only, top, volumes)

    def _look(self, file: Path, point: Point) -> None:
        """Raises: PointGoneError: the volume is not there. NotFoundError: it is not shown, since the server is gone."""
        try:
            file.stat()
        except FileNotFoundError as error:
            self.check()
            raise PointGoneError(f"@{point.seqno} is not there any more", seqno=point.seqno) from error
        except OSError as error:
            raise from_os_error(error, f"look at {file}") from error

    def _branch(self, spot: Making) -> Path:
        """Make it. Returns: the directory of its volumes."""
        quota_bytes = self._begin.quota_bytes
        source = f"@{spot.point.seqno}"
        request = BranchAdd(name=spot.branch, source=source, quota_bytes=quota_bytes, note=self._label)
        try:
            make_branch(connect(self._repository.path), request)
        except BusyError as error:  # a prune is just taking it
            raise UntestableError(str(error)) from error
        return self._mountpoint / "branches" / spot.branch

    def _attached(self, file: Path, directory: Path, spot: Making) -> Path:
        """Raises: UntestableError: it cannot be mounted. NotFoundError: since the server is gone."""
        what = f"@{spot.point.seqno} {file.name} of {self._label}"
        try:
            attach(file, directory, writable=bool(spot.branch), partition=self._begin.partition, what=what)
        except (UsageError, StoreError) as error:
            self.check()
            raise UntestableError(str(error)) from error
        return directory

    def check(self) -> None:
        self._repository.refresh()  # or files that a prune has replaced meanwhile wait for this reader
        if self._ask(GetStatus()).pid != self._pid:
            raise NotFoundError("the server that the hunt needs has ended", hint="start it again")

    def clear(self, spot: Making) -> None:
        if spot.directory:
            clear_directory(Path(spot.directory))
        if spot.branch:
            until_closed(lambda: self._ask(BranchRemove(name=spot.branch)))

    def write(self, good: int, bad: int, spot: Making) -> HuntWrite:
        names = {number: name for name, number in self._begin.volumes.items()}
        return describe(self._repository, names, good, bad, self._branch(spot), Path(spot.directory))

    def _ask(self, request: Request[R]) -> R:
        return call_again(connect(self._repository.path), request)


def _made(directory: Path) -> Path:
    """A test may become another user, as PostgreSQL's does: who may look in is what the filesystems say."""
    try:
        directory.mkdir()
        directory.chmod(DIRECTORY_MODE)
    except OSError as error:
        raise from_os_error(error, f"make {directory}") from error
    return directory


def label(number: str, log: Path) -> str:
    """What branches and mounts of a hunt carry, so that it can be told whose they are."""
    return f"hunt {number}, log {log}"


def log_in(text: str) -> Path | None:
    """The log of the hunt that has left something, by the label in its note; None: it is no hunt's."""
    found = re.search(r"\bhunt [0-9a-f]{8}, log (/.*)$", text)
    return Path(found[1]) if found else None


def clear_directory(directory: Path) -> None:
    """Detach what is attached below it, and remove it. Raises: BusyError: somebody uses it, and who."""
    with suppress(StoreError):  # of another's, which is not in the way
        clean_all()
    for each in listed():
        if directory.resolve() in (Path(each.directory), Path(each.directory).parent):
            with suppress(NotFoundError):  # somebody who cleans up did it in between
                detach(Path(each.directory))
    for path in (*(directory.glob("*") if directory.is_dir() else ()), directory):
        with suppress(OSError):
            path.rmdir()


def until_closed(remove: Callable[[], object]) -> None:
    """Remove a branch; wait for a moment for whoever had it open. Gone already is as good. Raises: BusyError: who has it."""
    end = time.monotonic() + CLOSED_S_MAX
    while True:
        try:
            remove()
        except NotFoundError:
            return
        except BusyError:
            if time.monotonic() > end:
                raise
            time.sleep(TRY_EVERY_S)
        else:
            return


def _point(bookmark: Bookmark) -> Point:
    return Point(seqno=bookmark.seqno, time=bookmark.time, time_ns=bookmark.time_ns, bookmark=bookmark.name)
