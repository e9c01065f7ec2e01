"""``archive list`` and ``archive drop``: what is on which tape, and what of it is given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from vsnapfs.cli.archived import UUID_SHOWN
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import UsageError

if TYPE_CHECKING:
    from vsnapfs.archive.listing import ArchiveListed
    from vsnapfs.cli.session import Session

WORD = "list"
DROP = "drop"
HEADS = ["ARCHIVE", "KIND", "POINT", "SINCE", "MADE", "AGE", "STATE", "SIZE", "MEDIUM", "TAPES", "COPIES"]


class ArchivesDropped(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints of archives that were given up."""

    dropped: list[Any]


def show(session: Session) -> None:
    from vsnapfs.archive.listing import archive_list

    listed = archive_list(session.repository)
    session.show(listed, [*table(HEADS, map(_row, listed.archives)), *_broken_off(listed.archives)])


def drop(session: Session, uuids: tuple[str, ...]) -> None:
    """Raises: UsageError: none was given, or one is complete."""
    from vsnapfs.archive.listing import archive_drop

    if not uuids:
        raise UsageError("missing argument ARCHIVE", hint="`vsnapfs archive list` shows which were broken off")
    dropped = [archive_drop(session.repository, uuid) for uuid in uuids]
    session.show(ArchivesDropped(dropped=dropped), [f"dropped archive {entry.uuid}" for entry in dropped])


def _row(entry: ArchiveListed) -> list[str]:
    from vsnapfs.core.units import format_period, format_size

    since = "" if entry.since is None else entry.since.bookmark or f"@{entry.since.seqno}"
    return [
        entry.uuid[:UUID_SHOWN],
        entry.kind,
        entry.point.bookmark or f"@{entry.point.seqno}",
        since,
        moment(entry.made),
        format_period(entry.age_s),
        entry.state,
        format_size(entry.stored_bytes),
        entry.medium,
        " ".join(entry.tapes),
        str(entry.copies),
    ]


def _broken_off(archives: list[ArchiveListed]) -> Iterator[str]:
    """What can be done with each. The newest of a medium is the one that --resume goes on with."""
    for entry in archives:
        if entry.resumable is not None:
            shown = entry.uuid[:UUID_SHOWN]
            goes_on = f"`vsnapfs archive --resume --to {entry.medium}` goes on with it"
            way = (
                goes_on
                if entry.resumable
                else "its point is gone or a tape of it retired, and nobody can go on with it"
            )
            yield printable(f"{shown} was broken off: {entry.why}; {way}, `vsnapfs archive drop {shown}` gives it up")
