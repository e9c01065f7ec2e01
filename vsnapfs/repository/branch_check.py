"""Are all branches as they were written? By the owner, who writes to them, or without one by anybody.

Layers that branches share are looked at with each of them: a damage is told once, with all whom it costs something.
"""

from __future__ import annotations

import msgspec

from vsnapfs.binding.branch import Branch as OpenBranch
from vsnapfs.core.branch import SOURCE_PREFIX, BranchVolume
from vsnapfs.core.errors import BusyError, VsnapfsError
from vsnapfs.core.findings import BranchFindings, Damage
from vsnapfs.core.state import Progress
from vsnapfs.repository.branch_files import BranchFile
from vsnapfs.repository.branches import known, opened
from vsnapfs.repository.layout import branch_file
from vsnapfs.repository.parts import Parts, Report


def check(parts: Parts, read_data: bool, report: Report) -> BranchFindings:
    """Files and layers; read_data: every block of them too. Raises: BusyError: the repository is being closed."""
    there = known(parts)
    sound = [file for name, file in sorted(there.files.items()) if name not in there.broken]
    run = _Checking(parts, report, len(sound))
    for name, why in sorted(there.broken.items()):
        run.note(branch_file(name), 0, why, _cost(name))
    for file in sound:
        run.branch(file, read_data)
    return BranchFindings(branches=len({*there.files, *there.broken}), damages=list(run.damages.values()))


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
            costs = [_cost(file.name, volume) for volume in file.volumes]
            self.note(branch_file(file.name), 0, str(error), *costs)

    def _read(self, file: BranchFile, branch: OpenBranch, volume: BranchVolume) -> None:
        for fault in branch.check(volume.id, self._tell):
            place, _, what = fault.text.partition(": ")  # the core names the file first
            self.note(place, fault.offset_bytes, what, _cost(file.name, volume))

    def _tell(self) -> None:
        """Where it stands; also where it ends when the repository is being closed."""
        self._parts.tell(self._report, self._progress)

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
