"""``hunt``: the search for the moment at which good became bad, with the user's own test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsnapfs.cli.arguments import POINT, SIZE, VOLUME, PointsCommand
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.streams import say
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import DegradedError, HuntAbortedError, UsageError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration

if TYPE_CHECKING:
    from vsnapfs.core.hunt import Hunt, HuntFile, HuntWrite
    from vsnapfs.core.model import Point
    from vsnapfs.hunt.cleaning import Cleaned

CLEAN = "clean"
TIMEOUT = "10min"
STATUSES = {"found": 0, "range": DegradedError.exit_status, "unfinished": DegradedError.exit_status}
SKIPPED_MAX = 10
"""Told one by one."""
ENDS = ("good", "bad")
OPTIONS = {"volumes": "--volume", "quota_bytes": "--quota", "timeout_s": "--timeout", "test": "a test"}
"""Those that are called otherwise than their parameters."""


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A span such as 10min."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return value if isinstance(value, float) else parse_duration(str(value)) / NS_PER_S


@click.command("hunt", cls=PointsCommand)
@click.option("--good", type=POINT, metavar="POINT", help="A point at which all was well.")
@click.option("--bad", type=POINT, metavar="POINT", help="A later one at which the defect is there; -0s is now.")
@click.option("--volume", "volumes", type=VOLUME, multiple=True, help="What the test looks at; default: all volumes.")
@click.option("--mount", is_flag=True, help="Mount the filesystems; else the test gets the volumes as files.")
@click.option(
    "--partition", type=click.IntRange(min=1), metavar="N", help="With --mount: of volumes that have partitions."
)
@click.option("--read-only", is_flag=True, help="Test the points themselves, not writable branches of them.")
@click.option(
    "--quota", "quota_bytes", type=SIZE, metavar="SIZE", help="How much a test may write; default: as there is room."
)
@click.option("--timeout", "timeout_s", type=Seconds(), metavar="SPAN", help=f"Of one test; default: {TIMEOUT}.")
@click.option(
    "--on-timeout",
    type=click.Choice(["abort", "bad", "skip"]),
    help="What a test is that takes longer; default: abort.",
)
@click.option("--jobs", type=int, metavar="N", help="So many tests side by side; default: 1.")
@click.option("--bookmarks-only", is_flag=True, help="Do not go on to the instants between two bookmarks.")
@click.option("--to-write", is_flag=True, help="Show the very write, and the file it belongs to.")
@click.option("--trust", is_flag=True, help="Do not test the two ends.")
@click.option("--log", type=click.Path(), metavar="FILE", help="Default: vsnapfs-hunt-ID.log, in this directory.")
@click.option("--resume", type=click.Path(), metavar="LOG", help="Go on with a hunt that did not come to its end.")
@click.option("--replay", type=click.Path(), metavar="LOG", help="Say what a log tells; run nothing.")
@click.argument("test", nargs=-1)
@global_options()
@pass_session
def command(session: Session, /, **given: Any) -> int:
    """Find where good became bad: run TEST at points between the two, each on a throw-away branch.

    TEST ends with 0: good, 1 to 124: bad, 125: cannot be told, skip; all else aborts. {} in its words is the volume's place.
    Write -- before it. Bookmarks are searched first, then all instants between two of them. This moment gets a bookmark before
    anything else.

    `vsnapfs hunt clean [LOG]` removes what a hunt that was killed has left.

    Exit status: 0 found; 1 contradictory or aborted; 8 only a range was found, since some points could not be tested.
    """
    said = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    ways = [name for name in (*ENDS, "resume", "replay") if name in said]
    if not ways and said.get("test", ())[:1] == (CLEAN,):
        return _clean(session, said)
    if ways == list(ENDS):
        found = _hunt(session, said)
    elif ways == ["resume"]:
        found = _resume(session, said)
    elif ways == ["replay"]:
        found = _replay(said)
    else:
        raise UsageError("a hunt needs --good and --bad, or --resume, or --replay", hint="see vsnapfs hunt --help")
    session.show(found, map(printable, _lines(found)))  # a log may come from elsewhere
    return STATUSES.get(found.state, HuntAbortedError.exit_status)


def _hunt(session: Session, said: dict[str, Any]) -> Hunt:
    from vsnapfs.hunt.start import Wanted, hunt

    log = said.pop("log", None)
    if "test" not in said:
        raise UsageError("a hunt needs a test to run", hint="give it after --, such as -- fsck -n {}")
    wanted = Wanted(**{"timeout_s": parse_duration(TIMEOUT) / NS_PER_S} | said)
    return hunt(session.client(), wanted, None if log is None else Path(log), _say(session))


def _resume(session: Session, said: dict[str, Any]) -> Hunt:
    from vsnapfs.hunt.start import Changed, resume

    log = Path(said.pop("resume"))
    _refuse(said, "--resume", Changed.__struct_fields__)
    return resume(session.client(), log, Changed(**said), _say(session))


def _replay(said: dict[str, Any]) -> Hunt:
    from vsnapfs.hunt.start import replay

    log = Path(said.pop("replay"))
    _refuse(said, "--replay", ())
    return replay(log)


def _clean(session: Session, said: dict[str, Any]) -> int:
    from vsnapfs.hunt.cleaning import clean

    _, *logs = said.pop("test")
    _refuse(said, CLEAN, ())
    if len(logs) > 1:
        raise UsageError(f"{CLEAN} takes one log, or none for all", hint="see vsnapfs hunt --help")
    cleaned = clean(session.client(), Path(logs[0]) if logs else None)
    session.show(cleaned, _cleaned(cleaned))
    return 0


def _refuse(said: dict[str, Any], way: str, allowed: Iterable[str]) -> None:
    """Options that the log has, or that nobody would look at. Raises: UsageError."""
    others = [OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in said if name not in allowed]
    if others:
        raise UsageError(f"{', '.join(others)} cannot be given with {way}", hint="the log says it")


def _say(session: Session) -> Callable[[str], None]:
    """Lines on standard error while it goes on, for people."""
    return lambda line: None if session.json else say(printable(line))


def _cleaned(cleaned: Cleaned) -> Iterator[str]:
    yield from (f"removed branch {name}" for name in cleaned.branches)
    yield from (f"detached {printable(name)}" for name in cleaned.directories)
    yield from (f"the hunt of {printable(log)} is at work, and stays as it is" for log in cleaned.at_work)
    if not (cleaned.branches or cleaned.directories or cleaned.at_work):
        yield "nothing was left"


def _lines(found: Hunt) -> Iterator[str]:
    yield f"{'last good:':14}{_place(found.last_good)}{_bookmark('newest good bookmark', found.last_good_bookmark, found.last_good)}"
    yield f"{'first bad:':14}{_place(found.first_bad)}{_bookmark('oldest bad bookmark', found.first_bad_bookmark, found.first_bad)}"
    if found.state != "found":
        yield f"{found.state + ':':13} {found.why}"
    if found.skipped:
        some = ", ".join(f"@{point.seqno}" for point in found.skipped[:SKIPPED_MAX])
        yield f"{'skipped:':14}{some}{' …' if found.skipped[SKIPPED_MAX:] else ''}"
    if found.write is not None:
        yield from _write(found.write)
    if found.write_problem:
        yield f"{'write:':14}not known: {found.write_problem}"
    ends = f", and {len(found.ends)} of the ends" if found.ends else ""
    yield f"{'probes:':14}{len(found.probes)}{ends}"
    if found.safety_bookmark:
        yield f"{'now is kept:':14}bookmark {found.safety_bookmark}"
    yield f"{'log:':14}{found.log}"


def _place(point: Point) -> str:
    name = f"{point.bookmark} at " if point.bookmark else ""
    return f"{name}@{point.seqno}, {moment(point.time)}"


def _bookmark(what: str, name: str | None, point: Point) -> str:
    return "" if name is None or name == point.bookmark else f" ({what}: {name})"


def _write(write: HuntWrite) -> Iterator[str]:
    what = "zeros or a discard" if write.zero else "a write"
    where = f"{write.length_bytes} bytes at {write.offset_bytes} of {write.volume}"
    yield f"{'write:':14}@{write.seqno}, {moment(write.time)}: {what} of {where}"
    part = "" if write.compared_bytes >= write.length_bytes else f" of the first {write.compared_bytes}"
    yield f"{'changed:':14}{write.changed_bytes} bytes{part}"
    yield from (f"  {line}" for line in write.hex_diff)
    for file in write.files:
        yield f"{'belongs to:':14}{_file(write, file)}"
    if write.files_problem:
        yield f"{'belongs to:':14}not known: {write.files_problem}"
    yield f"{'without it:':14}vsnapfs replay --from @{write.seqno - 1} --skip @{write.seqno} --into BRANCH"


def _file(write: HuntWrite, file: HuntFile) -> str:
    inode = "" if file.inode is None else f" (inode {file.inode})"
    what = file.path or ("a file without a name" if file.what == "file" else file.what)
    return f"{what}{inode} of the {write.filesystem}"
