"""``plan``: what the settings should say, by what was written so far."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, table
from vsnapfs.core.errors import DegradedError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import duration_text, format_size, parse_duration

if TYPE_CHECKING:
    from vsnapfs.core.keeping import Plan


@click.command("plan")
@click.option(
    "--noticed-in", default="14d", show_default=True, metavar="SPAN", help="A defect is noticed after so long."
)
@click.option(
    "--recover-in", default="1h", show_default=True, metavar="SPAN", help="All has to be well again in so long."
)
@click.option("--write", is_flag=True, help="Put it into vsnapfs.toml; a server reads that at its next start.")
@global_options()
@pass_session
def command(session: Session, noticed_in: str, recover_in: str, write: bool) -> int:
    """Propose window, bookmarks and retention, and the room they need.

    By how fast volumes were written to, which the journal knows when it has an hour. Exit status 8 if there is no room for it.
    """
    from vsnapfs.daemon.requests import MakePlan, WritePlan

    asked = WritePlan if write else MakePlan
    noticed_in_s, recover_in_s = (parse_duration(text) / NS_PER_S for text in (noticed_in, recover_in))
    plan = session.ask(asked(noticed_in_s=noticed_in_s, recover_in_s=recover_in_s))
    session.show(plan, _lines(plan))
    return 0 if plan.fits else DegradedError.exit_status


def _lines(plan: Plan) -> Iterator[str]:
    rates = plan.rates
    yield f"measured in {rates.hours} hours from {moment(rates.since.time)} to {moment(rates.until.time)}"
    rows = [
        [rate.volume, f"{format_size(rate.written_bytes_per_hour)}/h", f"{rate.rewritten_percent} %"]
        for rate in rates.volumes
    ]
    rows.append(["all", f"{format_size(rates.written_bytes_per_hour)}/h", f"{rates.rewritten_percent} %"])
    yield from table(["VOLUME", "WRITTEN", "OVER AGAIN"], rows)
    yield f"busiest hour: {format_size(rates.peak_bytes_per_hour)}"
    for after in rates.changed:
        yield f"differs after {duration_text(after.span_s)}: {format_size(after.changed_bytes)}"
    yield ""
    short = f", less than {duration_text(plan.noticed_in_s)}: there is no room for more" if plan.short else ""
    yield f"protection window: {plan.protection_window}{short}"
    yield f"a bookmark every:  {plan.bookmark_every}"
    yield f"kept behind it:    {plan.keep_daily} daily, {plan.keep_weekly} weekly, {plan.keep_monthly} monthly"
    parts = {"window": plan.window_bytes, "bookmarks": plan.bookmarks_bytes, "bases": plan.base_bytes}
    total = format_size(sum(parts.values()))
    yield f"room:              {total} of {format_size(plan.room_bytes)}: " + ", ".join(
        f"{what} {format_size(size)}" for what, size in parts.items()
    )
    yield from (f"assumed:           {text}" for text in plan.assumptions)
    if plan.written:
        yield "written to vsnapfs.toml; a server reads it at its next start"
