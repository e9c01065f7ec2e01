"""Are all branches as they were written? By the owner, who writes to them, or without one by anybody.

Layers that branches share are looked at with each of them: a damage is told once, with all whom it costs something.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vsnapfs.binding.branch import Branch as OpenBranch
from vsnapfs.binding.branch import CheckPlace
from vsnapfs.binding.faults import Fault
from vsnapfs.core.branch import SOURCE_PREFIX, BranchVolume
from vsnapfs.core.errors import BusyError, VsnapfsError
from vsnapfs.core.findings import BranchFindings, Damage
from vsnapfs.core.state import Progress
from vsnapfs.repository.branch_files import BranchFile
from vsnapfs.repository.branches import known, opened
from vsnapfs.repository.layout import branch_file, branch_layer
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.units import Kind, Unit


def check(parts: Parts, read_data: bool, report: Report) -> BranchFindings:
    """Files and layers; read_data: every block of them too. Raises: BusyError: the repository is being closed."""
    sound, broken = _sound(parts), unknown(parts)
    run = _Checking(parts, report, len(sound))
    for file in sorted(sound, key=lambda file: file.name):
        run.branch(file, read_data)
    return BranchFindings(branches=len(sound) + len(broken), damages=[*broken, *run.damages.values()])


def unknown(parts: Parts) -> list[Damage]:
    """Files that cannot be understood, or are copies."""
    run = _Checking(parts, None, 0)
    for name, why in sorted(known(parts).broken.items()):
        run.note(branch_file(name), 0, why, _cost(name))
    return list(run.damages.values())


def units(parts: Parts) -> list[Unit]:
    """Of each branch what the scrub reads with it."""
    held = parts.layout.allocated_bytes
    return [
        Unit(Kind.BRANCH, file.id, held_bytes=sum(held(branch_layer(layer)) for layer in file.layers))
        for file in _sound(parts)
    ]


def scrub(parts: Parts, branch_id: int, rest: Callable[[], None]) -> list[Damage]:
    """Owner: compare every block of one branch. rest: is called after each piece, when nothing of the branch is held, and may raise.

    Raises: BusyError: the repository is being closed.
    """
    run = _Checking(parts, None, 1)
    for file in _sound(parts):
        for volume in file.volumes if file.id == branch_id else ():
            place: CheckPlace | None = CheckPlace(0, 0)
            while place is not None:
                place = run.piece(file, volume, place)
                rest()
    is_there = any(file.id == branch_id for file in _sound(parts))
    return list(run.damages.values()) if is_there else []


def _sound(parts: Parts) -> list[BranchFile]:
    """By id: the oldest first."""
    there = known(parts)
    return sorted((file for name, file in there.files.items() if name not in there.broken), key=lambda file: file.id)


class _Checking:
    """One run. damages: by place."""

    def __init__(self, parts: Parts, report: Report, total: int) -> None:
        self.damages: dict[tuple[str, int], Damage] = {}
        self._parts = parts
        self._report = report
        self._progress = Progress(what="branches", done=0, total=total, unit="files")

    def branch(self, file: BranchFile, read_data: bool) -> None:
        self._tell()
        self._progress = msgspec.structs.replace(self._progress, done=self._progress.done + 1)
        try:
            with opened(self._parts, file) as branch:
                for volume in file.volumes if read_data else ():
                    self._read(file, branch, volume)
        except BusyError:
            raise  # the repository is being closed
        except VsnapfsError as error:
            if file.name not in known(self._parts).files:
                return  # removed meanwhile
            self._unopened(file, error)

    def _read(self, file: BranchFile, branch: OpenBranch, volume: BranchVolume) -> None:
        for fault in branch.check(volume.id, self._tell):
            self._fault(fault, _cost(file.name, volume))

    def piece(self, file: BranchFile, volume: BranchVolume, place: CheckPlace) -> CheckPlace | None:
        """Read some of a volume. Returns where to go on; None: nowhere."""
        self._tell()
        try:
            with opened(self._parts, file) as branch:
                fault, following = branch.check_next(volume.id, place)
        except VsnapfsError as error:
            self._unopened(file, error)
            return None
        if fault is not None:
            self._fault(fault, _cost(file.name, volume))
        return following

    def _tell(self) -> None:
        """Where it stands; also where it ends when the repository is being closed."""
        self._parts.tell(self._report, self._progress)

    def _unopened(self, file: BranchFile, why: VsnapfsError) -> None:
        costs = [_cost(file.name, volume) for volume in file.volumes]
        self.note(branch_file(file.name), 0, str(why), *costs)

    def _fault(self, fault: Fault, cost: str) -> None:
        place, _, what = fault.text.partition(": ")  # the core names the file first
        self.note(place, fault.offset_bytes, what, cost)

    def note(self, file: str, offset_bytes: int, what: str, *costs: str) -> None:
        before = self.damages.get((file, offset_bytes))
        if before is not None:
            self.damages[file, offset_bytes] = msgspec.structs.replace(before, costs=[*before.costs, *costs])
            return
        self.damages[file, offset_bytes] = Damage(
            file=file, offset_bytes=offset_bytes, what=what, derived=False, costs=list(costs)
        )


def _cost(branch: str, volume: BranchVolume | None = None) -> str:
    return f"{SOURCE_PREFIX}{branch}" if volume is None else f"{SOURCE_PREFIX}{branch}/{volume.name}"
