"""A directory of tapes: the medium that needs no hardware.

Each tape is a directory called as its label. What else is in there is left alone.

Source: docs/tape.md.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from vsnapfs.core.errors import BusyError, IntegrityError, NoSpaceError, NotFoundError, UsageError, from_os_error
from vsnapfs.core.names import check_name, near
from vsnapfs.core.tapes import TapeEntry
from vsnapfs.media.choice import appendable, next_label, reusable
from vsnapfs.media.label import new_label
from vsnapfs.media.medium import Begun, TapeSeen
from vsnapfs.media.pool_directory import DIRECTORY_MODE, PoolDirectory
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.tape import FileKind
from vsnapfs.policy.media import PoolSettings


class Pool:
    """See media.medium.Medium."""

    kind = "pool"

    def __init__(self, name: str, settings: PoolSettings, clock: Callable[[], int] = time.time_ns) -> None:
        """clock: nanoseconds since 1970. Raises: NotFoundError: there is no such directory. StoreError."""
        self.name = name
        self.settings = settings
        self._clock = clock
        try:
            self._fd = os.open(settings.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"open {settings.path}, the pool of tapes {name}") from error

    def close(self) -> None:
        """Twice is allowed. Tapes that are loaded stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def tapes(self) -> list[TapeSeen]:
        """Those that go meanwhile, since somebody takes them away, are not there."""
        found: list[TapeSeen] = []
        for label in self._labels():
            with suppress(NotFoundError):
                found.append(self._seen(label))
        return found

    def foreign(self) -> list[str]:
        """Paths below the pool: names that are no label, and what stands in tapes beside their files."""
        names = self._names()
        strange = [name for name, is_label in names.items() if not is_label]
        for label in (name for name, is_label in names.items() if is_label):
            with suppress(NotFoundError):
                tape = self._open(label, write=False, look=True)
                tape.close()
                strange += [f"{label}/{name}" for name in tape.foreign]
        return sorted(strange)

    def load(self, label: str, *, write: bool = False) -> PoolTape:
        labels = self._labels()
        if label not in labels:
            raise NotFoundError(f"{self.settings.path} has no tape {label!r}", near=near(label, labels))
        tape = self._open(label, write=write)
        problem = tape.problem
        if problem is None and (tape.label is None or tape.label.label != label):
            found = "no label" if tape.label is None else f"the label {tape.label.label}"
            problem = IntegrityError(f"{tape.name} has {found}", hint="`vsnapfs tape label` writes one")
        if problem is not None:
            tape.close()
            raise problem
        return tape

    def load_blank(self, label: str) -> PoolTape:
        check_name(label, "tape")
        self._make(label)
        return self._open(label, write=True)

    def next(self, known: Sequence[TapeEntry], begun: Begun, *, fresh: bool = False) -> PoolTape:
        here = set(self._labels())
        self._require_mounted(known, here)
        return self._gone_on_with(known, here, begun, fresh=fresh) or self._begun(known, here, begun)

    def _gone_on_with(
        self, known: Sequence[TapeEntry], here: set[str], begun: Begun, *, fresh: bool
    ) -> PoolTape | None:
        """One that may be appended to; None: there is none."""
        for entry in appendable(known, fresh=fresh):
            if entry.label not in here:
                continue
            if (tape := self._appendable(entry)) is not None:
                return tape
            if entry.files == 1 and (tape := self._half_labelled(entry)) is not None:
                return self._labelled(tape, entry.label, entry.generation, begun)
        return None

    def _begun(self, known: Sequence[TapeEntry], here: set[str], begun: Begun) -> PoolTape:
        """One that holds nothing, or nothing that counts, with a new label. Raises: NoSpaceError: there is none."""
        taken = {entry.label for entry in known}
        for label in sorted(here - taken):
            if (tape := self._blank(label)) is not None:
                return self._labelled(tape, label, 1, begun)
        for entry in reusable(known, self._clock(), self.settings.retention_ns):
            if entry.label in here and (tape := self._unread(entry)) is not None:
                return self._labelled(tape, entry.label, entry.generation + 1, begun)
        while not self.settings.tapes or len(here) < self.settings.tapes:
            label = next_label(self.settings.labels, {*here, *taken})
            self._make(label)
            if (tape := self._blank(label)) is not None:
                return self._labelled(tape, label, 1, begun)
            here.add(label)  # another repository, whose pool it is too, was first
        raise self._none_left(len(here))

    def _require_mounted(self, known: Sequence[TapeEntry], here: set[str]) -> None:
        """A pool whose disk is not mounted is an empty directory on another."""
        ours = [entry for entry in known if entry.medium == self.name]
        if ours and not any(entry.label in here for entry in ours):
            what = f"none of the {len(ours)} tapes of {self.name} is in {self.settings.path}: is its disk mounted?"
            raise NotFoundError(what, hint=f"`vsnapfs tape label {self.name}` makes one on another disk")

    def _make(self, label: str) -> None:
        """Its directory, if there is none."""
        try:
            os.mkdir(label, DIRECTORY_MODE, dir_fd=self._fd)
            os.fsync(self._fd)
        except FileExistsError:
            pass
        except OSError as error:
            raise from_os_error(error, f"make {self._path(label)}") from error

    def _blank(self, label: str) -> PoolTape | None:
        """None: something stands on it, or somebody else writes to it."""
        try:
            tape = self._open(label, write=True)
        except BusyError:
            return None
        if tape.blank and not tape.read_only:
            return tape
        tape.close()
        return None

    def _appendable(self, entry: TapeEntry) -> PoolTape | None:
        """The tape, cut behind its last index. None: it is another one, protected, or there is no room on it.

        What stands behind the files that the catalog knows and has its index is not cut off: an older copy of the
        catalog may have been put back.
        """
        tape = self._free(entry)
        if tape is None:
            return None
        try:
            files = tape.files()
            if files[-1].number < entry.files - 1:
                what = f"{tape.name} has {files[-1].number + 1} files of the {entry.files} that the catalog knows"
                raise IntegrityError(what, hint=f"`vsnapfs tape verify {entry.label}`, and retire it")
            counting = [file.number for file in files if file.kind is not FileKind.PIECE]
            tape.cut(counting[-1])
        except BaseException:
            tape.close()
            raise
        if tape.room_bytes is None or tape.room_bytes >= self.settings.block_bytes:
            return tape
        tape.close()
        return None

    def _unread(self, entry: TapeEntry) -> PoolTape | None:
        """As ``_free``; None also: it is being read."""
        tape = self._free(entry)
        return None if tape is None else self._unless_read(tape)

    def _unless_read(self, tape: PoolTape) -> PoolTape | None:
        try:
            tape.require_unread()
        except BusyError:
            tape.close()
            return None
        return tape

    def _half_labelled(self, entry: TapeEntry) -> PoolTape | None:
        """The tape, if the catalog was told of a new label and the tape has not got it: nothing counts on it by then."""
        try:
            tape = self._open(entry.label, write=True)
        except BusyError:
            return None
        is_older = tape.label is not None and tape.label.generation < entry.generation
        if (tape.blank or is_older) and not tape.read_only:
            return self._unless_read(tape)
        tape.close()
        return None

    def _free(self, entry: TapeEntry) -> PoolTape | None:
        """None: it is in use, protected, or not the tape that the catalog means."""
        try:
            tape = self._open(entry.label, write=True)
        except BusyError:
            return None
        if tape.label is not None and tape.label.uuid == entry.uuid and not tape.read_only:
            return tape
        tape.close()
        return None

    def _labelled(self, tape: PoolTape, label: str, generation: int, begun: Begun) -> PoolTape:
        try:
            block_bytes = self.settings.block_bytes
            wanted = new_label(label, self.name, block_bytes, self._clock(), generation=generation)
            begun(wanted)
            tape.write_label(wanted)
        except BaseException:
            tape.close()
            raise
        return tape

    def _none_left(self, count: int) -> NoSpaceError:
        what = (
            f"none of the {count} tapes of {self.name} can be written to: they are full, protected, or hold what counts"
        )
        return NoSpaceError(what, hint="retire one, or let the pool have more (`tapes` in its settings)")

    def _seen(self, label: str) -> TapeSeen:
        with closing(self._open(label, write=False, look=True)) as tape:
            return TapeSeen(
                label=label,
                place=self._path(label),
                used_bytes=tape.used_bytes,
                capacity_bytes=tape.capacity_bytes,
                read_only=tape.protected,
                blank=tape.blank,
                uuid=None if tape.label is None else tape.label.uuid,
            )

    def _open(self, label: str, *, write: bool, look: bool = False) -> PoolTape:
        """Raises: as PoolTape."""
        with self._told(label):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(label, flags, dir_fd=self._fd)
        return PoolTape(PoolDirectory(fd, self._path(label)), self.settings.capacity_bytes, write=write, look=look)

    def _labels(self) -> list[str]:
        """Directories whose names can be labels."""
        return [name for name, is_label in self._names().items() if is_label]

    def _names(self) -> dict[str, bool]:
        """All that is there, in order, and whether each is a directory whose name can be a label."""
        with self._told(""):
            names = sorted(os.listdir(self._fd))
        found: dict[str, bool] = {}
        for name in names:
            with self._told(name), suppress(FileNotFoundError):  # it was taken away just now
                mode = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode
                found[name] = stat.S_ISDIR(mode) and _can_be_label(name)
        return found

    def _path(self, label: str) -> str:
        return os.path.join(self.settings.path, label)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"read {self._path(name)}") from error


def _can_be_label(name: str) -> bool:
    try:
        check_name(name, "tape")
    except UsageError:
        return False
    return True
