"""The branches of an open repository: what their files say, and which of them are open in the C core.

A branch is opened when it is needed and stays open while a file of it is, and then for as long as there are not too many.

Locks: ``changing`` is held by whoever adds, changes or removes a branch, one at a time, for as long as that takes; it comes
before ``Parts.change``. Each branch has one of its own, held while it is opened or closed; it comes after ``changing``. Who works with an
open branch is counted, and holds no lock. ``files`` and ``broken`` are replaced as a whole, so that anybody may look at them without one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from vsnapfs.binding import VolumeFile
from vsnapfs.binding.branch import Branch
from vsnapfs.core.errors import BusyError, NotFoundError, VsnapfsError
from vsnapfs.repository.branch_files import BranchFile, Found

IDLE_MAX = 32
"""So many branches without an open file may stay open."""

Open = Callable[[], Branch]


class _Slot:
    """A branch that is open, or may be. All by its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)
        """Is told when ``users`` is 0."""
        self.branch: Branch | None = None
        self.users = 0
        """Threads that work with it."""
        self.gone = False
        self.still_for: str | None = None
        """For what nobody may open a file of it."""

    def close(self) -> None:
        branch, self.branch = self.branch, None
        if branch is not None:
            branch.close()

    @property
    def in_use(self) -> int:
        """Open files of it, who works with it, and who needs it as it is."""
        return self.users + self.files + (self.still_for is not None)

    @property
    def files(self) -> int:
        return 0 if self.branch is None else self.branch.facts().files


class BranchTable:
    """Of one repository; ``close`` before its journal."""

    def __init__(self) -> None:
        self.changing = threading.RLock()
        self.files: Mapping[str, BranchFile] = {}
        self.broken: Mapping[str, str] = {}
        """Why one cannot be used, by name; not all of these have a file that can be understood."""
        self.generation = 0
        """Another one whenever a branch was added or removed: who reads it first and then the names has them, or reads them again."""
        self._spoiled: dict[str, str] = {}
        self._mutex = threading.Lock()
        self._slots: dict[int, _Slot] = {}
        """By id, those used last behind."""

    def load(self, found: Found) -> None:
        """What the files say."""
        spoiled = {name: why for name, why in self._spoiled.items() if name in found.files}
        self.files, self.broken = found.files, {**found.broken, **spoiled}
        self.generation += 1

    def put(self, file: BranchFile) -> None:
        """With ``changing``: it is written."""
        is_new = file.name not in self.files
        self.files = {**self.files, file.name: file}
        if is_new:
            self.generation += 1

    def drop(self, name: str) -> None:
        """With ``changing``: it is removed."""
        self.files = {other: file for other, file in self.files.items() if other != name}
        self.broken = {other: why for other, why in self.broken.items() if other != name}
        self.generation += 1

    def spoil(self, name: str, why: str) -> None:
        """With ``changing``: nobody shall open it any more, or make another of it."""
        self._spoiled[name] = why
        self.broken = {**self.broken, name: why}

    def seqnos(self) -> list[int]:
        """The points that branches stand on."""
        return [file.seqno for file in self.files.values()]

    def standing_at(self, seqno: int) -> list[str]:
        """The branches on a point, by name."""
        return sorted(file.name for file in self.files.values() if file.seqno == seqno)

    @contextmanager
    def opened(self, branch: int, open_it: Open) -> Iterator[Branch]:
        """The branch with that id; it is not closed meanwhile. open_it: makes it, if it is not open, from a file that is there
        still.

        Raises: NotFoundError: it was removed. What open_it raises.
        """
        slot = self._slot(branch)
        with slot.lock:
            if slot.gone:
                raise NotFoundError("the branch was removed")
            if slot.branch is None:
                slot.branch = open_it()
            slot.users += 1
            found = slot.branch
        try:
            yield found
        finally:
            with slot.lock:
                slot.users -= 1
                if slot.users == 0:
                    slot.idle.notify_all()
        self._close_idle()

    def file(self, branch: int, open_it: Open, volume: int) -> VolumeFile:
        """An open file on a volume of it. Raises: as ``opened``. BusyError: it is kept as it is."""
        with self.opened(branch, open_it) as found:
            slot = self._slot(branch)
            with slot.lock:
                if slot.still_for is not None:
                    raise BusyError(f"{slot.still_for} is under way", hint="wait until it has ended")
                return found.file(volume)

    @contextmanager
    def still(self, branch: BranchFile, what: str) -> Iterator[None]:
        """Nobody has a file of it open, or gets one, as long as the block lasts; what: that is for. Raises: BusyError: somebody has."""
        slot = self._slot(branch.id)
        with slot.lock:
            if slot.still_for is not None:
                raise BusyError(f"{slot.still_for} is under way", hint="wait until it has ended")
            if slot.files:
                raise BusyError(f"branch {branch.name} is open", hint="close it first, so that all of it is there")
            slot.still_for = what
        try:
            yield
        finally:
            with slot.lock:
                slot.still_for = None

    def in_use(self, branch: int) -> int:
        """How many files of it are open, and who works with it or needs it as it is."""
        slot = self._slot(branch)
        with slot.lock:
            return slot.in_use

    @contextmanager
    def going(self, branch: int, wait_s: float) -> Iterator[int]:
        """How many use it; nobody else begins to meanwhile. If the block ends well it is closed for good, and
        the block has dropped it: who opens it from then on finds no file of it. wait_s: so long threads that work with it may need."""
        slot = self._slot(branch)
        with slot.lock:
            slot.idle.wait_for(lambda: slot.users == 0, wait_s)
            yield slot.in_use
            slot.gone = True
            with suppress(VsnapfsError):  # what it holds is of no use any more
                slot.close()
            with self._mutex:
                self._slots.pop(branch, None)

    def close(self) -> None:
        """All of them; no file of them is open. Who works with one is waited for. The first error is raised when all are closed."""
        with self._mutex:
            slots, self._slots = list(self._slots.values()), {}
        failed: VsnapfsError | None = None
        for slot in slots:
            with slot.lock:
                slot.gone = True
                while slot.users:
                    slot.idle.wait()
                try:
                    slot.close()
                except VsnapfsError as error:
                    failed = failed or error
        if failed is not None:
            raise failed

    def _slot(self, branch: int) -> _Slot:
        with self._mutex:
            slot = self._slots.pop(branch, None) or _Slot()
            self._slots[branch] = slot
            return slot

    def _close_idle(self) -> None:
        """Of those that nobody uses the ones that were used longest ago."""
        with self._mutex:
            candidates = list(self._slots.values())[:-IDLE_MAX]
        for slot in candidates:
            if slot.lock.acquire(blocking=False):
                try:
                    if slot.in_use == 0:
                        with suppress(VsnapfsError):  # who wants to know whether it is durable has synced it
                            slot.close()
                finally:
                    slot.lock.release()
