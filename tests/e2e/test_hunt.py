"""A hunt on a real server: a planted write among many is found and named, and nothing is left, however the hunt ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import refused
from tests.support.attaching import left_behind
from tests.support.processes import environment, must, must_json, program, run, unmount
from tests.support.waiting import eventually
from vsnapfs.mounts.table import mounts

FAILED, USAGE, NOT_FOUND, BUSY, DEGRADED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 5, 8, 9, 130
BLOCK = 4096
PLANTED = b"the defect"
PLANTED_AT = 100 * BLOCK + 1000
WRITES, EVERY = 60, 6
WRONG = ("sh", "-c", f"! grep -q '{PLANTED.decode()}' $1", "sh", "{}")
"""Good where the planted bytes are not."""

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


class Planted:
    """Writes to the live volume ``db``, one of which is the defect; a bookmark every few. ``seqno``: of that one."""

    def __init__(self, repository: Path, mount: Path, seed: int) -> None:
        chance = random.Random(seed)
        number = chance.randrange(2, WRITES - 2)
        fd = os.open(mount / "live/db", os.O_RDWR)
        try:
            for at in range(WRITES):
                if at == number:
                    os.pwrite(fd, PLANTED, PLANTED_AT)
                    os.fsync(fd)
                    self.seqno = must_json(repository, "status")["last_seqno"]
                else:
                    os.pwrite(fd, chance.randbytes(BLOCK), chance.randrange(100) * BLOCK)
                if at % EVERY == 0:
                    must(repository, "bookmark", "add", f"b{at // EVERY}")
        finally:
            os.close(fd)


@pytest.fixture
def planted(repository: Path, mount: Path, request: pytest.FixtureRequest) -> Planted:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    return Planted(repository, mount, seed)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where hunts make their directories; in the end all are gone."""
    path = tmp_path / "place"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield path
    for entry in mounts():
        if entry.path.startswith(f"{path}/"):
            unmount(Path(entry.path))


def left(repository: Path, place: Path) -> list[str]:
    """All that a hunt may leave: branches, mounts, records of them, loop devices, directories."""
    return [*branches(repository), *left_behind(place), *map(str, place.iterdir())]


def leaves_nothing(repository: Path, place: Path) -> None:
    """A loop device goes when the last who looks at it closes it."""
    eventually(lambda: not left(repository, place), f"nothing left: {left(repository, place)}")


def branches(repository: Path) -> list[str]:
    return [branch["name"] for branch in must_json(repository, "branch", "list")["branches"]]


def hunted(repository: Path, log: Path, *options: str, test: tuple[str, ...] = WRONG) -> Any:
    return json.loads(must(repository, "hunt", "--log", log, "--json", *options, "--", *test))


@pytest.mark.parametrize("way", [(), ("--read-only",), ("--jobs", "3")], ids=" ".join)
def test_the_planted_write_is_found_and_named(
    repository: Path, planted: Planted, place: Path, tmp_path: Path, way: tuple[str, ...]
) -> None:
    found = hunted(repository, tmp_path / "log", "--good", "b0", "--bad", "-0s", "--to-write", *way)
    assert found["state"] == "found"
    assert (found["first_bad"]["seqno"], found["last_good"]["seqno"]) == (planted.seqno, planted.seqno - 1)
    write = found["write"]
    assert (write["seqno"], write["volume"], write["zero"]) == (planted.seqno, "db", False)
    assert (write["offset_bytes"], write["length_bytes"]) == (PLANTED_AT, len(PLANTED))
    assert write["changed_bytes"] == write["compared_bytes"] == len(PLANTED)
    assert PLANTED.hex(" ")[:11] in "".join(line for line in write["hex_diff"] if line.startswith("+"))
    assert write["files_problem"] == "the volume has no filesystem that is known"
    assert found["safety_bookmark"] in [each["name"] for each in must_json(repository, "bookmark", "list")["bookmarks"]]
    assert must_json(repository, "hunt", "--replay", tmp_path / "log") == found
    for probe in found["probes"]:
        assert Path(probe["output"]).parent == tmp_path / "log.d"
    leaves_nothing(repository, place)


def test_a_test_writes_to_what_is_thrown_away(repository: Path, planted: Planted, place: Path, tmp_path: Path) -> None:
    spoils = (
        "sh",
        "-c",
        f"{WRONG[2]}; verdict=$?; dd if=/dev/zero of=$1 bs=1M count=4 conv=notrunc; exit $verdict",
        "sh",
        "{}",
    )
    found = hunted(repository, tmp_path / "log", "--good", "b0", "--bad", "-0s", test=spoils)
    assert found["first_bad"]["seqno"] == planted.seqno
    again = hunted(repository, tmp_path / "log2", "--good", "b0", "--bad", "-0s", "--read-only")
    assert again["first_bad"]["seqno"] == planted.seqno
    leaves_nothing(repository, place)


def test_people_see_what_goes_on_and_what_to_do_next(
    repository: Path, planted: Planted, place: Path, tmp_path: Path
) -> None:
    done = run(
        repository, "hunt", "--good", "b0", "--bad", "-0s", "--to-write", "--log", tmp_path / "log", "--", *WRONG
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split(":", 1) for line in done.stdout.splitlines() if not line.startswith(" "))
    assert told["write"].strip().startswith(f"@{planted.seqno}, ")
    assert f"{len(PLANTED)} bytes at {PLANTED_AT} of db" in told["write"]
    assert (
        told["without it"].strip()
        == f"vsnapfs replay --from @{planted.seqno - 1} --skip @{planted.seqno} --into BRANCH"
    )
    first, second, *probes = done.stderr.splitlines()
    assert first.startswith("hunt ")
    assert str(tmp_path / "log") in first
    assert second.startswith("made the safety bookmark before-hunt-")
    assert len(probes) == int(told["probes"])
    assert all(line.startswith("probe ") for line in probes)


HOLDS = """
echo begun >> $2
[ $(grep -c . $2) -eq $3 ] && { touch $2.holds; while ! [ -e $2.go ]; do sleep 0.02; done; }
! grep -rq 'the defect' $1
"""
"""A test that waits in its N-th run."""


def holding(place: Path, runs: int) -> tuple[str, ...]:
    return ("sh", "-c", HOLDS, "sh", "{}", str(place.parent / "runs"), str(runs))


class Held:
    """A hunt as a process, in its third probe."""

    def __init__(self, repository: Path, place: Path, *options: str) -> None:
        self.log = place.parent / "log"
        self.runs = place.parent / "runs"
        words = ["hunt", "--log", str(self.log), "--good", "b0", "--bad", "-0s", *options, "--", *holding(place, 3)]
        self.process = subprocess.Popen(
            [*program(), *words], env=environment(repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda: self.runs.with_suffix(".holds").exists(), "the third probe")
        except AssertionError:
            self.process.kill()
            raise AssertionError(self.process.communicate()[1]) from None

    def ended_by(self, number: signal.Signals) -> tuple[int, str]:
        """Its exit status, and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing_and_goes_on(
    repository: Path, planted: Planted, place: Path, number: signal.Signals
) -> None:
    held = Held(repository, place)
    status, said = held.ended_by(number)
    assert status == INTERRUPTED, said
    assert said.splitlines()[-1] == f"`vsnapfs hunt --resume {held.log}` goes on"
    leaves_nothing(repository, place)
    goes_on(repository, held, planted)
    leaves_nothing(repository, place)


def goes_on(repository: Path, held: Held, planted: Planted) -> None:
    """The same is found; what was answered is not asked again."""
    held.runs.with_suffix(".go").touch()
    found = must_json(repository, "hunt", "--resume", held.log)
    assert (found["state"], found["first_bad"]["seqno"]) == ("found", planted.seqno)
    assert len(held.runs.read_text().splitlines()) == len(found["probes"]) + 1, (
        "only the one that was ended is tested twice"
    )


@pytest.mark.parametrize("options", [(), ("--read-only",)], ids=" ".join)
def test_killed_it_goes_on_and_removes_what_was_left(
    repository: Path, planted: Planted, place: Path, options: tuple[str, ...]
) -> None:
    held = Held(repository, place, *options)
    assert held.ended_by(signal.SIGKILL)[0] == -signal.SIGKILL
    assert bool(branches(repository)) != bool(options), "a branch was left, unless it needed none"
    goes_on(repository, held, planted)
    leaves_nothing(repository, place)


def test_what_was_left_can_be_removed_without_going_on(repository: Path, planted: Planted, place: Path) -> None:
    held = Held(repository, place)
    assert "at work" in must(repository, "hunt", "clean")
    assert len(branches(repository)) == 1, "a hunt at work is left alone"
    assert "at work" in refused(repository, BUSY, "hunt", "clean", held.log)
    assert "at work" in refused(repository, BUSY, "hunt", "--resume", held.log)
    assert must_json(repository, "hunt", "--replay", held.log, status=DEGRADED)["state"] == "unfinished"
    held.ended_by(signal.SIGKILL)
    (branch,) = branches(repository)
    assert must_json(repository, "hunt", "clean") == {"branches": [branch], "directories": [], "at_work": []}
    leaves_nothing(repository, place)
    assert must(repository, "hunt", "clean") == "nothing was left\n"
    goes_on(repository, held, planted)


def test_branches_of_a_log_that_is_gone_are_removed(repository: Path, planted: Planted, place: Path) -> None:
    held = Held(repository, place)
    held.ended_by(signal.SIGKILL)
    held.log.unlink()
    must(repository, "hunt", "clean")
    leaves_nothing(repository, place)


def test_a_test_that_cannot_go_on_aborts_and_says_how_to(
    repository: Path, planted: Planted, place: Path, tmp_path: Path
) -> None:
    begin = ["hunt", "--good", "b0", "--bad", "-0s", "--json"]
    for number, (test, status, said) in enumerate(
        (
            (["sh", "-c", "exit 127"], FAILED, "ended with 127"),
            (["sh", "-c", "kill -9 $$"], FAILED, "killed by SIGKILL"),
            (["/no/such/program"], FAILED, "No such file"),
            (["sleep", "60"], TIMED_OUT, "--on-timeout"),
        )
    ):
        log = tmp_path / f"log{number}"
        options = ["--timeout", "500ms"] if test[0] == "sleep" else []
        done = run(repository, *begin, "--log", log, *options, "--", *test)
        assert (done.returncode, done.stdout) == (status, "")
        assert said in json.loads(done.stderr)["error"]["message"] + str(json.loads(done.stderr)["error"]["fields"])
        assert must_json(repository, "hunt", "--replay", log, status=DEGRADED)["state"] == "unfinished"
        found = must_json(repository, "hunt", "--resume", log, "--timeout", "1min", "--", *WRONG)
        assert found["first_bad"]["seqno"] == planted.seqno
    leaves_nothing(repository, place)


def test_points_that_cannot_be_told_make_a_range(
    repository: Path, planted: Planted, place: Path, tmp_path: Path
) -> None:
    """The test does not know what to say of the defect and the two records before it."""
    skips = f"[ $VSNAPFS_SEQNO -le {planted.seqno} ] && [ $VSNAPFS_SEQNO -gt {planted.seqno - 3} ] && exit 125"
    done = run(
        repository, "hunt", "--good", "b0", "--bad", "-0s", "--log", tmp_path / "log", "--json", "--",
        "sh", "-c", f"{skips}; {WRONG[2]}", "sh", "{}",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (done.returncode, found["state"], found["untested"]) == (DEGRADED, "range", 0)
    assert found["last_good"]["seqno"] < planted.seqno < found["first_bad"]["seqno"]
    assert planted.seqno in [point["seqno"] for point in found["skipped"]]
    leaves_nothing(repository, place)


def test_a_good_point_that_is_bad_is_told(repository: Path, planted: Planted, place: Path, tmp_path: Path) -> None:
    done = run(repository, "hunt", "--good", "b0", "--bad", "-0s", "--log", tmp_path / "log", "--", "false")
    assert done.returncode == FAILED
    assert "was said to be good and is bad" in done.stdout
    leaves_nothing(repository, place)


REFUSALS: list[tuple[int, str, tuple[str, ...]]] = [
    (USAGE, "--good and --bad", ("--", "true")),
    (USAGE, "--good and --bad", ("--good", "b0", "--", "true")),
    (USAGE, "needs a test", ("--good", "b0", "--bad", "b3")),
    (USAGE, "is not older", ("--good", "b3", "--bad", "b0", "--", "true")),
    (USAGE, "is not older", ("--good", "b3", "--bad", "b3", "--", "true")),
    (NOT_FOUND, "there is no bookmark", ("--good", "b99", "--bad", "b3", "--", "true")),
    (NOT_FOUND, "there is no volume", ("--good", "b0", "--bad", "b3", "--volume", "dc", "--", "true")),
    (USAGE, "jobs are not possible", ("--good", "b0", "--bad", "b3", "--jobs", "99", "--", "true")),
    (USAGE, "no time", ("--good", "b0", "--bad", "b3", "--timeout", "0s", "--", "true")),
    (USAGE, "is not a duration", ("--good", "b0", "--bad", "b3", "--timeout", "soon", "--", "true")),
    (USAGE, "ends before", ("--good", "b0", "--bad", "b3", "--bookmarks-only", "--to-write", "--", "true")),
    (USAGE, "give --mount too", ("--good", "b0", "--bad", "b3", "--partition", "1", "--", "true")),
    (USAGE, "cannot be given", ("--replay", "LOG", "--jobs", "2")),
    (USAGE, "cannot be given", ("--resume", "LOG", "--volume", "db")),
    (NOT_FOUND, "the log", ("--replay", "LOG")),
    (NOT_FOUND, "the log", ("--resume", "LOG")),
    (USAGE, "one log", ("clean", "LOG", "LOG")),
]


def test_what_makes_no_sense_is_refused_before_anything_is_made(
    repository: Path, planted: Planted, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = must_json(repository, "bookmark", "list")
    for status, said, words in REFUSALS:
        assert said in refused(repository, status, "hunt", *words), words
    assert must_json(repository, "bookmark", "list") == before
    assert list(tmp_path.glob("vsnapfs-hunt-*")) == []


def test_without_a_server_it_says_what_to_start(repository: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        must(repository, "bookmark", "add", name)
    line = refused(repository, NOT_FOUND, "hunt", "--good", "a", "--bad", "b", "--log", tmp_path / "log", "--", "true")
    assert "vsnapfs serve" in line
    assert not (tmp_path / "log").exists()
