"""``check``: look for damage, and repair what can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vsnapfs.cli.anchor import KEY_HELP, key_in
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import IntegrityError, UsageError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.findings import AnchorProof, Check, Damage

ALL = 100.0


class Percent(click.ParamType):  # type: ignore[type-arg]
    """A share such as 10%."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            percent = 0.0
        if not 0 < percent <= ALL:
            raise UsageError(f"--read-data {value}: not a share", hint="write a percentage such as 10%")
        return percent


@click.command("check")
@click.option(
    "--read-data", "percent", is_flag=False, flag_value=f"{ALL:g}%", type=Percent(), metavar="[PERCENT]",
    help="Read every byte, or so much of them, chosen by chance, and compare with the checksums.",
)  # fmt: skip
@click.option("--seed", type=int, help="Choose the same part as a run that named this seed.")
@click.option("--anchor", metavar="VALUE", help="Prove that the past is the one that `vsnapfs anchor` spoke of.")
@click.option("--anchor-key", type=click.Path(), metavar="FILE", help=KEY_HELP)
@click.option("--repair", is_flag=True, help="Make again what is derived: maps and catalog.")
@global_options()
@pass_session
def command(
    session: Session, percent: float | None, seed: int | None, anchor: str | None, anchor_key: str | None, repair: bool
) -> int:
    """Look for damage, and repair it.

    Names each damage and the points it costs. Exit status 6 if damage is left.
    """
    from vsnapfs.daemon.requests import Repair, Verify

    is_part = percent is not None and percent < ALL
    if repair and (is_part or anchor is not None):
        raise UsageError("--repair goes with neither a part nor an anchor", hint="check first, then repair")
    if anchor is not None and is_part:
        raise UsageError("--anchor with a part proves nothing", hint="read everything, or nothing")
    if seed is not None and not is_part:
        raise UsageError("--seed chooses a part", hint="give --read-data 10%")
    verify = Verify(
        read_data=percent is not None,
        percent=percent or ALL,
        seed=seed,
        anchor=anchor,
        anchor_key=key_in(session, anchor_key),
    )
    found: Check = session.ask(Repair(read_data=percent is not None) if repair else verify)
    found = _with_branches(session, found, read_data=percent == ALL)
    session.show(found, _lines(found))
    return 0 if all(damage.repaired for damage in found.damages) else IntegrityError.exit_status


def _with_branches(session: Session, found: Check, *, read_data: bool) -> Check:
    """And what is wrong with branches. A repository that is so damaged that nobody opens it shows none."""
    import msgspec

    from vsnapfs.daemon.requests import VerifyBranches

    try:
        of_branches = session.ask(VerifyBranches(read_data=read_data))
    except IntegrityError:
        if not found.damages:
            raise
        return found
    damages = [*found.damages, *of_branches.damages]
    return msgspec.structs.replace(found, branches=of_branches.branches, damages=damages)


def _lines(found: Check) -> Iterator[str]:
    for damage in found.damages:
        yield from _damage_lines(damage)
    if found.anchor is not None and found.anchor.holds:
        yield from _proof_lines(found.anchor)
    parts = f"{found.segments} segments, {found.maps} maps, {found.bases} bases"
    if found.branches:
        parts += f", {found.branches} branches"
    read = f"{format_size(found.read_bytes)} read"
    if found.seed is not None:
        read += f" of {format_size(found.data_bytes)} (--seed {found.seed})"
    left = sum(not damage.repaired for damage in found.damages)
    repaired = len(found.damages) - left
    yield f"checked {parts}, {read}: {left} damaged" + (f", {repaired} repaired" if repaired else "")


def _damage_lines(damage: Damage) -> Iterator[str]:
    outcome = " (repaired)" if damage.repaired else " (--repair makes it again)" if damage.derived else ""
    yield f"{printable(damage.file)} at byte {damage.offset_bytes}: {printable(damage.what)}{outcome}"
    if damage.lost_first_seqno is not None:
        yield f"  costs all points from @{damage.lost_first_seqno} to @{damage.lost_last_seqno}"
    for cost in damage.costs:
        yield f"  costs {printable(cost)}"
    if not damage.derived and not damage.costs and damage.lost_first_seqno is None:
        yield "  costs no bookmark anything"


def _proof_lines(proof: AnchorProof) -> Iterator[str]:
    how = "by every byte" if proof.by == "bytes" else "by the digests that stand in it, not by its bytes (--read-data)"
    yield f"the past up to @{proof.seqno} is the one that was anchored, {how}"
    if not proof.keyed:
        yield "  no key: the anchor is worth as much as the place where it was kept"
    for volume in proof.not_covered:
        yield f"  not for all of {printable(volume)}: its base, or what was compacted, has only checksums"
