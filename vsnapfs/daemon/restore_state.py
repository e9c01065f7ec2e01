"""How far a restore into a file or device has come: a small file beside the target, so that one that was killed can go on.

It is written before the first byte and after each settlement, in one step, and removed at the end. Whoever finds one knows that the
target is neither what it was nor what it shall be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vsnapfs.core.branch import source_branch
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, UsageError, from_os_error

FORMAT = 1
SUFFIX = ".vsnapfs-restore"
PART = ".part"
FILE_BYTES_MAX = 65536
MODE = 0o600
DEVICES = Path("/sys/dev/block")
GET_GENERATION = 0x80087601
"""ioctl FS_IOC_GETVERSION of uapi/linux/fs.h; the kernel writes an int."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    format: int
    repository: str
    """Its uuid."""
    source: str
    """``@SEQNO`` or ``branch:NAME``."""
    source_id: int
    """The seqno, or the branch's id."""
    volume: str
    volume_id: int
    size_bytes: int
    device: int
    inode: int
    """Of the file that is written to; of a block device its number, and what tells it from others that bear that."""
    generation: int = 0
    """Of a file, where its filesystem tells one: what is made in place of one that was removed often gets its inode number, but not
    this. 0: not known."""
    in_place: bool
    """False: it is new, and gets its name at the end."""
    done_bytes: int

    @property
    def what(self) -> str:
        return f"{self.volume} at {self.source}"

    @property
    def lasts(self) -> bool:
        """What is done stays so: a point never changes, a branch may have been written to since."""
        return source_branch(self.source) is None

    def is_of(self, found: os.stat_result) -> bool:
        """True of the file or device that was written to, as far as its number tells."""
        return (self.device, self.inode) == place_of(found)

    def is_open_at(self, fd: int) -> bool:
        """True of that very one."""
        generation = generation_of(fd)
        return self.is_of(os.fstat(fd)) and (not self.generation or not generation or self.generation == generation)


def place_of(found: os.stat_result) -> tuple[int, int]:
    """What tells a file, or a block device, from every other."""
    if not stat.S_ISBLK(found.st_mode):
        return found.st_dev, found.st_ino
    return found.st_rdev, _disk_sequence(os.major(found.st_rdev), os.minor(found.st_rdev))


def generation_of(fd: int) -> int:
    """Of an open file; 0: its filesystem does not tell."""
    try:
        answer = fcntl.ioctl(fd, GET_GENERATION, bytes(8))
    except OSError:
        return 0
    return int.from_bytes(answer[:4], sys.byteorder)


def _disk_sequence(major: int, minor: int) -> int:
    """Another number for each disk that the system has got to know since it was started, whatever its name (Linux 5.15); before that, 0."""
    for name in ("diskseq", "../diskseq"):  # a partition has that of its disk
        try:
            return int((DEVICES / f"{major}:{minor}" / name).read_text())
        except (OSError, ValueError):
            continue
    return 0


class StateFile:
    """Beside the target ``to``, in its directory, which is open at ``directory_fd``."""

    def __init__(self, directory_fd: int, to: Path) -> None:
        self._directory_fd = directory_fd
        self.path = to.with_name(to.name + SUFFIX)

    def read(self) -> State | None:
        """None: there is none. Raises: IntegrityError, FormatUnknownError: it cannot be used."""
        with self._named("read"):
            try:
                fd = os.open(self.path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory_fd)
            except FileNotFoundError:
                return None
            try:
                content = os.read(fd, FILE_BYTES_MAX)
            finally:
                os.close(fd)
        return self._decoded(content)

    def _decoded(self, content: bytes) -> State:
        try:
            version = from_json(content, _Version).format
            if version > FORMAT:
                raise FormatUnknownError(f"{self.path} is of format {version}", hint="use a newer vsnapfs")
            state = from_json(content, State)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"{self.path} cannot be understood: {error}", hint="remove it, and begin the restore anew"
            ) from error
        if not 0 <= state.done_bytes <= state.size_bytes:
            raise IntegrityError(f"{self.path} tells of what cannot be", hint="remove it, and begin the restore anew")
        return state

    def write(self, state: State) -> None:
        """After a crash it is the old one or this one."""
        part = self.path.name + PART
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._named("write"):
            fd = os.open(part, flags, MODE, dir_fd=self._directory_fd)
            try:
                content = msgspec.json.encode(state) + b"\n"
                if os.write(fd, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(part, self.path.name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            os.fsync(self._directory_fd)

    def remove(self) -> None:
        with self._named("remove"):
            for name in (self.path.name + PART, self.path.name):
                try:
                    os.unlink(name, dir_fd=self._directory_fd)
                except FileNotFoundError:
                    continue
            os.fsync(self._directory_fd)

    def require(self, state: State, wanted: State) -> None:
        """Raises: UsageError: what was begun is something else."""
        same = all(getattr(state, name) == getattr(wanted, name) for name in SAME)
        if not same:
            raise UsageError(
                f"{self.path} is of a restore of {state.what}",
                hint=f"give that point and volume to go on with it, or remove {self.path} to begin anew",
            )

    @contextmanager
    def _named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{doing} {self.path}") from error


SAME = ("repository", "source", "source_id", "volume_id", "size_bytes")
"""What must be as it was for a restore to go on."""


class _Version(msgspec.Struct):
    format: int
