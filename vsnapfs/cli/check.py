"""``check``: look for damage, and repair what can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.model import Check, Damage


@click.command("check")
@click.option("--read-data", is_flag=True, help="Read every byte and compare it with its checksum.")
@click.option("--repair", is_flag=True, help="Make again what is derived: maps, catalog, indexes.")
@global_options()
@pass_session
def command(session: Session, read_data: bool, repair: bool) -> int:
    """Look for damage, and repair it.

    Names each damage and the points it costs. Exit status 6 if damage is left.
    """
    from vsnapfs.daemon.requests import Repair, Verify

    found: Check = session.ask(Repair(read_data=read_data) if repair else Verify(read_data=read_data))
    session.show(found, _lines(found))
    return 0 if all(damage.repaired for damage in found.damages) else IntegrityError.exit_status


def _lines(found: Check) -> Iterator[str]:
    for damage in found.damages:
        yield from _damage_lines(damage)
    parts = f"{found.segments} segments, {found.maps} maps, {found.bases} bases, {format_size(found.read_bytes)} read"
    left = sum(not damage.repaired for damage in found.damages)
    repaired = len(found.damages) - left
    yield f"checked {parts}: {left} damaged" + (f", {repaired} repaired" if repaired else "")


def _damage_lines(damage: Damage) -> Iterator[str]:
    outcome = " (repaired)" if damage.repaired else " (--repair makes it again)" if damage.derived else ""
    yield f"{printable(damage.file)} at byte {damage.offset_bytes}: {printable(damage.what)}{outcome}"
    for cost in damage.costs:
        yield f"  costs {cost}"
