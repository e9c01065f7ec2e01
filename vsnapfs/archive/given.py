"""The tapes that something is read from: directories of pools, drives with what changes their tapes, and plain files.

A tape whose label cannot be read is read all the same: what stands behind it says whose it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError, VsnapfsError, from_os_error
from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.medium import Medium
from vsnapfs.media.plain import index_of, open_plain
from vsnapfs.media.pool_directory import is_tape_file
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.read_only import ReadOnlyTape
from vsnapfs.media.tape import FileKind, Tape, TapeFile, TapeReader


class Slot(NamedTuple):
    """Where a tape is. label: that of its place; None: it has to be loaded to know."""

    label: str | None
    place: str
    load: Callable[[], Tape]


class Unread(NamedTuple):
    """What does not answer. place: a tape's label or place, or a medium."""

    place: str
    error: VsnapfsError

    def line(self) -> str:
        """For people."""
        return f"{self.place}: {self.error.message}"


class GivenTapes:
    """One tape is loaded at a time: ``close`` ends that. Concurrency: one thread."""

    def __init__(self, slots: Sequence[Slot], media: Sequence[Medium] = ()) -> None:
        """media: are asked for tapes that stand in no slot, such as a drive of a person."""
        self._slots = list(slots)
        self._media = list(media)
        self._place_of: dict[str, Slot] = {}
        """By uuid, of those that were looked at."""
        self._again: list[Slot] = []
        """Copies of those."""
        self._loaded: tuple[str, Tape] | None = None

    @property
    def slots(self) -> Sequence[Slot]:
        """All that are there."""
        return self._slots

    def remember(self, uuid: str, slot: Slot) -> None:
        """What a tape was found to be. Of two copies of one tape the first counts."""
        if self._place_of.setdefault(uuid, slot) != slot:
            self._again.append(slot)

    def uuid_at(self, place: str) -> str:
        """Of the tape at a place that was looked at, as far as that says; else the place."""
        return next((uuid for uuid, slot in self._place_of.items() if slot.place == place), place)

    def copies(self) -> Iterator[GivenTapes]:
        """The same tapes, with another one of those first that there are several copies of; each is closed when the next is asked for.
        Tapes that were not looked at are copies if they have one label."""
        labels = set[str | None]()
        again = list(self._again)
        for slot in self._slots if not self._place_of else ():
            if slot.label in labels:
                again.append(slot)
            labels.add(slot.label)
        for slot in again:
            self.close()
            other = GivenTapes([slot, *(one for one in self._slots if one != slot)], self._media)
            try:
                yield other
            finally:
                other.close()

    def tape(self, wanted: TapeEntry) -> Tape:
        """A tape, loaded; it stays so until another one is asked for.

        Raises: NotFoundError: it is not there, or another one has its label. BusyError, StoreError.
        """
        if self._loaded is not None and self._loaded[0] == wanted.uuid:
            return self._loaded[1]
        self.close()
        tape = self._load(wanted)
        self._loaded = wanted.uuid, tape
        return tape

    def require(self, tapes: Sequence[TapeEntry]) -> None:
        """Raises: NotFoundError: some of these are not there, and nobody can be asked for them; it names them all."""
        labels = {slot.label for slot in self._slots}
        lacking = [tape.label for tape in tapes if tape.uuid not in self._place_of and tape.label not in labels]
        if lacking and not self._media:
            what = f"tape {lacking[0]} is" if len(lacking) == 1 else f"tapes {', '.join(lacking)} are"
            raise NotFoundError(f"{what} not there", hint="give --from where that is")

    def close(self) -> None:
        """Twice is allowed; the media stay open."""
        if self._loaded is not None:
            self._loaded[1].close()
            self._loaded = None

    def _load(self, wanted: TapeEntry) -> Tape:
        slot = self._place_of.get(wanted.uuid)
        if slot is not None:
            return slot.load()
        others = [slot for slot in self._slots if slot.label == wanted.label]
        for slot in others:
            tape = slot.load()
            if tape.label is None or tape.label.uuid == wanted.uuid:
                return tape
            tape.close()
        for medium in self._media:
            tape = _asked_for(medium, wanted.label)
            if tape.label is None or tape.label.uuid == wanted.uuid:
                return tape
            tape.close()
            others.append(Slot(wanted.label, medium.name, lambda tape=tape: tape))  # type: ignore[misc]
        if others:
            raise NotFoundError(
                f"tape {wanted.label} that was given is another one than {wanted.uuid[:8]}, which is needed",
                hint="it was written over, or two tapes have one label",
            )
        raise NotFoundError(f"tape {wanted.label} is not there", hint="give --from where it is")

    @contextmanager
    def opened(self, slot: Slot) -> Iterator[Tape]:
        """The tape of a slot, until the end of this. Raises: as loading does."""
        self.close()
        tape = slot.load()
        try:
            yield tape
        finally:
            tape.close()


def slots_of_path(path: Path, *, may_be_empty: bool = False) -> list[Slot]:
    """A directory of tapes, a tape of such, or a file that an archive was written to.

    Raises: NotFoundError; UsageError: there is nothing of ours; StoreError.
    """
    try:
        if not path.is_dir():
            os.stat(path)
            return [Slot(None, str(path), lambda: PlainTape(path))]
        names = sorted(os.listdir(path))
        if any(is_tape_file(name) for name in names):
            return [_directory(path)]
        found = [_directory(path / name) for name in names if _is_tape(path / name)]
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    if not found and not may_be_empty:
        raise UsageError(f"{path} holds no tapes", hint="give a pool, a directory of one tape, or a file")
    return found


def _asked_for(medium: Medium, label: str) -> Tape:
    """Raises: NotFoundError: another one was brought, or none."""
    try:
        return medium.load(label)
    except IntegrityError as error:
        raise NotFoundError(error.message, hint=error.hint) from error


def slots_of_medium(medium: Medium, wanted: Sequence[str] = ()) -> list[Slot]:
    """Those of ``wanted``, in that order, which it is asked for; none: those whose labels it can tell."""
    labels = [(label, medium.name) for label in wanted] or [
        (seen.label, seen.place) for seen in medium.tapes() if seen.label is not None and not seen.blank
    ]
    return [Slot(label, place, lambda label=label: _asked_for(medium, label)) for label, place in labels]  # type: ignore[misc]


def _directory(path: Path) -> Slot:
    return Slot(path.name, str(path), lambda: PoolTape.at(path))


def _is_tape(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink() and any(is_tape_file(name) for name in os.listdir(path))
    except FileNotFoundError:
        return False  # it was taken away just now


def _size_of(path: Path) -> int | None:
    """None: it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"look at {path}") from error


class PlainTape(ReadOnlyTape):
    """A file that an archive was written to, read as a tape whose first piece it is; its index is ``FILE.index`` beside it. Nothing is
    ever written to it. See media.tape.Tape."""

    label: TapeLabel | None = None
    used_bytes: int | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), "is a file")
        self._path = path

    def files(self) -> list[TapeFile]:
        """Raises: NotFoundError, StoreError."""
        piece, index = _size_of(self._path), _size_of(index_of(self._path))
        if piece is None:
            raise NotFoundError(f"{self.name} is not there any more")
        found = [TapeFile(1, FileKind.PIECE, piece, "tar")]
        return found if index is None else [*found, TapeFile(2, FileKind.INDEX, index, "index")]

    def open(self, number: int) -> TapeReader:
        if number not in (1, 2):
            raise NotFoundError(f"{self.name} has no file {number}")
        return open_plain(self._path if number == 1 else index_of(self._path))
