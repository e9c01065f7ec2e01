"""Points that somebody would miss: those of bookmarks, and those that branches stand on."""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.core.branch import SOURCE_PREFIX
from vsnapfs.repository.parts import Parts


class Named(NamedTuple):
    """A bookmark, or a branch as ``branch:NAME``, and its point."""

    name: str
    seqno: int


def named_from(parts: Parts, seqno: int) -> list[Named]:
    """Those from a record on, by point."""
    with parts.names:
        bookmarks = [Named(bookmark.name, bookmark.seqno) for bookmark in parts.index.bookmarks_from(seqno)]
    files = parts.branches.files.values()
    branches = [Named(f"{SOURCE_PREFIX}{file.name}", file.seqno) for file in files if file.seqno >= seqno]
    return sorted([*bookmarks, *branches], key=lambda named: named.seqno)
