"""How a repository is: its figures, and everything that makes it less than fully protected."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vsnapfs.binding import JournalFacts
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.findings import Damage
from vsnapfs.core.state import Status
from vsnapfs.core.times import NS_PER_S, iso
from vsnapfs.core.units import format_period, format_size
from vsnapfs.repository import archives, base, branches, gaps, schedules, scrub, verdicts, volumes
from vsnapfs.repository.layout import BASE, CATALOG, MAPS
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.promise import PROBLEM_PERCENT, WARNING_PERCENT, Held, percent_of_promise
from vsnapfs.repository.resolve import any_instant_from, window

FREE_PERCENT_MIN = 5
JUMP_S_MIN = 60.0
"""So much off a clock may be before it is told."""
COSTS_MAX = 4
DAMAGES_MAX = 10


def status(parts: Parts) -> Status:
    """The figures of now. Who serves and mounts is not known here: ``served`` is False, the requests are empty."""
    facts = parts.journal.facts()
    disk = os.fstatvfs(parts.layout.fd)
    reach = window(parts)
    scrubbed = scrub.told(parts)
    any_instant = None if reach is None else any_instant_from(parts)
    archiving = archives.states(parts)
    problems = [*_problems(parts, facts, disk), *archives.problems(archiving), *_damages(scrubbed.damages)]
    percent = window_percent(parts)
    if percent is not None and percent < PROBLEM_PERCENT:
        problems.append(_short(parts, percent))
    with parts.names:
        bookmarks = len(parts.index.bookmarks())
    return Status(
        repository=str(parts.layout.path),
        uuid=str(parts.uuid),
        served=False,
        mountpoint=None,
        pid=None,
        worker_pid=None,
        keeper=None,
        transport=None,
        protected=not problems,
        problems=problems,
        warnings=list(_warnings(parts, percent)),
        gaps=gaps.listed(parts, facts),
        window_first=None if reach is None else reach[0],
        window_last=None if reach is None else reach[1],
        last_seqno=facts.last_seqno,
        committed_seqno=facts.committed_seqno,
        applied_seqno=facts.applied_seqno,
        segments=facts.segments,
        journal_bytes=facts.journal_bytes,
        index_bytes=parts.layout.allocated_bytes(MAPS) + parts.layout.allocated_bytes("", CATALOG),
        base_bytes=parts.layout.allocated_bytes(BASE),
        free_bytes=disk.f_bavail * disk.f_frsize,
        bookmarks=bookmarks,
        volumes=volumes.listed(parts, None, False),
        commits=facts.commits,
        commit_waits=facts.commit_waits,
        memory=None,
        requests={},
        open_files=[],
        data=None,
        any_instant_from=any_instant,
        compaction=parts.compaction,
        scrub=scrubbed,
        schedules=schedules.states(parts),
        verifications=verdicts.states(parts),
        archiving=archiving,
        quiesce=parts.quiesce,
        branches=len(branches.known(parts).files),
        branch_bytes=branches.allocated_bytes(parts),
    )


def _problems(parts: Parts, facts: JournalFacts, disk: os.statvfs_result) -> Iterator[str]:
    if facts.gap:
        gap = gaps.listed(parts, facts)[-1]
        left = f"up to {format_size(facts.changed_bytes)} of the volumes differ from the journal"
        yield f"writes are not protected since {gap.since} ({gap.reason}); {left}; `vsnapfs volume resync` closes the gap"
    elif facts.failed:
        why = os.strerror(-facts.failed)
        yield f"the journal failed ({why}): writes are refused until the repository is opened again"
    if facts.failed_volume:
        with parts.names:
            entry = parts.index.volume_by_id(facts.failed_volume)
        name = entry.name if entry else facts.failed_volume
        yield f"the primary of volume {name} failed: its writes are refused until the repository is opened again"
    with parts.names:
        catalog_problem = parts.catalog.problem
    yield from list(parts.problems.values())
    if catalog_problem is not None:
        yield f"the catalog is not kept: {catalog_problem}"
    yield from parts.reservations.strange
    yield from verdicts.problems(parts)
    for entry in parts.entries():
        try:
            base.require(parts, entry)
        except IntegrityError as error:
            yield str(error)
    if disk.f_bavail * 100 < disk.f_blocks * FREE_PERCENT_MIN:
        free = format_size(disk.f_bavail * disk.f_frsize)
        yield f"{free} are free on the repository's disk, less than {FREE_PERCENT_MIN} %"


def _warnings(parts: Parts, percent: int | None) -> Iterator[str]:
    if percent is not None and PROBLEM_PERCENT <= percent < WARNING_PERCENT:
        yield _short(parts, percent)
    for undecided in parts.reservations.undecided():
        yield (
            f"whether bookmark {undecided.name} was made is not known since {undecided.since}: {undecided.first_path} "
            f"{f'cannot be asked ({undecided.why})' if undecided.why else 'was not asked yet'}"
        )

    yield from _clock_warnings(parts)
    yield from branches.problems(parts)
    for problem in parts.compaction.problems:
        yield f"the last prune did less than it should have: {problem}"


def _clock_warnings(parts: Parts) -> Iterator[str]:
    """Where ages are not what the clock says, and so less goes than somebody may think."""
    ahead_s = parts.clock.set_forward_ns() / NS_PER_S
    if ahead_s > JUMP_S_MIN:
        yield (
            f"the clock was set forward by {format_period(ahead_s)}: nothing is pruned by that time before the repository is"
            " opened again"
        )
    facts = parts.journal.facts()
    late_s = (facts.last_time_ns - parts.clock.wall_ns()) / NS_PER_S
    if late_s > JUMP_S_MIN:
        yield (
            f"the newest record is of {iso(facts.last_time_ns)}, {format_period(late_s)} after the clock: until then all new"
            " records count as that young, and stay"
        )


def window_percent(parts: Parts) -> int | None:
    """Of the promised window. None: none was promised, or nobody can tell yet."""
    facts = parts.journal.facts()
    disk = os.fstatvfs(parts.layout.fd)
    promised_ns = parts.settings.retention.protection_window_ns
    if promised_ns is None or facts.committed_seqno < facts.first_seqno:
        return None
    reserve = parts.settings.journal.reserve_bytes(disk.f_blocks * disk.f_frsize)
    first = any_instant_from(parts)
    age_ns = parts.clock.believed_ns() - first.time_ns
    whole_bytes = sum(each.size_bytes for each in parts.journal.segments() if each.last_seqno >= first.seqno)
    held = Held(age_ns, whole_bytes, disk.f_bavail * disk.f_frsize - reserve)
    return percent_of_promise(held, promised_ns)


def _short(parts: Parts, percent: int) -> str:
    promised = parts.settings.retention.protection_window
    return f"at its rate so far the journal has room for {percent} % of the promised window of {promised}"


def _damages(damages: list[Damage]) -> Iterator[str]:
    """What the scrub has found."""
    for damage in damages[:DAMAGES_MAX]:
        yield f"{damage.file} is damaged at byte {damage.offset_bytes}: {damage.what}; {_cost(damage)}"
    if len(damages) > DAMAGES_MAX:
        yield f"and {len(damages) - DAMAGES_MAX} more places are damaged: see vsnapfs check"


def _cost(damage: Damage) -> str:
    told, more = damage.costs[:COSTS_MAX], len(damage.costs) - COSTS_MAX
    if damage.lost_first_seqno is not None:
        told.insert(0, f"all points from @{damage.lost_first_seqno} to @{damage.lost_last_seqno}")
    if not told:
        return "no bookmark needs it"
    return f"costs {', '.join(told)}" + (f" and {more} more: see vsnapfs check" if more > 0 else "")
