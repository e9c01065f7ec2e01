"""What is known of the settings' schedules without a server: the last bookmark of each, and when it last ran.

A bookmark says which schedule has made it, so that a server that starts goes on where the one before was. But it may have
been removed since, and a run may have failed: that the events tell.
"""

from __future__ import annotations

from vsnapfs.catalog.events import Wanted
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.core.events import Event
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import ScheduleState
from vsnapfs.repository import events
from vsnapfs.repository.parts import Parts

OF_RUNS = frozenset({"bookmark_added", "bookmark_failed", "bookmark_missed"})


def states(parts: Parts) -> list[ScheduleState]:
    """By name."""
    last = last_made(parts)
    return [
        ScheduleState(
            name=name,
            when=schedule.said,
            last_bookmark=last[name].name if name in last else None,
            last_made=last[name].time if name in last else None,
        )
        for name, schedule in sorted(parts.settings.schedule.items())
    ]


def last_made(parts: Parts) -> dict[str, Bookmark]:
    """The newest bookmark of each schedule of the settings, if there is one."""
    wanted = set(parts.settings.schedule)
    found: dict[str, Bookmark] = {}
    with parts.names:
        bookmarks = parts.index.bookmarks()
    for bookmark in reversed(bookmarks):
        if not wanted:
            break
        if bookmark.schedule in wanted:
            wanted.remove(bookmark.schedule)
            found[bookmark.schedule] = bookmark
    return found


def handled_ns(parts: Parts) -> dict[str, int]:
    """Until when each schedule of the settings has had its runs, or it was told why not; of those that have begun."""
    found = {name: bookmark.time_ns for name, bookmark in last_made(parts).items()}
    for told in _of_runs(parts):
        name = told.subject if told.kind == "bookmark_missed" else told.detail.get("schedule")
        if name in parts.settings.schedule:
            found[name] = max(found.get(name, 0), told.time_ns)
    return found


def _of_runs(parts: Parts) -> list[Event]:
    """None if they cannot be read: then the bookmarks have to do."""
    try:
        return events.read(parts, Wanted(kinds=OF_RUNS)) if parts.settings.schedule else []
    except VsnapfsError:
        return []
