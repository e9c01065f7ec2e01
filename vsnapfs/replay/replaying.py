"""A replay: all is looked at before the first write; then the records are written in order; then the result is tried.

The records are read by this process, as any reader does it, and written to the branch in the server's mount. So nothing of it
happens in the server, and a kill leaves a branch whose report says that it is not finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from vsnapfs.attach.attaching import require_root
from vsnapfs.binding import Replay
from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import NoSpaceError, VsnapfsError, with_hint
from vsnapfs.core.replay import Conflict, ReplayReport, ReplayState, ReplayVolume
from vsnapfs.core.state import Progress
from vsnapfs.core.times import iso
from vsnapfs.daemon.client import Client
from vsnapfs.replay import branches, reach, trying
from vsnapfs.replay.plan import Plan, Torn, kept_runs
from vsnapfs.replay.wanted import Course, Wanted, course_of

Report = Callable[[Progress], None]
Say = Callable[[str], None]
NOTHING_LEFT_OUT = "nothing was left out: none of these writes is what the options name"


def preview(client: Client, wanted: Wanted) -> ReplayReport:
    """What ``replay`` would do; a server is not needed, and nothing is written. Raises: as ``replay``, before the first write."""
    with client.reading() as repository:
        course = course_of(repository, wanted)
        with Replay(repository.journal, course.since.seqno, course.until.seqno) as records:
            return _reported(wanted, course, _planned(course, records), "planned")


def replay(client: Client, wanted: Wanted, report: Report, say: Say) -> ReplayReport:
    """Write the records again, try the result, and keep the report with the branch. say: is told what goes on, line by line.

    Raises: before the first write UsageError, NotFoundError, PointGoneError (only bookmarks are left of a part), GapError, NameTakenError,
    BusyError, PermissionDeniedError. Then NoSpaceError, CorruptExtentError, StoreError: the branch has a part, and its report says so.
    """
    if wanted.check or (wanted.test and wanted.mount):
        require_root()
    mountpoint = branches.mountpoint_of(client)
    with client.reading() as repository:
        course = course_of(repository, wanted)
        with Replay(repository.journal, course.since.seqno, course.until.seqno) as records:
            found = branches.find(client, wanted.into, course.since)
            plan = _planned(course, records)
            branch = found or branches.make(client, wanted.into, course.since, wanted.quota_bytes)
            told = _reported(wanted, course, plan, "unfinished")
            branches.keep(client, told)
            with _failing(client, told):
                _apply(course, plan, records, branch, mountpoint, report)
    done = msgspec.structs.replace(told, state="done")
    branches.keep(client, done)
    tried = trying.tried(done, wanted, course, branch, mountpoint, say)
    if tried is not done:
        branches.keep(client, tried)
    return tried


def _planned(course: Course, records: Replay) -> Plan:
    """Raises: UsageError: some of it cannot be written to a branch."""
    reach.refuse_growth(course.reach, course.choice)
    plan = Plan(course.choice)
    for pieces in records.pieces():
        plan.take(pieces)
    plan.end()
    reach.refuse_strangers(course.reach, plan)
    return plan


def _apply(course: Course, plan: Plan, records: Replay, branch: Branch, mountpoint: Path, report: Report) -> None:
    wanted = {number for number, volume in plan.volumes.items() if volume.applied_bytes}
    done, total = 0, plan.applied_bytes
    with branches.opened(mountpoint, branch, wanted) as files:
        for pieces in records.pieces():
            for run in kept_runs(course.choice, pieces):
                records.apply(run, files[run[0].volume])
                done += sum(piece.length_bytes for piece in run)
                report(Progress(what=f"replay onto {branch.name}", done=done, total=total))


@contextmanager
def _failing(client: Client, told: ReplayReport) -> Iterator[None]:
    """Whatever goes wrong in the block is kept with the branch, as far as that can be done; and it says what to do with that."""
    try:
        yield
    except VsnapfsError as error:
        with suppress(VsnapfsError):  # then it says unfinished, which it is
            branches.keep(client, msgspec.structs.replace(told, state="failed", error=str(error)))
        larger = " with a larger --quota" if isinstance(error, NoSpaceError) else ""
        again = f"branch {told.branch} has a part: vsnapfs branch remove {told.branch}, and begin anew{larger}"
        raise with_hint(error, "; ".join(filter(None, (error.hint, again)))) from error


def _reported(wanted: Wanted, course: Course, plan: Plan, state: ReplayState) -> ReplayReport:
    names = course.reach.names
    left_out = wanted.left_out
    told = reach.notes(course.reach, course.choice)
    told += [_torn(each, names) for each in plan.torn]
    if left_out and not plan.skipped_bytes:
        told.append(NOTHING_LEFT_OUT)
    return ReplayReport(
        state=state,
        error="",
        began=iso(time.time_ns()),
        branch=wanted.into,
        since=course.since,
        until=course.until,
        left_out=left_out,
        applied_records=plan.applied_records,
        applied_bytes=plan.applied_bytes,
        skipped_records=plan.skipped_records,
        skipped_bytes=plan.skipped_bytes,
        split_records=plan.split_records,
        volumes=_volumes(plan, names),
        over_conflicts=plan.counts["over"],
        beside_conflicts=plan.counts["beside"],
        conflicts=list(_conflicts(plan, names)),
        notes=told,
        checks=[],
        test=None,
    )


def _torn(torn: Torn, names: dict[int, str]) -> str:
    """What the user may have meant to leave out too."""
    return (
        f"@{torn.kept_seqno} is made again, and lies side by side in {names[torn.volume]} with @{torn.skipped_seqno}, which is left out: "
        "made at once, perhaps by one write of an application"
    )


def _volumes(plan: Plan, names: dict[int, str]) -> list[ReplayVolume]:
    return [
        ReplayVolume(
            name=names[number],
            applied_bytes=volume.applied_bytes,
            skipped_bytes=volume.skipped_bytes,
            differs_bytes=volume.skipped.bytes,
        )
        for number, volume in sorted(plan.volumes.items(), key=lambda item: names[item[0]])
    ]


def _conflicts(plan: Plan, names: dict[int, str]) -> Iterator[Conflict]:
    for each in plan.conflicts:
        yield Conflict(
            kept_seqno=each.kept_seqno,
            skipped_seqno=each.skipped_seqno,
            volume=names[each.volume],
            offset_bytes=each.start_bytes,
            length_bytes=each.end_bytes - each.start_bytes,
            kind=each.kind,
        )
