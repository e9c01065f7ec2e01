"""``archive --due``: what the policies of the settings want archived now, once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vsnapfs.cli.archived import archived_lines
from vsnapfs.cli.session import Session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.table import printable

if TYPE_CHECKING:
    from vsnapfs.archive.due import ArchivesDue


def archive_due(session: Session, policies: tuple[str, ...]) -> int:
    """Returns the exit status. Raises: as DueArchives."""
    from vsnapfs.archive.due import DueArchives
    from vsnapfs.cli.progress import shown
    from vsnapfs.cli.prompt import asker

    with ended_as_by_hand(), session.client().reading() as repository, shown(wanted=not session.json) as report:
        archives = DueArchives(repository, policies, report, time.time_ns, asker())
        archives.run()
    answer = archives.answer
    if not session.json:
        for failure in answer.failures:
            what = f"{failure.bookmark} to {failure.medium} ({failure.policy}): {failure.reason}"
            print(f"vsnapfs: {printable(what)}", file=sys.stderr)
    session.show(answer, _lines(answer))
    return archives.exit_status


def _lines(answer: ArchivesDue) -> Iterator[str]:
    yield from archived_lines(answer.archives)
    if not answer.archives and not answer.failures:
        yield "nothing is due"
