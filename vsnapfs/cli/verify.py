"""``verify``: prove that a point can be restored."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import POINT, VOLUME, PointsCommand
from vsnapfs.cli.served_tree import tree_of
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import BusyError, IntegrityError, NotFoundError, ServerGoneError, UsageError, from_os_error
from vsnapfs.core.names import near
from vsnapfs.repository.layout import VERIFY_LOCK

if TYPE_CHECKING:
    from vsnapfs.core.findings import Verified
    from vsnapfs.core.model import Point
    from vsnapfs.verify.proof import Proof

PREFIX = "verify-"
NOTE = "of vsnapfs verify; it goes when that ends"
VOLUMES_MAX = 64
"""As many as a verdict names."""


@click.command("verify", cls=PointsCommand)
@click.argument("point", type=POINT, required=False)
@click.option("--latest", is_flag=True, help="The newest bookmark, in place of POINT.")
@click.option(
    "--profile", default="", metavar="NAME", help="As [verify.NAME] of the settings says; default: mount and check."
)
@click.option(
    "--volume", "volumes", type=VOLUME, multiple=True, metavar="VOLUME", help="This one alone; may be repeated."
)
@global_options()
@pass_session
def command(session: Session, point: str | None, latest: bool, profile: str, volumes: tuple[str, ...]) -> int:
    """Prove that a point can be restored: on a throw-away branch mount it, check its filesystems, run the profile's command.

    The verdict is kept with the bookmarks at the point. Exit status 6: the point is not good. Needs a server, and root to mount.
    """
    if (point is None) != latest:
        raise UsageError("which point?", hint="give either POINT or --latest")
    with _ended_by_signals():
        found = _verified(session, point or "latest", profile, list(dict.fromkeys(volumes)))
    session.show(found, _lines(found))
    return 0 if found.good else IntegrityError.exit_status


def _verified(session: Session, text: str, profile: str, chosen: list[str]) -> Verified:
    from vsnapfs.core.findings import Verified
    from vsnapfs.daemon.client import verification_in
    from vsnapfs.daemon.requests import GetStatus, GiveVerdict, Resolve
    from vsnapfs.verify.ground import BranchGround, Occasion
    from vsnapfs.verify.proof import prove

    tree = tree_of(session, None)
    status = session.ask_again(GetStatus())
    verification = verification_in(Path(status.repository), profile)
    with _alone(session, Path(status.repository), status.uuid) as base:
        point = session.ask_again(Resolve(text=text))
        volumes = _volumes(session, point, chosen or list(verification.volumes))
        name = f"{PREFIX}{point.seqno}"
        occasion = Occasion(point=point, branch=name, profile=profile, repository=status.repository)
        with _branch(session, name, point, verification.quota_bytes):
            ground = BranchGround(tree / "branches" / name, base, verification.command, occasion)
            proof = prove(verification, volumes, ground, partial(_say, session))
        _refuse_another(session, status.pid, proof)
        verdict = GiveVerdict(
            seqno=point.seqno,
            good=proof.good,
            profile=profile,
            took_s=round(proof.took_s, 3),
            volumes=tuple(volumes),
            proved=proof.proved,
            reason=proof.reason,
            remarks=proof.remarks,
        )
        bookmarks = session.ask_again(verdict).bookmarks
    return Verified(
        point=point,
        bookmarks=[bookmark.name for bookmark in bookmarks],
        profile=profile,
        good=verdict.good,
        volumes=verdict.volumes,
        proved=verdict.proved,
        took_s=verdict.took_s,
        reason=verdict.reason,
        remarks=verdict.remarks,
    )


def _refuse_another(session: Session, pid: int | None, proof: Proof) -> None:
    """Raises: ServerGoneError: the server that showed the branch is not there any more. What failed then is not the point's fault."""
    from vsnapfs.daemon.requests import GetStatus

    if not proof.good and session.ask(GetStatus()).pid != pid:
        raise ServerGoneError("the server ended over the verification", hint="do it again with that which runs now")


def _volumes(session: Session, point: Point, chosen: list[str]) -> list[str]:
    """Raises: NotFoundError: one did not stand then. UsageError: there is none, or they are too many for a verdict."""
    from vsnapfs.daemon.requests import VolumeList

    standing = [volume.name for volume in session.ask_again(VolumeList(point=f"@{point.seqno}")).volumes]
    for volume in chosen:
        if volume not in standing:
            raise NotFoundError(f"there is no volume {volume!r} at @{point.seqno}", near=near(volume, standing))
    if not standing:
        raise UsageError(f"no volume stands at @{point.seqno}", hint="give a later point")
    found = chosen or standing
    if len(found) > VOLUMES_MAX:
        raise UsageError(f"a verdict names {VOLUMES_MAX} volumes at most, not {len(found)}", hint="choose by --volume")
    return found


@contextmanager
def _alone(session: Session, repository: Path, uuid: str) -> Iterator[Path]:
    """Be the one verification of the repository, on clean ground: a directory for mounts. Raises: BusyError: another is under way."""
    from vsnapfs.attach.records import place
    from vsnapfs.daemon.requests import BranchList
    from vsnapfs.verify.ground import clear

    lock = repository / VERIFY_LOCK
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise from_os_error(error, f"open {lock}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another verification of {repository} is under way", hint="try again when it has ended"
            ) from error
        base = Path()
        if os.geteuid() == 0:  # else nothing is mounted
            base = place().parent / "verify" / uuid
            clear(base)
        for branch in session.ask_again(BranchList()).branches:
            if branch.name.startswith(PREFIX) and branch.note == NOTE:
                _remove(session, branch.name)
        yield base
    finally:
        os.close(fd)


@contextmanager
def _branch(session: Session, name: str, point: Point, quota_bytes: int | None) -> Iterator[None]:
    """A throw-away branch on the point."""
    from vsnapfs.daemon.again import make_branch
    from vsnapfs.daemon.requests import BranchAdd

    source = f"@{point.seqno}"
    make_branch(session.client(), BranchAdd(name=name, source=source, quota_bytes=quota_bytes, note=NOTE))
    try:
        yield
    finally:
        _remove(session, name)


def _remove(session: Session, name: str) -> None:
    """Raises: BusyError: somebody else has it open."""
    from vsnapfs.daemon.requests import BranchRemove
    from vsnapfs.hunt.served import until_closed

    until_closed(lambda: session.ask_again(BranchRemove(name=name)))


def _say(session: Session, step: str) -> None:
    if not session.json and sys.stderr.isatty():
        click.echo(f"{step} …", err=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as SIGINT does, also where that is ignored: what was mounted is unmounted, the branch removed. A second
    one changes nothing."""

    def end(_number: int, _frame: object) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


WORDS = {"mounted": "mounted", "checked": "filesystems sound", "read": "read whole", "command": "command succeeded"}


def _lines(found: Verified) -> Iterator[str]:
    name = f" ({found.point.bookmark})" if found.point.bookmark else ""
    where = f"@{found.point.seqno}{name} of {moment(found.point.time)}"
    done = ", ".join(WORDS[step] for step in found.proved) or "nothing went well"
    volumes = ", ".join(found.volumes)
    if found.good:
        yield printable(f"{where} is good: {volumes}; {done}; in {found.took_s:.1f} s")
    else:
        yield printable(f"{where} is NOT good: {found.reason} ({volumes}; {done}; in {found.took_s:.1f} s)")
    yield from map(printable, found.remarks)
    if not found.bookmarks:
        yield "no bookmark names this point: the verdict is kept with the events alone"
