"""``status``: how the repository is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import DegradedError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.model import MountData, Point, Status


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
        "server": f"process {status.pid} at {status.mountpoint}" if status.served else "none",
        "protected": "yes" if status.protected else "NO",
        "window": f"{_moment(status.window_first)} to {_moment(status.window_last)}",
        "records": f"{status.last_seqno}, committed {status.committed_seqno}, on primaries {status.applied_seqno}",
        "bookmarks": str(status.bookmarks),
        "journal": f"{format_size(status.journal_bytes)} in {status.segments} segments",
        "index": format_size(status.index_bytes),
        "base": format_size(status.base_bytes),
        "free": format_size(status.free_bytes),
    }
    yield from (f"{name + ':':12}{printable(value)}" for name, value in facts.items())
    if status.data is not None:
        yield f"{'data:':12}{_data(status.data)}"
    for volume in status.volumes:
        place = printable(volume.primary_path or "no primary")
        yield f"{'volume:':12}{volume.name}, {format_size(volume.size_bytes)}, {place}"
    for problem in status.problems:
        yield f"{'problem:':12}{printable(problem)}"


def _data(data: MountData) -> str:
    counts = f"{data.open_verify} open files verified, {data.open_kernel} read by the kernel"
    why = "" if data.kernel or data.mode == "verify" else f"; not by the kernel: {printable(data.why_not or '')}"
    return f"{data.mode}, {counts}{why}"


def _moment(point: Point | None) -> str:
    return "nothing yet" if point is None else f"@{point.seqno} {moment(point.time)}"
