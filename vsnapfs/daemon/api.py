"""The verbs, implemented once: the server answers them through its socket, the command without a server by itself.

A handler is a plain blocking function of a repository, a request and a progress callback; repository calls are safe
from any thread. Errors are core.errors; nothing here catches them.

Source: docs/command.md, section on the control socket.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vsnapfs.core.errors import NotFoundError
from vsnapfs.core.model import Anchor, Bookmark, Check, Point, Progress, Prune, Status, Volume
from vsnapfs.core.names import near
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


def bookmark_add(repository: Repository, request: ask.BookmarkAdd, _: Report) -> Bookmark:
    return repository.bookmark_add(
        request.name,
        at=request.at,
        consistency=request.consistency,
        application=request.application,
        note=request.note,
    )


def bookmark_list(repository: Repository, _request: ask.BookmarkList, _: Report) -> ask.Bookmarks:
    return ask.Bookmarks(bookmarks=repository.bookmarks())


def bookmark_show(repository: Repository, request: ask.BookmarkShow, _: Report) -> ask.BookmarkContent:
    bookmark = repository.bookmark(request.name)
    point = repository.resolve(bookmark.name)
    volumes = [repository.volume_at(volume.name, point) for volume in repository.volumes(point)]
    spaces = repository.bookmark_space() if request.space else []
    mine = next((space for space in spaces if space.bookmark == bookmark.name), None)
    return ask.BookmarkContent(bookmark=bookmark, volumes=volumes, space=mine)


def bookmark_remove(repository: Repository, request: ask.BookmarkRemove, _: Report) -> Bookmark:
    bookmark = repository.bookmark(request.name)
    repository.bookmark_remove(request.name)
    return bookmark


def bookmark_hold(repository: Repository, request: ask.BookmarkHold, _: Report) -> Bookmark:
    return repository.bookmark_hold(request.name, request.note, request.until)


def bookmark_release(repository: Repository, request: ask.BookmarkRelease, _: Report) -> Bookmark:
    return repository.bookmark_release(request.name)


def bookmark_space(repository: Repository, _request: ask.BookmarkSpace, _: Report) -> ask.Spaces:
    return ask.Spaces(spaces=repository.bookmark_space())


def prune_preview(repository: Repository, _request: ask.PrunePreview, _: Report) -> Prune:
    return repository.prune_preview()


def prune(repository: Repository, _request: ask.Prune, report: Report) -> Prune:
    return repository.prune(progress=report)


def import_images(repository: Repository, request: ask.Import, report: Report) -> Bookmark:
    return repository.import_images(
        {name: Path(image) for name, image in request.images.items()},
        request.bookmark,
        consistency=request.consistency,
        application=request.application,
        note=request.note,
        progress=report,
    )


def diff(repository: Repository, request: ask.Diff, _: Report) -> ask.Diffs:
    since, until = repository.resolve(request.since), repository.resolve(request.until)
    if request.volume is not None:
        return ask.Diffs(diffs=[repository.diff(since, until, request.volume)])
    return ask.Diffs(diffs=[repository.diff(since, until, volume.name) for volume in repository.volumes(until)])


def commit(repository: Repository, _request: ask.Commit, _: Report) -> ask.Committed:
    repository.journal.commit()
    return ask.Committed(seqno=repository.journal.facts().committed_seqno)


def status(repository: Repository, _request: ask.GetStatus, _: Report) -> Status:
    return repository.status()


def verify(repository: Repository, request: ask.Verify, report: Report) -> Check:
    from vsnapfs.repository.check import Wanted

    wanted = Wanted(
        percent=request.percent if request.read_data else 0,
        seed=request.seed,
        anchor=request.anchor,
        anchor_key=request.anchor_key,
    )
    return repository.check(wanted=wanted, progress=report)


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
        Verb("bookmark_remove", ask.BookmarkRemove, Bookmark, "owner", bookmark_remove),
        Verb("bookmark_hold", ask.BookmarkHold, Bookmark, "owner", bookmark_hold),
        Verb("bookmark_release", ask.BookmarkRelease, Bookmark, "owner", bookmark_release),
        Verb("bookmark_space", ask.BookmarkSpace, ask.Spaces, "any", bookmark_space),
        Verb("prune_preview", ask.PrunePreview, Prune, "any", prune_preview),
        Verb("prune", ask.Prune, Prune, "owner", prune),
        Verb("import", ask.Import, Bookmark, "owner", import_images),
        Verb("diff", ask.Diff, ask.Diffs, "reader", diff),
        Verb("commit", ask.Commit, ask.Committed, "owner", commit),
        Verb("status", ask.GetStatus, Status, "any", status),
        Verb("check", ask.Verify, Check, "sound", verify),
        Verb("anchor", ask.GetAnchor, Anchor, "reader", anchor),
        Verb("repair", ask.Repair, Check, "owner", repair),
        Verb("resolve", ask.Resolve, Point, "any", resolve),
    )
}

_BY_REQUEST: dict[type[ask.Request[Any]], Verb] = {verb.request: verb for verb in VERBS.values()}


def verb_named(name: str) -> Verb:
    """Raises: NotFoundError with near names."""
    if name not in VERBS:
        raise NotFoundError(f"no verb {name!r}", near=near(name, VERBS))
    return VERBS[name]


def verb_of(request: ask.Request[Any]) -> Verb:
    """The verb that a request asks for."""
    return _BY_REQUEST[type(request)]
