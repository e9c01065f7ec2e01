"""Is what came out of a replay any good? The filesystems' own checkers, and the user's test, on the branch."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from vsnapfs.attach import attached, check_filesystem, device_of
from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import IntegrityError, StoreError, VsnapfsError
from vsnapfs.core.replay import FilesystemVerdict, ReplayReport, TrialVerdict
from vsnapfs.hunt import trial
from vsnapfs.hunt.ground import Place
from vsnapfs.hunt.hunting import environment
from vsnapfs.hunt.signals import run_until_signal
from vsnapfs.replay.branches import BRANCHES, volume_path
from vsnapfs.replay.wanted import Course, Wanted

OUTPUT_BYTES_MAX = 4096
OUTPUT = "output"
VOLUMES = "volumes"
Say = Callable[[str], None]


def tried(
    done: ReplayReport, wanted: Wanted, course: Course, branch: Branch, mountpoint: Path, say: Say
) -> ReplayReport:
    """The report, with what was found; the same object if nothing was asked for."""
    if wanted.check:
        checks = []
        for name in _volumes(course, branch):
            say(f"checking {name}")
            checks.append(_checked(volume_path(mountpoint, branch.name, name), name, wanted.partition))
        done = msgspec.structs.replace(done, checks=checks)
    if wanted.test:
        say(f"testing: {shlex.join(wanted.test)}")
        done = msgspec.structs.replace(done, test=_tested(wanted, course, branch, mountpoint))
    return done


def _volumes(course: Course, branch: Branch) -> list[str]:
    """Those that a replay could change."""
    return [volume.name for volume in branch.volumes if course.choice.takes(volume.id)]


def _checked(file: Path, volume: str, partition: int | None) -> FilesystemVerdict:
    """Mounted for a moment before, so that the filesystem replays its own journal: without that it looks damaged."""
    problem, damaged = "", False
    try:
        with _directory() as scratch, attached(file, scratch / VOLUMES, writable=True, partition=partition):
            pass
    except VsnapfsError as error:
        problem, damaged = str(error), isinstance(error, StoreError | IntegrityError)
    try:
        with device_of(file, partition=partition) as device:
            verdict = check_filesystem(device.path, device.filesystem)
            ok = False if damaged and verdict.ok else verdict.ok
            text = "\n".join(line for line in (problem, verdict.text) if line)
            return FilesystemVerdict(volume=volume, filesystem=device.filesystem, ok=ok, text=text)
    except VsnapfsError as error:
        return FilesystemVerdict(volume=volume, filesystem="", ok=None, text=problem or str(error))


def _tested(wanted: Wanted, course: Course, branch: Branch, mountpoint: Path) -> TrialVerdict:
    names = _volumes(course, branch)
    with _directory() as scratch, ExitStack() as stack:
        output = scratch / OUTPUT
        try:
            place = _place(wanted, branch, mountpoint, names, scratch, stack)
            words = [word.replace("{}", str(place.argument)) for word in wanted.test]
            run = partial(trial.run, words, environment(course.since, place), wanted.timeout_s, output)
            ran = run_until_signal(run)
            verdict, status, why = trial.judged(ran, "abort", wanted.timeout_s, shlex.quote(words[0]))
        except VsnapfsError as error:
            return _verdict(wanted, "none", None, str(error), output)
        return _verdict(wanted, verdict, status, why, output)


def _place(
    wanted: Wanted, branch: Branch, mountpoint: Path, names: list[str], scratch: Path, stack: ExitStack
) -> Place:
    """Where the test finds the volumes: mounted, or as files of the branch."""
    top = mountpoint / BRANCHES / branch.name
    volumes = {name: top / name for name in names}
    if wanted.mount:
        top = scratch / VOLUMES
        top.mkdir()
        for name, file in volumes.items():
            stack.enter_context(attached(file, top / name, writable=True, partition=wanted.partition))
        volumes = {name: top / name for name in names}
    only = next(iter(volumes.values())) if len(volumes) == 1 else top
    return Place(only, top, volumes)


def _verdict(wanted: Wanted, verdict: str, status: int | None, why: str, output: Path) -> TrialVerdict:
    told = {"verdict": verdict, "exit_status": status, "why": why, "output": _tail(output)}
    return msgspec.convert({"test": list(wanted.test)} | told, TrialVerdict)


def _tail(output: Path) -> str:
    try:
        with output.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_BYTES_MAX))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def _directory() -> Iterator[Path]:
    """A scratch directory. Never removed with what is below it: if something is mounted there still, that is the branch."""
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-replay-"))
    try:
        yield path
    finally:
        (path / OUTPUT).unlink(missing_ok=True)
        for directory in (*(path / VOLUMES).glob("*"), path / VOLUMES, path):
            with suppress(OSError):
                directory.rmdir()
