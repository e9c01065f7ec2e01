"""The file or device that a restore writes to: what is refused before the first byte, where one that was broken off goes on.

A new file is written as ``FILE.partial`` and gets its name when it is complete and on stable storage. What exists is written in place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from vsnapfs.core.errors import (
    BusyError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
    VsnapfsError,
    from_os_error,
)
from vsnapfs.daemon.restore_state import State, StateFile, generation_of, place_of
from vsnapfs.daemon.targets import PARTIAL, look, publish
from vsnapfs.daemon.underneath import underneath
from vsnapfs.mounts.table import VSNAPFS, entry_around
from vsnapfs.repository.primary import OpenImage, claim, is_same, refuse_open


class Target:
    """Where a restore goes. A context manager: leaving it closes the file and never removes a state.

    After ``open``: ``fd``, ``is_new`` and ``done_bytes``, where to go on.
    """

    def __init__(self, to: Path) -> None:
        self.to = to
        self.partial = to.with_name(to.name + PARTIAL)
        self._stack = ExitStack()
        try:
            self._directory_fd = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise from_os_error(error, f"write {to}") from error
        self._stack.callback(os.close, self._directory_fd)
        self._file = StateFile(self._directory_fd, to)
        self._state: State | None = None
        self.fd = -1
        self.is_new = False
        self.done_bytes = 0

    def open(self, wanted: State, *, force: bool, resume: bool) -> bool:
        """Have it ready to be written to, and the state beside it. wanted: what shall be restored, of which the target's members do
        not count yet. False: it is complete already, from a try before.

        Raises: NameTakenError, BusyError, NoSpaceError, PermissionDeniedError, UsageError: before the first byte.
        """
        found = self._file.read()
        if found is not None and not self._is_of_another_disk(found):
            self._refuse_unless(resume, found)
            self._file.require(found, wanted)
            return self._go_on(found)
        self._begin(wanted, force=force, resume=resume)
        return True

    def settled(self, done_bytes: int) -> None:
        """All before this offset is done: whoever goes on begins there."""
        assert self._state is not None
        self._state = msgspec.structs.replace(self._state, done_bytes=done_bytes)
        self._file.write(self._state)

    def finish(self) -> None:
        """It is complete: a new file gets its name; the state is removed."""
        try:
            os.fsync(self.fd)
            if self.is_new:
                publish(self._directory_fd, self.partial.name, self.to, force=False)
        except OSError as error:
            raise from_os_error(error, f"write {self.to}") from error
        self._file.remove()

    def drop_untouched(self) -> None:
        """After a failure: a new file that holds nothing yet is taken away again, and the state with it."""
        if self.is_new and self.done_bytes == 0 and os.fstat(self.fd).st_blocks == 0:
            with suppress(OSError, VsnapfsError):  # another error is on its way to be told
                os.unlink(self.partial.name, dir_fd=self._directory_fd)
                self._file.remove()
                self._state = None

    @property
    def advice(self) -> str | None:
        """What to do after a failure; None: nothing was begun."""
        if self._state is None:
            return None
        where = self.partial if self.is_new else self.to
        return f"what was written is in {where}; --resume goes on with it"

    def refuse_inside(self, repository: Path, primaries: Iterable[tuple[str, str]]) -> None:
        """Raises: UsageError: the target lies in the repository or in its mount, or is the primary of one of its volumes (name and
        path), by whatever name; or it is a device that lies on one of these."""
        real = self.to.parent.resolve() / self.to.name
        if any(_is_one(above, repository) for above in real.parents):
            raise UsageError(f"{self.to} lies in the repository {repository}", hint="give a target elsewhere")
        around = entry_around(real)
        if around is not None and around.filesystem_type == VSNAPFS:
            raise UsageError(f"{self.to} lies in the mount {around.path}", hint="--live restores what is in live/")
        named = list(primaries)
        for place in (real, *underneath(real)) if self._is_there() else ():
            self._refuse_primary(place, named)
            if place != real and place.resolve().is_relative_to(repository):
                raise UsageError(f"{self.to} lies on {place}, in the repository", hint="give another device")

    def _refuse_primary(self, place: Path, primaries: Iterable[tuple[str, str]]) -> None:
        for name, path in primaries:
            if _is_one(place, Path(path)):
                what = "is" if place.name == self.to.name else f"lies on {place},"
                raise UsageError(
                    f"{self.to} {what} the primary of volume {name}", hint="--live restores it, and can be undone"
                )

    def _refuse_unless(self, resume: bool, found: State) -> None:
        if not resume:
            percent = 100 * found.done_bytes // max(1, found.size_bytes)
            there = self._file.path if found.in_place else f"{self._file.path} and {self.partial}"
            raise BusyError(
                f"a restore of {found.what} to {self.to} was broken off at {percent} %",
                hint=f"--resume goes on with it; remove {there} to begin anew",
            )

    def _is_of_another_disk(self, found: State) -> bool:
        """The names of devices are used again: what was broken off was on another, which is not there any more."""
        if not self._is_there():
            return False
        there = os.stat(self.to.name, dir_fd=self._directory_fd, follow_symlinks=False)
        return stat.S_ISBLK(there.st_mode) and not found.is_of(there)

    def _begin(self, wanted: State, *, force: bool, resume: bool) -> None:
        if self._is_there():
            self._open_existing(wanted.size_bytes, force=force)
        else:
            self._make_new(resume=resume)
        device, inode = place_of(os.fstat(self.fd))
        state = msgspec.structs.replace(
            wanted,
            device=device,
            inode=inode,
            generation=generation_of(self.fd),
            in_place=not self.is_new,
            done_bytes=0,
        )
        self._file.write(state)
        self._state = state
        self._set_size(wanted.size_bytes)

    def _go_on(self, found: State) -> bool:
        if not found.in_place:
            if self._is_there() and found.is_of(
                os.stat(self.to.name, dir_fd=self._directory_fd, follow_symlinks=False)
            ):
                self._tidy_up(found)
                return False
            self._claim(self.partial)
            self.is_new = True
        else:
            self._open_existing(found.size_bytes, force=True)
        if not found.is_open_at(self.fd):
            raise NotFoundError(
                f"{self.to} is not what {self._file.path} speaks of", hint="remove that to begin the restore anew"
            )
        self._state, self.done_bytes = found, found.done_bytes if found.lasts else 0
        self._set_size(found.size_bytes)
        return True

    def _tidy_up(self, found: State) -> None:
        """A try before was killed after it had given the file its name."""
        try:
            left = os.stat(self.partial.name, dir_fd=self._directory_fd, follow_symlinks=False)
            if found.is_of(left):
                os.unlink(self.partial.name, dir_fd=self._directory_fd)
        except FileNotFoundError:
            """It was further."""
        self._file.remove()

    def _is_there(self) -> bool:
        try:
            found = os.stat(self.to.name, dir_fd=self._directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise from_os_error(error, f"write {self.to}") from error
        if stat.S_ISLNK(found.st_mode):
            raise PermissionDeniedError(f"{self.to} is a symlink, which is not followed", hint=_real_name(self.to))
        return True

    def _open_existing(self, size_bytes: int, *, force: bool) -> None:
        look(self.to, force)
        image = self._claim(self.to)
        refuse_open(image)
        if image.is_device and image.size_bytes < size_bytes:
            raise NoSpaceError(f"{self.to} has {image.size_bytes} bytes, the volume {size_bytes}")

    def _claim(self, path: Path) -> OpenImage:
        image = claim(path, self._directory_fd)
        self.fd = image.fd
        self._stack.callback(os.close, self.fd)
        return image

    def _make_new(self, *, resume: bool) -> None:
        """An empty file may be there from a try that was killed before it had a state."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            os.close(os.open(self.partial.name, flags, 0o600, dir_fd=self._directory_fd))
        except FileExistsError as error:
            left = os.stat(self.partial.name, dir_fd=self._directory_fd, follow_symlinks=False)
            if not (resume and stat.S_ISREG(left.st_mode) and left.st_size == 0):
                raise NameTakenError(f"{self.partial} is there, from an earlier try", hint="remove it") from error
        except OSError as error:
            raise from_os_error(error, f"write {self.partial}") from error
        self._claim(self.partial)
        self.is_new = True

    def _set_size(self, size_bytes: int) -> None:
        """A device keeps its own."""
        found = os.fstat(self.fd)
        if stat.S_ISREG(found.st_mode) and found.st_size != size_bytes:
            try:
                os.ftruncate(self.fd, size_bytes)
            except OSError as error:
                raise from_os_error(error, f"give {self.to} its size") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _is_one(path: Path, other: Path) -> bool:
    """True if both lead to the same file or device."""
    try:
        fd = os.open(path, os.O_PATH)
    except OSError:
        return False
    try:
        return is_same(other, fd)
    finally:
        os.close(fd)


def _real_name(to: Path) -> str:
    """A device of the volume manager, say, is one behind a symlink."""
    return f"give the file itself, {os.path.realpath(to)}"
