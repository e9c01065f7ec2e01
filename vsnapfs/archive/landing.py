"""Where a recall puts volumes: a directory of images, each ``VOLUME.partial`` until all are complete and on stable storage.

An image is sparse. Nothing that exists is written over, and no symlink is followed. What was lost is zeros, and ``VOLUME.damage``
beside the image lists it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from vsnapfs.archive.damage import Damage, Filled
from vsnapfs.archive.landing_state import State, StateFile
from vsnapfs.archive.manifest import Manifest, ManifestVolume
from vsnapfs.binding import Store
from vsnapfs.core.errors import (
    IntegrityError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.names import check_name
from vsnapfs.repository.file_target import FileTarget

PARTIAL = ".partial"
DAMAGE = ".damage"
MODE = 0o600


class Landing:
    """Resource handling: holds the directory, and each image open; ``close`` ends that and removes nothing. Concurrency: one thread."""

    def __init__(self, directory: Path, archives: Sequence[str], wanted: Sequence[str], *, resume: bool) -> None:
        """archives: the chain, by uuid. wanted: volumes; none: all.

        Raises: BusyError: another recall is there, or was broken off and shall not be gone on with. UsageError: it was another one.
        """
        self.directory = directory
        self._images: dict[str, FileTarget] = {}
        self._fds: dict[str, int] = {}
        self._store: Store | None = None
        self._fd, is_new = _opened(directory)
        try:
            self._store = Store(self._fd)
            self._file = StateFile(self._fd, str(directory))
            self._file.hold()
            found = self._file.read()
            self.is_resumed = found is not None
            if found is not None:
                self._file.require(found, tuple(archives), tuple(wanted), resume=resume)
            self.state = found or State(archives=tuple(archives), wanted=tuple(wanted), made_directory=is_new)
        except BaseException:
            self.close()
            raise
        self.damage = Damage(self.state.flaws, self.state.lost)

    def close(self) -> None:
        """Twice is allowed."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds, self._images = {}, {}
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def wants(self, volume: str) -> bool:
        return not self.state.wanted or volume in self.state.wanted

    @property
    def is_begun(self) -> bool:
        """There is something that a resume could go on with."""
        return bool(self.state.step or self.state.piece)

    @property
    def volumes(self) -> dict[str, int]:
        """Those that are there, and their ids."""
        return self.state.ids

    def begin(self, manifest: Manifest) -> None:
        """Have an image for each volume of an archive, of the size it has there. A volume that the archive does not have is gone, and one
        of the same name that is another one begins as zeros.

        Raises: NotFoundError: a volume that is wanted is not in it. NameTakenError, NoSpaceError, StoreError.
        """
        volumes = [volume for volume in manifest.volumes if self.wants(volume.name)]
        lacking = sorted(set(self.state.wanted) - {volume.name for volume in volumes})
        if lacking:
            raise NotFoundError(f"the archive has no volume {lacking[0]!r}")
        _require_apart({volume.name for volume in volumes})
        for volume in volumes:
            check_name(volume.name, "volume")
            self._refuse_taken(volume.name)
        self._require_room(manifest, volumes)
        if not self.is_resumed and not self.state.ids:
            self._file.write(self.state)
        for name in set(self.state.ids) - {volume.name for volume in volumes}:
            self._drop(name)
        for volume in volumes:
            self._have(volume)
        ids = {volume.name: volume.id for volume in volumes}
        self.state = msgspec.structs.replace(self.state, ids=ids)

    def write(self, volume: str, offset_bytes: int, content: memoryview) -> None:
        self._images[volume].write(offset_bytes, content)  # type: ignore[arg-type]

    def zero(self, volume: str, offset_bytes: int, length_bytes: int) -> None:
        if length_bytes:
            self._images[volume].zero(offset_bytes, length_bytes)

    def readinto(self, volume: str, offset_bytes: int, buffer: memoryview) -> None:
        """What an image has. Raises: StoreError."""
        with self._named(volume, "read"):
            got = os.preadv(self._fds[volume], [buffer], offset_bytes)
        if got != len(buffer):
            raise IntegrityError(f"{self._path(volume)} became shorter while it was written")

    def forget_cache(self, volume: str) -> None:
        """What is read next comes from the disk."""
        with self._named(volume, "read"):
            os.posix_fadvise(self._fds[volume], 0, 0, os.POSIX_FADV_DONTNEED)

    def add_sums(self, digest: str) -> None:
        """Of the next archive of the chain; kept with the next ``settle``."""
        self.state = msgspec.structs.replace(self.state, sums=[*self.state.sums, digest])

    def add_filled(self, filled: Sequence[Filled]) -> None:
        """By other copies, which need not be asked again; kept with the next ``settle``."""
        self.state = msgspec.structs.replace(self.state, filled=list(filled))

    def owe(self, error: dict[str, Any] | None) -> None:
        """What is lost by this error (see core.errors.to_object) is to be asked for again; None: nothing is. Kept with ``settle``."""
        self.state = msgspec.structs.replace(self.state, unanswered=error)

    def sync(self) -> None:
        """What was written is on stable storage."""
        for image in self._images.values():
            image.settle()

    def settle(self, step: int, piece: int, stream_bytes: int) -> None:
        """All up to here is on stable storage, and need not be done again."""
        self.sync()
        self.state = msgspec.structs.replace(
            self.state,
            step=step,
            piece=piece,
            stream_bytes=stream_bytes,
            flaws=self.damage.flaws,
            lost=self.damage.lost(),
        )
        self._file.write(self.state)

    def partials(self) -> dict[str, Path]:
        """The images as they are now, by volume."""
        return {name: self._path(name) for name in sorted(self.state.ids)}

    def discard(self) -> None:
        """All that is here goes: the images were needed no longer than this. The directory goes too, if this recall has made it."""
        with self._named("", "remove"):
            for name in {*self.state.ids, *self._fds}:
                with suppress(FileNotFoundError):
                    os.unlink(name + PARTIAL, dir_fd=self._fd)
            self._file.remove()
            if self.state.made_directory:
                with suppress(OSError):
                    self.directory.rmdir()

    def finish(self) -> dict[str, Path]:
        """Each image gets its name, and what is lost of it a list beside. All was settled; an earlier try may have begun with this.
        Returns: the images, by volume."""
        for name in sorted(self.state.ids):
            lost = self.damage.lost(name)
            if lost:
                self._write_list(name, "".join(f"{each.line()}\n" for each in lost))
        for name in sorted(self.state.ids):
            with self._named(name, "name"):
                self._publish(name)
        with self._named("", "sync"):
            os.fsync(self._fd)
        self._file.remove()
        return {name: self.directory / name for name in sorted(self.state.ids)}

    def _have(self, volume: ManifestVolume) -> None:
        name = volume.name
        if name not in self._fds:
            self._open(name)
        with self._named(name, "give a size to"):
            if self.state.ids.get(name, volume.id) != volume.id:
                os.ftruncate(self._fds[name], 0)
                self.damage.mend(name, 0, 1 << 63)
            os.ftruncate(self._fds[name], volume.size_bytes)
        self.damage.mend(name, volume.size_bytes, 1 << 63)
        assert self._store is not None
        self._images[name] = FileTarget(self._store, self._fds[name], volume.size_bytes, str(self._path(name)))

    def _open(self, name: str) -> None:
        known = name in self.state.ids
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fds[name] = os.open(
                name + PARTIAL, flags if known else flags | os.O_CREAT | os.O_EXCL, MODE, dir_fd=self._fd
            )
        except FileExistsError as error:
            if not self.is_resumed:
                raise NameTakenError(f"{self._path(name)} is there, from an earlier try", hint="remove it") from error
            self._fds[name] = os.open(name + PARTIAL, flags | os.O_TRUNC, MODE, dir_fd=self._fd)
        except OSError as error:
            raise from_os_error(error, f"write {self._path(name)}") from error

    def _drop(self, name: str) -> None:
        """It is not in the point."""
        with self._named(name, "remove"):
            if name in self._fds:
                os.close(self._fds.pop(name))
                del self._images[name]
            with suppress(FileNotFoundError):  # an earlier try has done it
                os.unlink(name + PARTIAL, dir_fd=self._fd)
        self.damage.mend(name, 0, 1 << 63)

    def _refuse_taken(self, name: str) -> None:
        for path in (self.directory / name, self.directory / (name + DAMAGE)):
            if os.path.lexists(path):
                raise NameTakenError(f"{path} exists already", hint="give another directory, or remove it")

    def _require_room(self, manifest: Manifest, volumes: Sequence[ManifestVolume]) -> None:
        """Raises: NoSpaceError: before the first byte, of a full archive that cannot fit."""
        if manifest.kind != "full" or self.is_resumed:
            return
        disk = os.fstatvfs(self._fd)
        free_bytes = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
        needed = sum(volume.stored_bytes for volume in volumes)
        if needed > free_bytes:
            raise NoSpaceError(f"{self.directory} needs {needed} bytes, {free_bytes} are free", hint="make room")

    def _publish(self, name: str) -> None:
        """A link cannot replace a file that came meanwhile; where a filesystem has no links, looking has to do."""
        if not os.path.lexists(self._path(name)):
            return  # an earlier try has done it
        try:
            os.link(name + PARTIAL, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileExistsError as error:
            if not os.path.samefile(self._path(name), self.directory / name):
                raise NameTakenError(f"{self.directory / name} exists already") from error
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if os.path.lexists(self.directory / name):
                raise NameTakenError(f"{self.directory / name} exists already") from error
            os.rename(name + PARTIAL, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            return
        os.unlink(name + PARTIAL, dir_fd=self._fd)

    def _write_list(self, name: str, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with (
            self._named(name, "list the damage of"),
            os.fdopen(os.open(name + DAMAGE, flags, 0o644, dir_fd=self._fd), "w", encoding="utf-8") as file,
        ):
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _path(self, name: str) -> Path:
        return self.directory / (name + PARTIAL)

    @contextmanager
    def _named(self, name: str, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{doing} {self._path(name) if name else self.directory}") from error


def _require_apart(volumes: set[str]) -> None:
    """Raises: UsageError: one volume is called as a file beside another one's image is."""
    for name in sorted(volumes):
        other = next((name + ending for ending in (PARTIAL, DAMAGE) if name + ending in volumes), None)
        if other is not None:
            raise UsageError(f"{other} is a volume, and a file beside volume {name}", hint="--volume, one at a time")


def _opened(directory: Path) -> tuple[int, bool]:
    """And whether it was made."""
    is_new = not os.path.lexists(directory)
    try:
        os.makedirs(directory, exist_ok=True)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), is_new
    except OSError as error:
        raise from_os_error(error, f"write to {directory}") from error
