"""How far a recall into a directory has come: a small file in it, so that one that was killed can go on.

It is written before the first byte and after each piece, in one step, and removed at the end. What a recall has met of damage is in
it too: a tape that was passed over is not read again for that.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from vsnapfs.archive.damage import Filled, Flaw, Lost
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import BusyError, FormatUnknownError, IntegrityError, UsageError, from_os_error

FORMAT = 1
NAME = ".vsnapfs-recall"
PART = NAME + ".part"
FILE_BYTES_MAX = 64 << 20
MODE = 0o600


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    format: int = FORMAT
    archives: tuple[str, ...]
    """Of the chain, by uuid, the full one first."""
    wanted: tuple[str, ...]
    """Volumes; none: all."""
    made_directory: bool = False
    """By this recall."""
    step: int = 0
    piece: int = 0
    """What comes next: an archive of the chain, by place, and a piece of it."""
    stream_bytes: int = 0
    """Of that archive's stream, what is done."""
    ids: dict[str, int] = {}
    """Of the volumes that are there, by name."""
    sums: list[str] = []
    """SHA-256 of the SHA256SUMS of each archive that is done."""
    flaws: list[Flaw] = []
    lost: list[Lost] = []
    filled: list[Filled] | None = None
    """Of what was lost, what other copies had; None: they were not asked yet."""
    unanswered: dict[str, Any] | None = None
    """Why tapes could not be asked at all, of which something is lost; None: there were none."""


class StateFile:
    """In the directory that is open at ``directory_fd``; held alone from ``hold`` on until the descriptor is closed."""

    def __init__(self, directory_fd: int, directory: str) -> None:
        self._directory_fd = directory_fd
        self.path = os.path.join(directory, NAME)

    def hold(self) -> None:
        """Raises: BusyError: another recall is writing there."""
        try:
            fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"another recall writes to {os.path.dirname(self.path)}"
            raise BusyError(what, hint="wait until it has ended") from error

    def read(self) -> State | None:
        """None: there is none. Raises: IntegrityError, FormatUnknownError: it cannot be used."""
        with self._named("read"):
            try:
                fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory_fd)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as file:
                content = file.read(FILE_BYTES_MAX)
        try:
            state = from_json(content, State)
        except msgspec.DecodeError as error:
            raise IntegrityError(f"{self.path} cannot be understood: {error}", hint=self._anew) from error
        if state.format > FORMAT:
            raise FormatUnknownError(f"{self.path} is of format {state.format}", hint="use a newer vsnapfs")
        return state

    def write(self, state: State) -> None:
        """After a crash it is the old one or this one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        content = msgspec.json.encode(state) + b"\n"
        with self._named("write"):
            fd = os.open(PART, flags, MODE, dir_fd=self._directory_fd)
            try:
                if os.write(fd, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(PART, NAME, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            os.fsync(self._directory_fd)

    def remove(self) -> None:
        with self._named("remove"):
            for name in (PART, NAME):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._directory_fd)
            os.fsync(self._directory_fd)

    def require(self, found: State, archives: tuple[str, ...], wanted: tuple[str, ...], *, resume: bool) -> None:
        """Raises: BusyError: a recall was broken off, and nobody asked to go on. UsageError: it was another one."""
        if (found.archives, found.wanted) != (archives, wanted):
            raise UsageError(f"{self.path} is of a recall of something else", hint=self._anew)
        if not resume:
            at = f"archive {found.step + 1} of {len(found.archives)}"
            raise BusyError(f"this recall was broken off in {at}", hint=f"--resume goes on with it; {self._anew}")

    @property
    def _anew(self) -> str:
        return f"remove {self.path} and *.partial beside it to begin anew"

    @contextmanager
    def _named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{doing} {self.path}") from error
