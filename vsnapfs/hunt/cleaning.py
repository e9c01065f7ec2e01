"""What hunts that were killed have left, found by their logs, or by the label that branches and mounts carry; and removed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vsnapfs.attach.stale import listed
from vsnapfs.core.errors import BusyError, FormatUnknownError, IntegrityError, NotFoundError
from vsnapfs.daemon.again import call_again
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.requests import BranchList, BranchRemove
from vsnapfs.hunt.log import Cleared, Log, Past
from vsnapfs.hunt.served import clear_directory, log_in, until_closed


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, and the logs of hunts that are at work."""

    branches: list[str]
    directories: list[str]
    at_work: list[str]


def clean(client: Client, path: Path | None) -> Cleaned:
    """Remove what hunts that were killed have left: that of a log, or of all of which something is there.

    Raises: BusyError: the hunt of ``path`` is at work, or somebody uses what is to be removed.
    """
    branches = {
        branch.name: found for branch in call_again(client, BranchList()).branches if (found := log_in(branch.note))
    }
    directories = {each.directory: found for each in listed() if (found := log_in(each.what))}
    paths = {path.absolute()} if path is not None else {*branches.values(), *directories.values()}
    done = Cleaned(branches=[], directories=[], at_work=[])
    for each in sorted(paths):
        try:
            _clean_one(client, each, branches, directories, done)
        except BusyError:
            if path is not None:
                raise
            done.at_work.append(str(each))
    return done


def _clean_one(
    client: Client, path: Path, branches: dict[str, Path], directories: dict[str, Path], done: Cleaned
) -> None:
    """First what is there and carries the log's path, then what the log tells of: it may have had another path then."""
    log, past = _log_of(path, needed=path not in {*branches.values(), *directories.values()})
    try:
        left = past.left if past is not None else []
        places = {Path(directory).parent for directory, found in directories.items() if found == path}
        for place in sorted(places | {Path(spot.directory).resolve() for spot in left if spot.directory}):
            clear_directory(place)
            done.directories.extend(directory for directory in directories if Path(directory).parent == place)
        named = {spot.branch for spot in left}
        for branch in [branch for branch, found in branches.items() if found == path or branch in named]:
            _remove(client, branch)
            done.branches.append(branch)
        for spot in left:
            if log is not None:
                log.add(Cleared(number=spot.number))
    finally:
        if log is not None:
            log.close()


def _log_of(path: Path, *, needed: bool) -> tuple[Log | None, Past | None]:
    """Nobody is at work with a log that is not there, or that nobody could go on from."""
    try:
        return Log.resume(path)
    except (NotFoundError, IntegrityError, FormatUnknownError):
        if needed:
            raise
        return None, None


def _remove(client: Client, branch: str) -> None:
    until_closed(lambda: call_again(client, BranchRemove(name=branch)))
