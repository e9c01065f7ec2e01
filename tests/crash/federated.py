"""Bookmarks over two repositories whose servers, and the command itself, are killed at any step.

A writer stamps a counter to a volume of A, then to one of B, as fast as it can, with an fsync after each or with none. At each
bookmark over both, A's stamp is B's or one more. Then the command, a server, or a server's worker under its keeper is killed
right after a step, or a moment later: once the servers run again both carry the bookmark, or neither does, and what the
command has said of it holds. The same where a disk is full after a step.

Run it as ``python -m tests.crash.federated --count 500 --seed 0``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from tests.crash.counted import main
from tests.support.devices import mounted
from tests.support.processes import Mounted, child, children_of, environment, make_repository
from tests.support.waiting import eventually
from vsnapfs.core.errors import DegradedError, VsnapfsError
from vsnapfs.daemon import federated as making
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.federated import bookmark_all
from vsnapfs.daemon.requests import BookmarkList, GetStatus
from vsnapfs.repository.repository import Repository

VOLUME = "v"
VOLUME_BYTES = 65536
PAGE_BYTES = 4096
CUTS_PER_ROUND = 50
KILLS_PER_ROUND = 20
FULL_PER_ROUND = 10
DISK = "size=96M"
FULL_PAUSE_S = 0.02
"""Between two stamps, so that the journal alone does not fill the disk."""
RESERVED_S = 2.0
"""In place of ten seconds, so that a command that is killed is not waited for so long."""
LATER_S_MAX = 0.02
SETTLED_S = 60.0
"""A server that came back looks for what is not decided at once, and one that waits for it within two seconds or so."""
LOG_TAIL = 3000
MADE, REFUSED, UNKNOWN = 0, 3, 8
STEPS = ("reserved", "held", "held", "let go", "let go", "prepared", "prepared", "decided", "finished")
VICTIMS = ("command", "first", "second", "both")


class Site:
    """A served repository. ``keeper``: as serve's option."""

    def __init__(self, directory: Path, keeper: str) -> None:
        directory.mkdir(exist_ok=True)
        self.filler = directory / "filler"
        self.path = make_repository(directory / "repository", **{VOLUME: VOLUME_BYTES})
        self.keeper = keeper
        self.server = Mounted(self.path, directory / "mount", options=("--keeper", keeper))

    @property
    def live(self) -> Path:
        return self.server.mountpoint / "live" / VOLUME

    def kill(self) -> None:
        """The process that serves; a keeper starts the next."""
        for pid in children_of(self.server.pid) if self.keeper == "process" else [self.server.pid]:
            os.kill(pid, signal.SIGKILL)

    def await_killed(self) -> None:
        """By another process. A keeper sees to it by itself."""
        if self.keeper == "none":
            eventually(lambda: not self.server.is_running(), "the end of what was killed", deadline_s=SETTLED_S)

    def start_again(self) -> None:
        if self.keeper == "none" and not self.server.is_running():
            self.server.kill(leave_mount=True)
            self.server.start()

    def await_protected(self) -> None:
        """Until it is not in a gap any more."""
        problems = self._until(lambda: connect(self.path).call(GetStatus()).problems or None)
        assert problems is None, f"{self.path}: {problems}\n{self.server.log[-LOG_TAIL:]}"

    def has(self, name: str) -> bool:
        """When nothing is undecided any more."""
        undecided = self._until(lambda: connect(self.path).call(BookmarkList()).undecided or None)
        assert undecided is None, f"{self.path}: {undecided}\n{self.server.log[-LOG_TAIL:]}"
        return name in [bookmark.name for bookmark in connect(self.path).call(BookmarkList()).bookmarks]

    def _until(self, trouble: Callable[[], object]) -> object:
        """Look until there is no trouble. Returns the last, if it does not end; also that nobody answers."""
        last: list[object] = [None]

        def gone() -> bool:
            try:
                last[0] = trouble()
            except VsnapfsError as error:  # the next worker is not there yet
                last[0] = error
            return last[0] is None

        with contextlib.suppress(AssertionError):
            eventually(gone, "no trouble", deadline_s=SETTLED_S)
        return last[0]


@contextlib.contextmanager
def sites(directory: Path, keeper: str) -> Iterator[tuple[Site, Site]]:
    first, second = Site(directory / "a", keeper), Site(directory / "b", keeper)
    try:
        for site in (first, second):
            site.server.start()
        yield first, second
        for site in (first, second):
            status = site.server.stop()
            assert status == 0, f"{site.path}: exit status {status}\n{site.server.log[-LOG_TAIL:]}"
    finally:
        for site in (first, second):
            site.server.kill()


# ---- the writer ----


def write(paths: list[Path], sync: bool, pause_s: float) -> None:
    """Stamp 1, 2, 3 … to each in turn, until killed. A server that dies is waited for, and the stamp is made again."""
    files: list[int | None] = [None] * len(paths)
    stamp = 0
    while True:
        stamp += 1
        time.sleep(pause_s)
        for number, path in enumerate(paths):
            while not _stamped(files, number, path, stamp, sync):
                time.sleep(0.01)


def _stamped(files: list[int | None], number: int, path: Path, stamp: int, sync: bool) -> bool:
    fd = files[number]
    try:
        if fd is None:
            fd = files[number] = os.open(path, os.O_RDWR)
        os.pwrite(fd, struct.pack("<Q", stamp) * (PAGE_BYTES // 8), 0)
        if sync:
            os.fsync(fd)
    except OSError:
        if fd is not None:
            files[number] = None
            with contextlib.suppress(OSError):  # which flushes, and the server may be dead
                os.close(fd)
        return False
    return True


@contextlib.contextmanager
def writing(pair: tuple[Site, Site], sync: bool, pause_s: float = 0.0) -> Iterator[None]:
    how = [str(int(sync)), str(pause_s)]
    command = [sys.executable, "-m", "tests.crash.federated", "write", *how, *(str(site.live) for site in pair)]
    with child(command, env=environment()) as writer:
        eventually(lambda: pair[1].live.read_bytes()[:8] != bytes(8), "the first stamps")
        yield
        assert writer.poll() is None, "the writer ended"


def stamp_at(site: Site, name: str) -> int:
    with Repository.open(site.path, owner=False) as repository:
        point = repository.resolve(name)
        with repository.view(VOLUME, point) as view:
            page = view.read(0, PAGE_BYTES)
    assert page == page[:8] * (PAGE_BYTES // 8), f"{name} is torn in {site.path}"
    return int(struct.unpack("<Q", page[:8])[0])


def check_cut(pair: tuple[Site, Site], name: str) -> int:
    """Returns A's stamp."""
    first, second = (stamp_at(site, name) for site in pair)
    assert first - second in (0, 1), f"{name}: A has {first}, B has {second}"
    return first


# ---- cuts ----


def play_cuts(seed: int, count: int, directory: Path) -> Counter[str]:
    """With an fsync after each stamp, or without."""
    sync = seed % 2 == 0
    with sites(directory, "process") as pair, writing(pair, sync):
        for number in range(count):
            ordered = pair if number % 2 else pair[::-1]
            bookmark_all([site.path for site in ordered], f"cut-{number}")
        stamps = [check_cut(pair, f"cut-{number}") for number in range(count)]
    assert stamps == sorted(stamps)
    assert stamps[-1] > stamps[0], "nobody wrote"
    return Counter({"cut with fsync" if sync else "cut": count})


# ---- kills ----


def bookmark_in_child(pair: tuple[Site, Site], name: str, step_number: int, victim: str, later_s: float) -> int:
    """Have it made by a process of its own, and kill whom it meets. Returns: its exit status; -9: it was killed."""
    ended, alive = os.pipe()
    asking = os.fork()
    if asking == 0:
        try:
            os._exit(bookmark(pair, name, step_number, partial(_kill_later, pair, victim, later_s, alive)))
        finally:
            os._exit(1)
    os.close(alive)
    status = os.waitstatus_to_exitcode(os.waitpid(asking, 0)[1])
    killed = os.read(ended, 1)  # nothing where it did not come so far; until who kills later has ended
    os.close(ended)
    for site in victims(pair, victim) if killed else ():
        site.await_killed()
    return status


def victims(pair: tuple[Site, Site], victim: str) -> tuple[Site, ...]:
    """Whose server is killed."""
    return {"command": (), "first": pair[:1], "second": pair[1:], "both": pair}[victim]


def bookmark(pair: tuple[Site, Site], name: str, step_number: int, then: Callable[[], None]) -> int:
    """Returns: MADE, REFUSED or UNKNOWN."""
    making.RESERVED_S = RESERVED_S
    left = [step_number]

    def step(_: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            then()

    try:
        bookmark_all([site.path for site in pair], name, step=step)
    except DegradedError:
        return UNKNOWN
    except VsnapfsError:
        return REFUSED
    return MADE


def _kill_later(pair: tuple[Site, Site], victim: str, later_s: float, told: int) -> None:
    """By another process, so that this one goes on meanwhile; at once, if it is not to be later."""
    asking = os.getpid()
    killer = os.fork() if later_s else 0
    if killer:
        return
    time.sleep(later_s)
    os.write(told, b"k")
    if victim == "command":
        os.kill(asking, signal.SIGKILL)
    for site in victims(pair, victim):
        site.kill()
    if later_s:
        os._exit(0)


def play_kills(seed: int, count: int, directory: Path) -> Counter[str]:
    """Every kind of victim, at every step, in an order that the seed chooses."""
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    keeper = ("none", "process")[seed % 2]
    sync = keeper == "none" or rng.random() < 0.5  # without a keeper a write may be lost that nobody made durable
    with sites(directory, keeper) as pair, writing(pair, sync):
        for number in range(count):
            victim, step_number = rng.choice(VICTIMS), rng.randrange(len(STEPS))
            later_s = rng.choice((0.0, rng.uniform(0, LATER_S_MAX)))
            told = f"{victim} killed {later_s:.4f} s after step {step_number} ({STEPS[step_number]})"
            status = bookmark_in_child(pair, f"b-{number}", step_number, victim, later_s)
            for site in pair:
                site.start_again()
            kinds[f"{victim} killed, {check_outcome(pair, f'b-{number}', status, told)}"] += 1
    return kinds


def check_outcome(pair: tuple[Site, Site], name: str, status: int, told: str) -> Literal["all", "none"]:
    """That it is one of the two, and what the command had said."""
    made = [site.has(name) for site in pair]
    assert made[0] == made[1], f"{told}: {made}, exit status {status}"
    assert status in (MADE, REFUSED, UNKNOWN, -signal.SIGKILL), f"{told}: exit status {status}"
    assert status != MADE or made[0], f"{told}: it said that it was made"
    assert status != REFUSED or not made[0], f"{told}: it said that it was not made"
    if made[0]:
        check_cut(pair, name)
    return "all" if made[0] else "none"


# ---- full disks ----


def play_full(seed: int, count: int, directory: Path) -> Counter[str]:
    """The disk of one of the two, or of both, is full after a step, and has room again when the command has ended."""
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for name in ("a", "b"):
            stack.enter_context(mounted(Path("tmpfs"), directory / name, options=DISK, kind="tmpfs"))
        pair = stack.enter_context(sites(directory, "process"))
        stack.enter_context(writing(pair, sync=True, pause_s=FULL_PAUSE_S))
        for number in range(count):
            full = rng.choice((pair[:1], pair[1:], pair))
            step_number = rng.randrange(len(STEPS))
            told = f"{len(full)} full after step {step_number} ({STEPS[step_number]}), one of them the first: {pair[0] in full}"
            status = bookmark(pair, f"b-{number}", step_number, partial(_fill, full))
            for site in full:
                site.filler.unlink(missing_ok=True)
            for site in pair:
                site.await_protected()
            kinds[f"disk full, {check_outcome(pair, f'b-{number}', status, told)}"] += 1
    return kinds


def _fill(sites_filled: Sequence[Site]) -> None:
    for site in sites_filled:
        with contextlib.suppress(OSError), site.filler.open("wb", buffering=0) as file:
            while file.write(bytes(PAGE_BYTES)):
                """Until there is no room."""


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """Two rounds of cuts, two of kills, and one of full disks, and so on."""
    if seed % 5 < 2:
        return play_cuts(seed, min(CUTS_PER_ROUND, count), directory)
    if seed % 5 < 4:
        return play_kills(seed, min(KILLS_PER_ROUND, count), directory)
    return play_full(seed, min(FULL_PER_ROUND, count), directory)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write([Path(path) for path in sys.argv[4:]], sync=sys.argv[2] == "1", pause_s=float(sys.argv[3]))
    main("federated", play, count=500)
