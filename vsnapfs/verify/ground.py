"""A throw-away branch as the ground of a proof: volumes attached by loop devices, and a program that is watched over."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from vsnapfs.attach import attached, check_filesystem, detach, device_of
from vsnapfs.attach.stale import listed
from vsnapfs.core.errors import HuntAbortedError, NotFoundError, TimedOutError, from_os_error
from vsnapfs.core.model import Point
from vsnapfs.hunt import trial
from vsnapfs.hunt.ground import Place
from vsnapfs.hunt.hunting import environment
from vsnapfs.hunt.signals import run_until_signal
from vsnapfs.verify.proof import Checked

PIECE_BYTES = 1 << 20
DIRECTORY_MODE = 0o711
"""A program may become another user, as PostgreSQL has to: who may look in is what the filesystems say."""


class Occasion(NamedTuple):
    """What is proved, for the program."""

    point: Point
    branch: str
    profile: str
    repository: str


class BranchGround:
    """Of one thread. tree: the branch's directory in the mount. base: a directory for mounts, which need not be there."""

    def __init__(self, tree: Path, base: Path, command: tuple[str, ...], occasion: Occasion) -> None:
        self._tree = tree
        self._base = base
        self._command = command
        self._occasion = occasion

    def file(self, volume: str) -> Path:
        return self._tree / volume

    @contextmanager
    def attached(self, volume: str) -> Iterator[Path]:
        """Raises: what vsnapfs.attach raises."""
        _make(self._base)
        with attached(self.file(volume), self._base / volume, writable=True) as made:
            yield Path(made.directory)

    @contextmanager
    def shown(self, volume: str) -> Iterator[Path]:
        _make(self._base)
        place = self._base / volume
        place.symlink_to(self.file(volume))
        try:
            yield place
        finally:
            place.unlink()

    def read(self, volume: str) -> None:
        """Through the mount, where each block is compared with its checksum."""
        with _naming_errors(f"read {volume}"):
            fd = os.open(self.file(volume), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                _read_whole(fd)
            finally:
                os.close(fd)

    def check(self, volume: str, timeout_s: float) -> Checked:
        with device_of(self.file(volume)) as device:
            return Checked(*check_filesystem(device.path, device.filesystem, timeout_s=timeout_s))

    def run(self, places: Mapping[str, Path], until: float) -> str:
        """Nothing that the program has started runs any more when this returns."""
        directory = next(iter(places.values())).parent
        argument = next(iter(places.values())) if len(places) == 1 else directory
        words = [word.replace("{}", str(argument)) for word in self._command]
        place = Place(argument=argument, directory=directory, volumes=dict(places))
        told = {
            "VSNAPFS_BRANCH": self._occasion.branch,
            "VSNAPFS_PROFILE": self._occasion.profile,
            "VSNAPFS_REPO": self._occasion.repository,
        }
        timeout_s = max(0.0, until - time.monotonic())
        with TemporaryDirectory(prefix="vsnapfs-verify-") as beside:
            output = Path(beside) / "output"
            run = partial(trial.run, words, dict(environment(self._occasion.point, place)) | told, timeout_s, output)
            return _failure(run_until_signal(run), words[0], timeout_s, output)


def _failure(ran: trial.Trial, program: str, timeout_s: float, output: Path) -> str:
    """Why it did not succeed; "": it did. Raises: HuntAbortedError: it was not run."""
    if ran.how == "failed":
        raise HuntAbortedError(f"cannot run {program}: {ran.error}", hint="see `command` of the profile")
    try:
        judgement = trial.judged(ran, "abort", timeout_s, program)
    except (HuntAbortedError, TimedOutError) as error:
        return error.message
    if judgement.exit_status == 0:
        return ""
    said = trial.last_line(output)
    return f"{program} ended with {judgement.exit_status}" + (f": {said}" if said else "")


def clear(base: Path) -> None:
    """Take away what a proof that was killed has left mounted or shown below ``base``. Raises: BusyError, StoreError."""
    if base.is_dir():
        with _naming_errors(f"clear {base}"):
            for place in base.iterdir():
                if place.is_symlink():
                    place.unlink()
        for left in listed():
            if Path(left.directory).parent == base:
                try:
                    detach(left.directory, lazy=True)
                except NotFoundError:
                    continue  # by somebody else, in between


def _read_whole(fd: int) -> None:
    """All of a file's data. What comes before a block that cannot be had is read, and what comes next is the error. Raises: OSError."""
    at, size_bytes = 0, os.fstat(fd).st_size
    while at < size_bytes:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        done = len(os.pread(fd, PIECE_BYTES, at))
        if done == 0:
            raise OSError(errno.EIO, f"it ends at {at}")
        os.posix_fadvise(fd, at, done, os.POSIX_FADV_DONTNEED)
        at += done


@contextmanager
def _naming_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error


def _make(base: Path) -> None:
    with _naming_errors(f"make {base}"):
        base.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        for directory in (base, base.parent):
            directory.chmod(DIRECTORY_MODE)
