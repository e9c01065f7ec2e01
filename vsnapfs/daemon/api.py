"""The verbs, implemented once: the server answers them through its socket, the command without a server by itself.

A handler is a plain blocking function of a repository, a request and a progress callback; repository calls are safe
from any thread. Errors are core.errors; nothing here catches them.

Source: docs/command.md, section on the control socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import NameTakenError, NotFoundError, UsageError, VsnapfsError
from vsnapfs.core.events import EVENT_KINDS
from vsnapfs.core.findings import Anchor, BranchFindings, Check
from vsnapfs.core.keeping import Plan, Prune
from vsnapfs.core.model import Bookmark, Point, RemovedBookmark, Volume
from vsnapfs.core.names import near
from vsnapfs.core.points import Ago, Instant, parse_point
from vsnapfs.core.state import Progress, Status
from vsnapfs.daemon import requests as ask

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

Report = Callable[[Progress], None]
Place = Literal["owner", "any", "reader", "sound"]


class Verb(NamedTuple):
    """A row of the table. ``place`` says who may answer:

    * ``owner``: it changes the repository, so the process that holds the lock: the server, or the command as owner
    * ``any``: it reads what a server knows better; the server if there is one, else the command as reader
    * ``reader``: it reads much; always the command's own process, so that bytes do not queue in the server
    * ``sound``: the same, and of a damaged repository it has what is sound
    """

    name: str
    request: type[ask.Request[Any]]
    result: type[Any]
    place: Place
    run: Callable[[Repository, Any, Report], Any]


def volume_add(repository: Repository, request: ask.VolumeAdd, report: Report) -> Volume:
    primary = Path(request.primary) if request.primary is not None else None
    return repository.volume_add(
        request.name,
        size_bytes=request.size_bytes,
        primary=primary,
        block_size_bytes=request.block_size_bytes,
        progress=report,
    )


def volume_list(repository: Repository, request: ask.VolumeList, _: Report) -> ask.Volumes:
    point = repository.resolve(request.point) if request.point is not None else None
    return ask.Volumes(volumes=repository.volumes(point, removed=request.removed))


def volume_remove(repository: Repository, request: ask.VolumeRemove, _: Report) -> Volume:
    volume = repository.volume(request.name)
    repository.volume_remove(request.name)
    return volume


def volume_resize(repository: Repository, request: ask.VolumeResize, _: Report) -> Volume:
    return repository.volume_resize(request.name, request.size_bytes)


def volume_resync(repository: Repository, request: ask.VolumeResync, report: Report) -> ask.Resynced:
    if request.name is None:
        changed_bytes = repository.gap_close(progress=report)
    else:
        changed_bytes = repository.volume_resync(request.name, progress=report)
    return ask.Resynced(volume=request.name, changed_bytes=changed_bytes)


def bookmark_add(repository: Repository, request: ask.BookmarkAdd, report: Report) -> Bookmark:
    if request.quiesce is not None:
        from vsnapfs.daemon.quiescing import bookmark_quiesced

        return bookmark_quiesced(repository, request, report)
    return repository.bookmark_add(
        request.name,
        at=request.at,
        consistency=request.consistency,
        application=request.application,
        note=request.note,
        schedule=request.schedule,
    )


def bookmark_list(repository: Repository, _request: ask.BookmarkList, _: Report) -> ask.Bookmarks:
    return ask.Bookmarks(bookmarks=repository.bookmarks(), undecided=repository.federated.undecided())


def bookmark_show(repository: Repository, request: ask.BookmarkShow, _: Report) -> ask.BookmarkContent:
    bookmark = repository.bookmark(request.name)
    point = repository.resolve(bookmark.name)
    volumes = [repository.volume_at(volume.name, point) for volume in repository.volumes(point)]
    spaces = repository.bookmark_space() if request.space else []
    mine = next((space for space in spaces if space.bookmark == bookmark.name), None)
    return ask.BookmarkContent(bookmark=bookmark, volumes=volumes, space=mine)


def bookmark_remove(repository: Repository, request: ask.BookmarkRemove, _: Report) -> RemovedBookmark:
    bookmark = repository.bookmark(request.name)
    branches = repository.bookmark_remove(request.name, request.seqno)
    return RemovedBookmark(**msgspec.structs.asdict(bookmark), branches=branches)


def bookmark_hold(repository: Repository, request: ask.BookmarkHold, _: Report) -> Bookmark:
    return repository.bookmark_hold(request.name, request.note, request.until)


def bookmark_release(repository: Repository, request: ask.BookmarkRelease, _: Report) -> Bookmark:
    return repository.bookmark_release(request.name)


def verdict(repository: Repository, request: ask.GiveVerdict, _: Report) -> ask.Bookmarks:
    given = repository.verdict_give(
        request.seqno,
        good=request.good,
        profile=request.profile,
        took_s=request.took_s,
        volumes=request.volumes,
        proved=request.proved,
        reason=request.reason,
        remarks=request.remarks,
    )
    return ask.Bookmarks(bookmarks=given)


def bookmark_space(repository: Repository, _request: ask.BookmarkSpace, _: Report) -> ask.Spaces:
    return ask.Spaces(spaces=repository.bookmark_space())


def branch_add(repository: Repository, request: ask.BranchAdd, _: Report) -> Branch:
    return repository.branch_add(request.name, request.source, quota_bytes=request.quota_bytes, note=request.note)


def branch_list(repository: Repository, _request: ask.BranchList, _: Report) -> ask.Branches:
    return ask.Branches(branches=repository.branches())


def branch_show(repository: Repository, request: ask.BranchShow, _: Report) -> Branch:
    return repository.branch(request.name)


def branch_remove(repository: Repository, request: ask.BranchRemove, _: Report) -> ask.Done:
    repository.branch_remove(request.name)
    return ask.Done()


def branch_report(repository: Repository, request: ask.BranchReport, _: Report) -> Branch:
    return repository.branch_report(request.name, request.report)


def prune_preview(repository: Repository, _request: ask.PrunePreview, _: Report) -> Prune:
    return repository.prune_preview()


def prune(repository: Repository, _request: ask.Prune, report: Report) -> Prune:
    return repository.prune(progress=report)


def federated_reserve(repository: Repository, request: ask.FederatedReserve, _: Report) -> ask.FederatedAt:
    uuid, path = repository.federated.reserve(request.id, request.name, request.seconds)
    return ask.FederatedAt(uuid=uuid, path=path, seqno=0)


def federated_hold(repository: Repository, request: ask.FederatedHold, _: Report) -> ask.FederatedAt:
    position = repository.federated.hold(request.id, request.milliseconds)
    return ask.FederatedAt(uuid=repository.uuid, path=str(repository.path), seqno=position.seqno)


def federated_let_go(repository: Repository, request: ask.FederatedLetGo, _: Report) -> ask.Done:
    repository.federated.let_go(request.id)
    return ask.Done()


def federated_prepare(repository: Repository, request: ask.FederatedPrepare, _: Report) -> ask.Done:
    repository.federated.prepare(request.id, request.first)
    return ask.Done()


def federated_decide(repository: Repository, request: ask.FederatedDecide, _: Report) -> Bookmark:
    from vsnapfs.repository.bookmarks import describe

    said = describe(request.name, request.consistency, request.application, request.note)
    return repository.federated.decide(
        msgspec.structs.replace(
            said,
            federation=request.federation,
            profile=request.profile or msgspec.UNSET,
            members=request.members or msgspec.UNSET,
        )
    )


def federated_finish(repository: Repository, request: ask.FederatedFinish, _: Report) -> ask.Done:
    repository.federated.finish(request.decided)
    return ask.Done()


def federated_drop(repository: Repository, request: ask.FederatedDrop, _: Report) -> ask.Done:
    repository.federated.drop(request.id, request.why)
    return ask.Done()


def federated_verdict(repository: Repository, request: ask.GetFederatedVerdict, _: Report) -> ask.FederatedVerdict:
    if request.uuid != repository.uuid:
        raise NotFoundError(f"at {repository.path} is another repository, {repository.uuid}, not {request.uuid}")
    found = repository.federated.verdict(request.id)
    return ask.FederatedVerdict(state=found.state, bookmark=found.bookmark)


def import_images(repository: Repository, request: ask.Import, report: Report) -> Bookmark:
    return repository.import_images(
        {name: Path(image) for name, image in request.images.items()},
        request.bookmark,
        consistency=request.consistency,
        application=request.application,
        note=request.note,
        progress=report,
    )


def restore_live(repository: Repository, request: ask.RestoreLive, report: Report) -> ask.RestoredLive:
    done = repository.restores.live(request.volume, request.source, request.name, report)
    return ask.RestoredLive(
        volume=request.volume,
        source=done.source,
        before=done.before,
        after=done.after,
        changed_bytes=done.changed_bytes,
        undo=done.undo[0],
    )


def branch_promote(repository: Repository, request: ask.BranchPromote, report: Report) -> ask.Promoted:
    done = repository.restores.promote(request.name, request.bookmark, request.before, report)
    return ask.Promoted(
        branch=request.name,
        before=done.before,
        bookmark=done.after,
        changed_bytes=done.changed_bytes,
        undo=done.undo,
    )


def diff(repository: Repository, request: ask.Diff, _: Report) -> ask.Diffs:
    since, until = repository.resolve(request.since), repository.resolve(request.until)
    if request.volume is not None:
        return ask.Diffs(diffs=[repository.diff(since, until, request.volume)])
    return ask.Diffs(diffs=[repository.diff(since, until, volume.name) for volume in repository.volumes(until)])


def commit(repository: Repository, _request: ask.Commit, _: Report) -> ask.Committed:
    repository.journal.commit()
    return ask.Committed(seqno=repository.journal.facts().committed_seqno)


def plan(repository: Repository, request: ask.MakePlan, _: Report) -> Plan:
    return repository.plan(noticed_in_s=request.noticed_in_s, recover_in_s=request.recover_in_s)


def plan_write(repository: Repository, request: ask.WritePlan, _: Report) -> Plan:
    return repository.plan(noticed_in_s=request.noticed_in_s, recover_in_s=request.recover_in_s, write=True)


def status(repository: Repository, _request: ask.GetStatus, _: Report) -> Status:
    return repository.status()


def events(repository: Repository, request: ask.GetEvents, _: Report) -> ask.Events:
    unknown = [kind for kind in request.kinds if kind not in EVENT_KINDS]
    if unknown:
        raise UsageError(f"no kind of event is {unknown[0]!r}", hint=_kinds_like(unknown[0]))
    last_id = repository.last_event_id
    found = repository.events(
        after=request.after,
        since_ns=0 if request.since is None else _instant_ns(request.since),
        kinds=request.kinds,
        limit=request.limit,
        newest=request.newest,
    )
    until_id = max(request.after, found[-1].id if found else 0)
    complete = request.newest or len(found) < request.limit
    return ask.Events(events=found, until_id=max(until_id, last_id) if complete else until_id)


def _kinds_like(word: str) -> str:
    like = near(word, EVENT_KINDS)
    return f"did you mean {' or '.join(like)}?" if like else f"known are {', '.join(EVENT_KINDS)}"


def _instant_ns(text: str) -> int:
    match parse_point(text):
        case Instant(time_ns):
            return time_ns
        case Ago(span_ns):
            return max(0, time.time_ns() - span_ns)
        case _:
            raise UsageError(f"{text!r} is not a time", hint="write 2026-11-23T10:15:00Z or -1h")


def verify(repository: Repository, request: ask.Verify, report: Report) -> Check:
    from vsnapfs.repository.check import Wanted

    wanted = Wanted(
        percent=request.percent if request.read_data else 0,
        seed=request.seed,
        anchor=request.anchor,
        anchor_key=request.anchor_key,
    )
    return repository.check(wanted=wanted, progress=report)


def branch_check(repository: Repository, request: ask.VerifyBranches, report: Report) -> BranchFindings:
    return repository.check_branches(read_data=request.read_data, progress=report)


def repair(repository: Repository, request: ask.Repair, report: Report) -> Check:
    return repository.check(read_data=request.read_data, repair=True, progress=report)


def anchor(repository: Repository, request: ask.GetAnchor, _: Report) -> Anchor:
    return repository.anchor(request.key)


def resolve(repository: Repository, request: ask.Resolve, _: Report) -> Point:
    return repository.resolve(request.text)


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("volume_add", ask.VolumeAdd, Volume, "owner", volume_add),
        Verb("volume_list", ask.VolumeList, ask.Volumes, "any", volume_list),
        Verb("volume_remove", ask.VolumeRemove, Volume, "owner", volume_remove),
        Verb("volume_resize", ask.VolumeResize, Volume, "owner", volume_resize),
        Verb("volume_resync", ask.VolumeResync, ask.Resynced, "owner", volume_resync),
        Verb("bookmark_add", ask.BookmarkAdd, Bookmark, "owner", bookmark_add),
        Verb("bookmark_list", ask.BookmarkList, ask.Bookmarks, "any", bookmark_list),
        Verb("bookmark_show", ask.BookmarkShow, ask.BookmarkContent, "any", bookmark_show),
        Verb("bookmark_remove", ask.BookmarkRemove, RemovedBookmark, "owner", bookmark_remove),
        Verb("bookmark_hold", ask.BookmarkHold, Bookmark, "owner", bookmark_hold),
        Verb("bookmark_release", ask.BookmarkRelease, Bookmark, "owner", bookmark_release),
        Verb("verdict", ask.GiveVerdict, ask.Bookmarks, "owner", verdict),
        Verb("bookmark_space", ask.BookmarkSpace, ask.Spaces, "any", bookmark_space),
        Verb("branch_add", ask.BranchAdd, Branch, "owner", branch_add),
        Verb("branch_list", ask.BranchList, ask.Branches, "any", branch_list),
        Verb("branch_show", ask.BranchShow, Branch, "any", branch_show),
        Verb("branch_remove", ask.BranchRemove, ask.Done, "owner", branch_remove),
        Verb("branch_report", ask.BranchReport, Branch, "owner", branch_report),
        Verb("prune_preview", ask.PrunePreview, Prune, "any", prune_preview),
        Verb("prune", ask.Prune, Prune, "owner", prune),
        Verb("federated_reserve", ask.FederatedReserve, ask.FederatedAt, "owner", federated_reserve),
        Verb("federated_hold", ask.FederatedHold, ask.FederatedAt, "owner", federated_hold),
        Verb("federated_let_go", ask.FederatedLetGo, ask.Done, "owner", federated_let_go),
        Verb("federated_prepare", ask.FederatedPrepare, ask.Done, "owner", federated_prepare),
        Verb("federated_decide", ask.FederatedDecide, Bookmark, "owner", federated_decide),
        Verb("federated_finish", ask.FederatedFinish, ask.Done, "owner", federated_finish),
        Verb("federated_drop", ask.FederatedDrop, ask.Done, "owner", federated_drop),
        Verb("federated_verdict", ask.GetFederatedVerdict, ask.FederatedVerdict, "owner", federated_verdict),
        Verb("import", ask.Import, Bookmark, "owner", import_images),
        Verb("branch_promote", ask.BranchPromote, ask.Promoted, "owner", branch_promote),
        Verb("restore_live", ask.RestoreLive, ask.RestoredLive, "owner", restore_live),
        Verb("diff", ask.Diff, ask.Diffs, "reader", diff),
        Verb("commit", ask.Commit, ask.Committed, "owner", commit),
        Verb("plan", ask.MakePlan, Plan, "any", plan),
        Verb("plan_write", ask.WritePlan, Plan, "owner", plan_write),
        Verb("status", ask.GetStatus, Status, "any", status),
        Verb("events", ask.GetEvents, ask.Events, "any", events),
        Verb("check", ask.Verify, Check, "sound", verify),
        Verb("branch_check", ask.VerifyBranches, BranchFindings, "any", branch_check),
        Verb("anchor", ask.GetAnchor, Anchor, "reader", anchor),
        Verb("repair", ask.Repair, Check, "owner", repair),
        Verb("resolve", ask.Resolve, Point, "any", resolve),
    )
}

FAULTS_OF_WHO_ASKS = (UsageError, NotFoundError, NameTakenError)


def carried_out(repository: Repository, verb: Verb, request: ask.Request[Any], report: Report) -> Any:
    """The verb's answer. A bookmark that was asked for and could not be made is an event, unless it could not be meant."""
    try:
        return verb.run(repository, request, report)
    except VsnapfsError as error:
        if isinstance(request, ask.BookmarkAdd) and not isinstance(error, FAULTS_OF_WHO_ASKS):
            repository.tell("bookmark_failed", request.name, reason=str(error), schedule=request.schedule)
        raise


_BY_REQUEST: dict[type[ask.Request[Any]], Verb] = {verb.request: verb for verb in VERBS.values()}


def verb_named(name: str) -> Verb:
    """Raises: NotFoundError with near names."""
    if name not in VERBS:
        raise NotFoundError(f"no verb {name!r}", near=near(name, VERBS))
    return VERBS[name]


def verb_of(request: ask.Request[Any]) -> Verb:
    """The verb that a request asks for."""
    return _BY_REQUEST[type(request)]
