"""Whatever a member does, and whoever is killed at whichever step: nothing stays frozen, no bookmark claims more than it has.

An ext4 lies on a loop device on a live volume. The profile freezes it between two commands, so that one of them runs while it is
frozen. In each round a command hangs, fails, floods its output, forks away or ignores signals, at one of its steps; or
somebody is killed with SIGKILL at a step; or the server stands still for longer than the deadline. All the time somebody
writes to the filesystem, and tells how long the slowest write took.

What a bookmark claims can be read in its bytes: a frozen ext4 does not need its journal replayed, one that is in use does.

Run it as ``python -m tests.crash.quiesce --count 200 --seed 1``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.counted import main
from tests.support.control import ask
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import (
    Mounted,
    children_of,
    environment,
    make_repository,
    must_json,
    program,
)
from tests.support.waiting import eventually

DEADLINE_S = 3.0
"""Of a freeze: more than it takes where nobody hangs, on a slow machine too."""
WANTED_S = DEADLINE_S + 0.5
"""A write shall not have to wait for longer."""
ALLOWED_S = DEADLINE_S + 5.0
"""On a machine that has much else to do; told is what it was."""
THAW_S = 12.0
"""A thaw that hangs is given up after about this."""
PER_SERVER = 40
VOLUME_BYTES = 64 << 20
FITHAW = 0xC0045878
NEEDS_RECOVERY = 4
"""Of s_feature_incompat of ext4, at byte 1024 + 96."""
HOOK = Path(__file__).with_name("quiesce_hook.sh")
STEPS = ("first-prepare", "first-freeze", "last-freeze", "last-thaw", "first-thaw")
WAYS = ("hang", "fail", "flood", "fork", "stubborn")
VICTIMS = ("asker", "command", "freezer", "guard", "freezer and asker")


class Case(NamedTuple):
    """step: of a hook. way: what it does there, or ``kill`` with the victim, or ``stop``: the server stands still."""

    way: str
    step: str
    victim: str = ""
    fallback: bool = False

    def __str__(self) -> str:
        return f"{self.way} {self.victim} at {self.step}{' with fallback' if self.fallback else ''}".replace("  ", " ")


def cases(rng: random.Random, *, served: bool) -> Iterator[Case]:
    """All of them again and again, in a new order each time."""
    ways = [Case(way, step, fallback=fallback) for way in WAYS for step in STEPS for fallback in (False, True)]
    kills = [Case("kill", step, victim) for victim in VICTIMS for step in (*STEPS, "random", "random")]
    stops = [Case("stop", "last-freeze", fallback=fallback) for fallback in (False, True)] if served else []
    while True:
        chosen = [*ways, *kills, *stops, Case("nothing", "")]
        rng.shuffle(chosen)
        yield from chosen


class Probe:
    """Writes to a file, again and again. ``slowest_s``: of the writes that have begun since ``reset``, also of one that is not done."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._ending = threading.Event()
        self._began = 0.0
        self._slowest_s = 0.0
        self.writes = 0
        self.errors: list[OSError] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def slowest_s(self) -> float:
        began = self._began
        return max(self._slowest_s, time.monotonic() - began if began else 0.0)

    def reset(self) -> None:
        self._slowest_s = 0.0

    def _run(self) -> None:
        while not self._ending.is_set():
            self._began = time.monotonic()
            try:
                os.pwrite(self._fd, struct.pack("<Q", self.writes), 0)
            except OSError as error:
                self.errors.append(error)
                return
            self._slowest_s = max(self._slowest_s, time.monotonic() - self._began)
            self._began = 0.0
            self.writes += 1
            self._ending.wait(0.005)

    def progress(self) -> None:
        before = self.writes
        eventually(lambda: self.writes > before + 1 or self.errors, "a write to what was frozen", deadline_s=ALLOWED_S)
        assert not self.errors, self.errors

    def end(self) -> None:
        self._ending.set()
        self._thread.join(10)
        os.close(self._fd)


class Ground:
    """A repository with a profile, what it freezes, and whoever serves it, if anybody does."""

    def __init__(self, directory: Path, repository: Path, disk: Path, server: Mounted | None) -> None:
        self.directory = directory
        self.repository = repository
        self.disk = disk
        self.server = server
        self.probe = Probe(disk / "probe")

    def asker(self, command: subprocess.Popen[str]) -> int:
        """Whoever started the freezer."""
        return self.worker() if self.server is not None else command.pid

    def worker(self) -> int:
        """Waits for one that is being started: until it is a program of its own it looks like the keeper."""
        server = self.server
        assert server is not None
        workers = eventually(
            lambda: [pid for pid in children_of(server.pid) if "--worker" in command_line(pid)], "a worker"
        )
        return workers[0]

    def answers(self) -> bool:
        """A server does."""
        try:
            return ask(self.repository, "status")[0] == 200
        except (OSError, HTTPException, ValueError, IndexError):
            return False

    def flag(self, name: str) -> int:
        """s_feature_incompat of the volume at a bookmark."""
        assert self.server is not None
        path = self.server.mountpoint / "snaps" / name / "data"
        with path.open("rb") as image:
            image.seek(1024 + 96)
            return int(struct.unpack("<I", image.read(4))[0])

    def processes(self) -> list[int]:
        """Freezers, guards and hooks of this repository."""
        mark = f"VSNAPFS_REPO={self.repository}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
                phase = b"VSNAPFS_PHASE=" in (entry / "environ").read_bytes()
            except OSError:
                continue
            if ours and (phase or "vsnapfs.quiesce.freezer" in command_line(int(entry.name))):
                found.append(int(entry.name))
        return found

    def freezers(self) -> list[int]:
        return [pid for pid in self.processes() if "vsnapfs.quiesce.freezer" in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def thaw(directory: Path) -> None:
    """Whatever went wrong: nobody may wait for ever."""
    fd = os.open(directory, os.O_RDONLY)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, FITHAW, 0)
    os.close(fd)


class Played(NamedTuple):
    """What a round came to. status: None: the command was killed. restart_s: so long there was no server."""

    status: int | None
    bookmark: dict[str, Any] | None
    slowest_s: float
    restart_s: float
    said: str


def play_case(ground: Ground, case: Case, name: str, rng: random.Random) -> Played:
    """One quiesce, as the case has it."""
    hooks = ground.directory / "hooks"
    for entry in hooks.iterdir():
        entry.unlink()
    if case.way in ("kill", "stop") and case.step != "random":
        (hooks / case.step).write_text("wait\n")
    elif case.way in WAYS:
        (hooks / case.step).write_text(f"{case.way}\n")
    ground.probe.reset()
    profile = "fallback" if case.fallback else "strict"
    command = subprocess.Popen(
        [*program(), "--json", "bookmark", "add", name, "--quiesce", profile],
        env=environment(ground.repository), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    restart_s = 0.0
    try:
        if case.way == "kill":
            restart_s = _kill(ground, case, command, rng)
        if case.way == "stop":
            _stand_still(ground)
        said = command.communicate(timeout=2 * DEADLINE_S + THAW_S + 30)[0]
    finally:
        command.kill()
        command.wait()
    slowest_s = ground.probe.slowest_s
    status = command.returncode if command.returncode >= 0 else None
    return Played(status, _bookmark(ground, name), slowest_s, restart_s, said)


def _kill(ground: Ground, case: Case, command: subprocess.Popen[str], rng: random.Random) -> float:
    """Returns how long it took until there was a server again."""
    hooks = ground.directory / "hooks"
    if case.step == "random":
        time.sleep(rng.uniform(0.2, 1.0))
    else:
        eventually(lambda: (hooks / "reached").exists() or command.poll() is not None, f"{case} reached")
    asker = ground.asker(command)
    freezers = ground.freezers()
    freezer = [pid for pid in freezers if asker in ppid_of(pid)]
    guard = [pid for pid in freezers if freezer and freezer[0] in ppid_of(pid)]
    victims = {
        "asker": [asker],
        "command": [command.pid],
        "freezer": freezer,
        "guard": guard,
        "freezer and asker": [*freezer, asker],
    }[case.victim]
    with contextlib.suppress(FileNotFoundError):
        (hooks / case.step).unlink()
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    if asker in victims and ground.server is not None:
        eventually(ground.answers, "another worker", deadline_s=30)
    restart_s = time.monotonic() - killed_at
    (hooks / "go").touch()
    return restart_s


def ppid_of(pid: int) -> list[int]:
    try:
        return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])]
    except OSError:
        return []


def _stand_still(ground: Ground) -> None:
    """The server is stopped before all are still, and goes on after the deadline: its mark comes too late."""
    hooks = ground.directory / "hooks"
    eventually((hooks / "reached").exists, "the last freeze")
    worker = ground.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        (hooks / "last-freeze").unlink()
        (hooks / "go").touch()
        time.sleep(DEADLINE_S + 0.2)
    finally:
        os.kill(worker, signal.SIGCONT)


def _bookmark(ground: Ground, name: str) -> dict[str, Any] | None:
    found = must_json(ground.repository, "bookmark", "list")["bookmarks"]
    return next((bookmark for bookmark in found if bookmark["name"] == name), None)


def judge(ground: Ground, case: Case, played: Played) -> None:
    """What must hold. Raises: AssertionError."""
    told = f"{case}: exit {played.status}, slowest write {played.slowest_s:.2f} s, "
    told += f"{played.restart_s:.2f} s without a server\n{played.said}\n{played.bookmark}"
    ground.probe.progress()
    eventually(lambda: not ground.freezers(), f"{told}\nno freezer is left", deadline_s=THAW_S + DEADLINE_S + 5)
    for pid in ground.processes():  # what a hook has left behind
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert played.slowest_s <= ALLOWED_S + played.restart_s, told
    log = (
        (ground.directory / "hooks" / "log").read_text().split()
        if (ground.directory / "hooks" / "log").exists()
        else []
    )
    for member in ("first", "last"):
        if f"{member}-freeze" in log:
            assert f"{member}-thaw" in log, f"{told}\n{log}"
    bookmark = played.bookmark
    if played.status == 0:
        assert bookmark is not None, told
        assert bookmark["consistency"] == "filesystem", told
    elif played.status == 8:
        assert bookmark is not None, told
        assert case.fallback or "thaw" in case.step, told
    elif played.status is not None and case.victim not in ("asker", "freezer and asker"):
        assert bookmark is None, told
    if bookmark is not None and bookmark["consistency"] != "crash":
        assert all(member["outcome"] == "frozen" for member in bookmark["members"]), told
        if ground.server is not None:
            assert not ground.flag(bookmark["name"]) & NEEDS_RECOVERY, f"{told}\nit was not frozen"
    _judge_status(case, played, told)


def _judge_status(case: Case, played: Played, told: str) -> None:
    """What the command has to say where nobody was killed."""
    late = case.way in ("hang", "stubborn")
    wanted: set[int] | None = None
    if case.way in ("nothing", "fork"):
        wanted = {0}
    elif case.way == "stop":
        wanted = {8 if case.fallback else 9}
    elif case.way in WAYS and "thaw" in case.step:
        wanted = {8}
    elif case.way in WAYS:
        wanted = {8 if case.fallback else 9 if late else 1}
    if wanted is not None:
        assert played.status in wanted, f"wanted {wanted}, {told}"


PROFILES = """
[quiesce.{name}]
deadline = "{deadline:g}s"
fallback = "{fallback}"
[[quiesce.{name}.members]]
kind = "command"
name = "first"
prepare = {hook}
freeze = {hook}
thaw = {hook}
[[quiesce.{name}.members]]
kind = "fsfreeze"
name = "disk"
mountpoint = "{disk}"
[[quiesce.{name}.members]]
kind = "command"
name = "last"
freeze = {hook}
thaw = {hook}
"""


def write_profiles(directory: Path, repository: Path) -> None:
    hooks = directory / "hooks"
    hooks.mkdir()
    hook = json.dumps([str(HOOK), str(hooks)])
    with (repository / "vsnapfs.toml").open("a") as settings:
        for name, fallback in (("strict", "none"), ("fallback", "crash")):
            settings.write(
                PROFILES.format(name=name, fallback=fallback, deadline=DEADLINE_S, hook=hook, disk=directory / "disk")
            )


@contextlib.contextmanager
def ground_of(directory: Path, *, served: bool) -> Iterator[Ground]:
    """An ext4 that can be frozen: on a live volume, or, without a server, on a file beside the repository."""
    repository = make_repository(directory / "repository", data=VOLUME_BYTES)
    write_profiles(directory, repository)
    with ExitStack() as stack:
        server = stack.enter_context(Mounted(repository, directory / "mount")) if served else None
        image = directory / "image" if server is None else server.mountpoint / "live" / "data"
        if server is None:
            with image.open("wb") as file:
                file.truncate(VOLUME_BYTES)
        sh("mkfs.ext4", "-q", image)
        device = stack.enter_context(loop_device(image))
        disk = stack.enter_context(mounted(device, directory / "disk"))
        stack.callback(thaw, disk)
        ground = Ground(directory, repository, disk, server)
        stack.callback(ground.probe.end)
        stack.callback(thaw, disk)
        yield ground


def play(seed: int, count: int, directory: Path, told: Callable[[str], None] = print) -> Counter[str]:
    """Some rounds on one ground; each third seed without a server."""
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    slowest: dict[bool, float] = {False: 0.0, True: 0.0}
    served = seed % 3 != 0
    with ground_of(directory, served=served) as ground:
        for number, case in enumerate(cases(rng, served=served)):
            if number == min(count, PER_SERVER):
                break
            played = play_case(ground, case, f"b{number}", rng)
            judge(ground, case, played)
            begun_again = played.restart_s > 0.1
            slowest[begun_again] = max(slowest[begun_again], played.slowest_s)
            if played.slowest_s > WANTED_S and not begun_again:
                told(f"seed {seed}: a write took {played.slowest_s:.2f} s: {case}")
            kinds[f"{case.way} {case.victim}".strip()] += 1
    told(
        f"seed {seed}, {'served' if served else 'alone'}: slowest write {slowest[False]:.2f} s, wanted {WANTED_S:g}; "
        f"where another server had to begin first {slowest[True]:.2f} s"
    )
    return kinds


if __name__ == "__main__":
    main("quiesce", play, count=200)
