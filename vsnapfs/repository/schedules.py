"""What is known of the settings' schedules without a server: the last bookmark of each.

A bookmark says which schedule has made it, so that a server that starts goes on where the one before was.
"""

from __future__ import annotations

from vsnapfs.core.model import Bookmark, ScheduleState
from vsnapfs.repository.parts import Parts


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
