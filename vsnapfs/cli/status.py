"""``status``: how the repository is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import DegradedError
from vsnapfs.core.units import format_period, format_size, format_span

if TYPE_CHECKING:
    from vsnapfs.core.findings import Scrub
    from vsnapfs.core.keeping import Compaction
    from vsnapfs.core.model import Point
    from vsnapfs.core.state import (
        ArchivingState,
        Gap,
        MountData,
        OpenFile,
        RequestCount,
        ScheduleState,
        Status,
        VerificationState,
    )

BYTES = ("read", "write", "fsync", "fallocate")
"""Operations that people look at; --json has all."""

OPEN_FILES_MAX = 8


@click.command("status")
@global_options()
@pass_session
def command(session: Session) -> int:
    """Show window, space and protection. Exit status 8 when anything is less than fully protected."""
    from vsnapfs.daemon.requests import GetStatus

    status = session.ask(GetStatus())
    session.show(status, _lines(status))
    return 0 if status.protected else DegradedError.exit_status


def _lines(status: Status) -> Iterator[str]:
    facts = {
        "repository": status.repository,
        "server": _server(status),
        "protected": "yes" if status.protected else "NO",
        "window": f"{_moment(status.window_first)} to {_moment(status.window_last)}",
        "records": f"{status.last_seqno}, committed {status.committed_seqno}, on primaries {status.applied_seqno}",
        "bookmarks": str(status.bookmarks),
        "journal": f"{format_size(status.journal_bytes)} in {status.segments} segments",
        "index": format_size(status.index_bytes),
        "base": format_size(status.base_bytes),
        "free": format_size(status.free_bytes),
    }
    if status.branches:
        facts["branches"] = f"{status.branches}, {format_size(status.branch_bytes)}"
    if status.any_instant_from != status.window_first:
        facts["instants"] = f"any from {_moment(status.any_instant_from)}, bookmarks before"
    yield from (f"{name + ':':12}{printable(value)}" for name, value in facts.items())
    if status.data is not None:
        yield f"{'data:':12}{_data(status.data)}"
    yield from _by_itself(status)
    for volume in status.volumes:
        place = printable(volume.primary_path or "no primary")
        yield f"{'volume:':12}{volume.name}, {format_size(volume.size_bytes)}, {place}"
    for name in BYTES:
        if name in status.requests:
            yield f"{'served:':12}{name}, {_figures(status.requests[name])}"
    for file in status.open_files[:OPEN_FILES_MAX]:
        yield f"{'open:':12}{_place(file)}, {_figures(file)}"
    if len(status.open_files) > OPEN_FILES_MAX:
        yield f"{'open:':12}and {len(status.open_files) - OPEN_FILES_MAX} more"
    yield from _conditions(status)


def _by_itself(status: Status) -> Iterator[str]:
    """What the server does without being asked."""
    if status.scrub.every_s is not None or status.scrub.last_ended is not None:
        yield f"{'scrub:':12}{_scrub(status.scrub)}"
    if status.compaction.running or status.compaction.last_ended is not None:
        yield f"{'compaction:':12}{_compaction(status.compaction)}"
    for schedule in status.schedules:
        yield f"{'schedule:':12}{_schedule(schedule)}"
    for verification in status.verifications:
        yield f"{'verify:':12}{_verification(verification)}"
    for policy in status.archiving:
        yield f"{'archive:':12}{_archiving(policy)}"


def _conditions(status: Status) -> Iterator[str]:
    if status.quiesce is not None:
        under_way = status.quiesce
        what = f"{under_way.phase} for bookmark {under_way.bookmark}, profile {under_way.profile}"
        yield f"{'quiesce:':12}{what}, since {moment(under_way.since)}"
    for gap in status.gaps:
        yield f"{'gap:':12}{_gap(gap)}"
    for warning in status.warnings:
        yield f"{'warning:':12}{printable(warning)}"
    for problem in status.problems:
        yield f"{'problem:':12}{printable(problem)}"


def _gap(gap: Gap) -> str:
    until = f"to {moment(gap.until)}" if gap.until is not None else "on"
    return f"from {moment(gap.since)} (after @{gap.since_seqno}) {until}, {printable(gap.reason)}"


def _figures(count: RequestCount | OpenFile) -> str:
    said = [f"{count.requests} requests", format_size(count.bytes)]
    said += [f"{count.errors} errors"] if count.errors else []
    limit = count.latency.p99_ns
    return ", ".join([*said, f"99 % under {format_span(limit)}"] if limit else said)


def _place(file: OpenFile) -> str:
    where = "live" if file.point is None else f"@{file.point.seqno}"
    if file.branch is not None:
        where = f"branches/{file.branch}"
    return f"{where}/{file.volume}"


def _schedule(schedule: ScheduleState) -> str:
    made = f"last {schedule.last_bookmark}" if schedule.last_bookmark else "none yet"
    due = "running" if schedule.running else f"next {moment(schedule.next_due)}" if schedule.next_due else "not run"
    said = [f"{schedule.name}, {schedule.when}", made, due]
    said += [f"missed {schedule.missed}"] if schedule.missed else []
    said += [f"failed: {printable(schedule.last_error)}"] if schedule.last_error else []
    return "; ".join(said)


def _verification(state: VerificationState) -> str:
    last = "none yet"
    if state.last_bookmark is not None:
        last = f"last {state.last_bookmark} {'good' if state.last_good else 'NOT good'}"
    due = "running" if state.running else f"next {moment(state.next_due)}" if state.next_due else ""
    said = [f"{state.name}, {state.when}", last, *([due] if due else [])]
    said += [f"missed {state.missed}"] if state.missed else []
    said += [f"no verdict: {printable(state.last_error)}"] if state.last_error else []
    return "; ".join(said)


def _archiving(state: ArchivingState) -> str:
    last = "none yet" if state.last_bookmark is None else f"last {state.last_bookmark}"
    said = [f"{state.name}, {state.when}", printable(last)]
    said += [f"under way {state.under_way}"] if state.under_way else []
    said += [f"{len(state.waiting)} waiting from {state.waiting[0]} on"] if state.waiting else []
    said += [f"failed: {printable(state.last_error)}"] if state.last_error else []
    said += [f"again {moment(state.again)}"] if state.again else []
    return "; ".join(said)


def _data(data: MountData) -> str:
    counts = f"{data.open_verify} open files verified, {data.open_kernel} read by the kernel"
    why = "" if data.kernel or data.mode == "verify" else f"; not by the kernel: {printable(data.why_not or '')}"
    return f"{data.mode}, {counts}{why}"


def _scrub(scrub: Scrub) -> str:
    said = "off" if scrub.every_s is None else f"everything in {format_period(scrub.every_s)}"
    if scrub.began is not None:
        done, total = format_size(scrub.done_bytes), format_size(scrub.total_bytes)
        said += f"; since {moment(scrub.began)} {done} of {total}"
    if scrub.last_began is None or scrub.last_ended is None:
        return said + (f"; {len(scrub.damages)} damaged so far" if scrub.damages else "; no whole pass yet")
    said += f"; last pass {moment(scrub.last_began)} to {moment(scrub.last_ended)}"
    return said + (f"; {len(scrub.damages)} damaged" if scrub.damages else "; nothing damaged")


def _compaction(compaction: Compaction) -> str:
    if compaction.running:
        done, total = format_size(compaction.done_bytes), format_size(compaction.total_bytes)
        return f"{compaction.what}, {done} of {total}"
    said = f"last {moment(compaction.last_ended or '')}, {compaction.removed} bookmarks gone"
    said += f", {format_size(max(0, compaction.freed_bytes))} given back"
    if compaction.garbage_bytes is not None:
        said += f", {format_size(compaction.garbage_bytes)} of no use left"
    if compaction.waiting_files:
        said += f", {compaction.waiting_files} files wait for readers"
    return "; ".join([said, *(printable(problem) for problem in compaction.problems)])


def _server(status: Status) -> str:
    if not status.served:
        return "none"
    transport = f", by {status.transport}" if status.transport else ""
    keeper = "" if status.worker_pid in (None, status.pid) else f" with worker {status.worker_pid}"
    return f"process {status.pid}{keeper} at {status.mountpoint}{transport}"


def _moment(point: Point | None) -> str:
    return "nothing yet" if point is None else f"@{point.seqno} {moment(point.time)}"
