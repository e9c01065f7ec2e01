"""A hunt on a real server: a planted write among many is found and named, and nothing is left, however the hunt ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from math import log2
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import refused, serving
from tests.support.hunting import (
    DEFECT,
    DEFECT_AT,
    EVERY,
    Planted,
    branches,
    count_up,
    counted_below,
    leaves_nothing,
    plant,
    taken_away,
)
from tests.support.processes import environment, must, must_json, program, run
from tests.support.waiting import eventually
from vsnapfs.cli.main import run as run_here

FAILED, USAGE, NOT_FOUND, BUSY, DEGRADED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 5, 8, 9, 130
ENDS = ("--good", "b0", "--bad", "-0s", "--volume", "db")
IS_THERE = f"grep -q '{DEFECT.decode()}' $1"
WRONG = ("sh", "-c", f"! {IS_THERE}", "sh", "{}")
"""Good where the planted bytes are not."""
SEED = int(os.environ.get("VSNAPFS_HUNT_SEED", "1"))

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """Served, and one for all tests: what a hunt leaves is a bookmark of now."""
    print(f"seed {SEED}")
    place = tmp_path_factory.mktemp("planted")
    made = plant(place / "repository", SEED)
    with serving(made.repository, place / "mount"):
        yield made


@pytest.fixture
def repository(planted: Planted) -> Path:
    return planted.repository


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where hunts make their directories."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "place"))
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    with taken_away(tmp_path / "place") as path:
        yield path


def hunted(repository: Path, log: Path, *options: str, test: tuple[str, ...] = WRONG) -> Any:
    return must_json(repository, "hunt", "--log", log, *ENDS, *options, "--", *test)


@pytest.mark.parametrize("way", [(), ("--read-only",), ("--jobs", "3")], ids=" ".join)
def test_the_planted_write_is_found_and_named(
    planted: Planted, place: Path, tmp_path: Path, way: tuple[str, ...]
) -> None:
    found = hunted(planted.repository, tmp_path / "log", "--to-write", *way)
    assert (found["state"], found["volumes"]) == ("found", ["db"])
    assert (found["last_good"]["seqno"], found["first_bad"]["seqno"]) == (planted.before, planted.seqno)
    write = found["write"]
    assert (write["seqno"], write["volume"], write["zero"]) == (planted.seqno, "db", False)
    assert (write["offset_bytes"], write["length_bytes"]) == (DEFECT_AT, len(DEFECT))
    assert write["changed_bytes"] == write["compared_bytes"] == len(DEFECT)
    assert DEFECT.hex(" ")[:11] in "".join(line for line in write["hex_diff"] if line.startswith("+"))
    assert write["files_problem"] == "the volume has no filesystem that is known"
    made = [bookmark["name"] for bookmark in must_json(planted.repository, "bookmark", "list")["bookmarks"]]
    assert found["safety_bookmark"] in made
    if not way:
        assert [end["point"]["bookmark"] for end in found["ends"]] == ["b0"], "a later bookmark is bad, so the end is"
        instants = [probe for probe in found["probes"] if probe["point"]["bookmark"] is None]
        assert len(instants) <= 2 + log2(EVERY)
    assert must_json(planted.repository, "hunt", "--replay", tmp_path / "log") == found
    assert {Path(probe["output"]).parent for probe in found["probes"]} == {tmp_path / "log.d"}
    leaves_nothing(planted.repository, place)


def test_several_volumes_are_in_one_directory(planted: Planted, place: Path, tmp_path: Path) -> None:
    test = (
        f"[ $1 = $VSNAPFS_DIR ] && cmp $1/side $VSNAPFS_VOLUME_SIDE && ! grep -q '{DEFECT.decode()}' $VSNAPFS_VOLUME_DB"
    )
    ends = ["--good", "b0", "--bad", "-0s", f"--log={tmp_path}/log"]
    found = must_json(planted.repository, "hunt", *ends, "--", "sh", "-c", test, "sh", "{}")
    assert (found["volumes"], found["first_bad"]["seqno"]) == (["db", "side"], planted.seqno)
    assert found["last_good"]["seqno"] > planted.before, "the write to side in between is an instant too"


def test_a_test_writes_to_what_is_thrown_away(planted: Planted, place: Path, tmp_path: Path) -> None:
    spoil = f"{IS_THERE}; there=$?; dd if=/dev/zero of=$1 bs=1M count=4 conv=notrunc; [ $there -ne 0 ]"
    for log, options, test in (("log", (), ("sh", "-c", spoil, "sh", "{}")), ("log2", ("--read-only",), WRONG)):
        assert hunted(planted.repository, tmp_path / log, *options, test=test)["first_bad"]["seqno"] == planted.seqno
    leaves_nothing(planted.repository, place)


def test_a_test_writes_no_more_than_it_may(planted: Planted, place: Path, tmp_path: Path) -> None:
    """And then sees that there is no room, and can say what that means."""
    test = (
        "sh",
        "-c",
        f"dd if=/dev/urandom of=$1 bs=4096 count=8 seek=900 conv=notrunc || exit 125; ! {IS_THERE}",
        "sh",
        "{}",
    )
    found = hunted(planted.repository, tmp_path / "log", "--quota", "1M", test=test)
    assert found["first_bad"]["seqno"] == planted.seqno
    options = ("--quota", "16K", "--log", str(tmp_path / "log2"))
    told = must(planted.repository, "hunt", *ENDS, *options, "--", *test, status=FAILED)
    assert "could not be tested" in told
    leaves_nothing(planted.repository, place)


def test_people_see_what_goes_on_and_what_to_do_next(planted: Planted, place: Path, tmp_path: Path) -> None:
    done = run(planted.repository, "hunt", *ENDS, "--to-write", "--log", tmp_path / "log", "--", *WRONG)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(":", 1) for line in done.stdout.splitlines() if not line.startswith(" "))
    assert told["write"].strip().startswith(f"@{planted.seqno}, ")
    assert f"{len(DEFECT)} bytes at {DEFECT_AT} of db" in told["write"]
    again = f"vsnapfs replay --from @{planted.seqno - 1} --skip @{planted.seqno} --into BRANCH"
    assert told["without it"].strip() == again
    first, second, *probes = done.stderr.splitlines()
    assert first.startswith("hunt ")
    assert str(tmp_path / "log") in first
    assert second.startswith("made the safety bookmark before-hunt-")
    assert told["probes"].strip() == f"{len(probes) - 1}, and 1 of the ends"
    assert all(line.startswith("probe ") for line in probes)


HOLDS = f"""
echo begun >> $2
[ $(grep -c . $2) -eq $3 ] && {{ touch $2.holds; while ! [ -e $2.go ]; do sleep 0.02; done; }}
! {IS_THERE}
"""
"""A test that waits in its third run."""


class Held:
    """A hunt as a process, in its third probe."""

    def __init__(self, repository: Path, place: Path, *options: str, within: tuple[str, ...] = ()) -> None:
        self.log, self.runs = place.parent / "log", place.parent / "runs"
        words = [
            "hunt",
            "--log",
            str(self.log),
            *ENDS,
            *options,
            "--",
            "sh",
            "-c",
            HOLDS,
            "sh",
            "{}",
            str(self.runs),
            "3",
        ]
        self.process = subprocess.Popen(
            [*within, *program(), *words],
            env=environment(repository),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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

    def goes_on(self, planted: Planted) -> None:
        """The same is found; what was answered is not asked again."""
        self.runs.with_suffix(".go").touch()
        found = must_json(planted.repository, "hunt", "--resume", self.log)
        assert (found["state"], found["first_bad"]["seqno"]) == ("found", planted.seqno)
        assert len(self.runs.read_text().splitlines()) == len(found["ends"]) + len(found["probes"]) + 1, (
            "only the one that was ended is repeated"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_and_goes_on(planted: Planted, place: Path, number: signal.Signals) -> None:
    held = Held(planted.repository, place)
    status, said = held.ended_by(number)
    assert status == INTERRUPTED, said
    assert said.rstrip("\n").splitlines()[-1] == f"`vsnapfs hunt --resume {held.log}` goes on"
    leaves_nothing(planted.repository, place)
    held.goes_on(planted)
    leaves_nothing(planted.repository, place)


def test_without_a_terminal_it_goes_on_if_it_was_told_so(planted: Planted, place: Path) -> None:
    held = Held(planted.repository, place, within=("nohup",))
    held.process.send_signal(signal.SIGHUP)
    held.runs.with_suffix(".go").touch()
    _, said = held.process.communicate(timeout=60)
    assert held.process.returncode == 0, said
    leaves_nothing(planted.repository, place)


@pytest.mark.parametrize("options", [(), ("--read-only",)], ids=" ".join)
def test_killed_it_goes_on_and_removes_what_was_left(planted: Planted, place: Path, options: tuple[str, ...]) -> None:
    held = Held(planted.repository, place, *options)
    assert held.ended_by(signal.SIGKILL)[0] == -signal.SIGKILL
    assert bool(branches(planted.repository)) != bool(options), "a branch was left, unless it needed none"
    held.goes_on(planted)
    leaves_nothing(planted.repository, place)


def test_what_was_left_can_be_removed_without_going_on(repository: Path, planted: Planted, place: Path) -> None:
    held = Held(repository, place)
    assert "at work" in must(repository, "hunt", "clean")
    (branch,) = branches(repository)
    assert "at work" in refused(repository, BUSY, "hunt", "clean", held.log)
    assert "at work" in refused(repository, BUSY, "hunt", "--resume", held.log)
    assert must_json(repository, "hunt", "--replay", held.log, status=DEGRADED)["state"] == "unfinished"
    held.ended_by(signal.SIGKILL)
    assert must_json(repository, "hunt", "clean") == {"branches": [branch], "directories": [], "at_work": []}
    leaves_nothing(repository, place)
    assert must(repository, "hunt", "clean") == "nothing was left\n"
    held.goes_on(planted)


@pytest.mark.parametrize("way", [("hunt", "clean"), ("hunt", "--resume")], ids=" ".join)
def test_a_log_that_was_moved_still_says_what_is_left(planted: Planted, place: Path, way: tuple[str, ...]) -> None:
    held = Held(planted.repository, place)
    held.ended_by(signal.SIGKILL)
    (branch,) = branches(planted.repository)
    held.log = held.log.rename(held.log.with_name("moved"))
    if way[-1] == "clean":
        cleaned = must_json(planted.repository, *way, held.log)
        assert cleaned == {"branches": [branch], "directories": [], "at_work": []}
        leaves_nothing(planted.repository, place)
    held.goes_on(planted)
    leaves_nothing(planted.repository, place)


def test_branches_of_a_log_that_is_gone_are_removed(repository: Path, place: Path) -> None:
    held = Held(repository, place)
    held.ended_by(signal.SIGKILL)
    held.log.unlink()
    must(repository, "hunt", "clean")
    leaves_nothing(repository, place)


@pytest.mark.parametrize(
    ("test", "options", "status", "said"),
    [
        (["sh", "-c", "exit 127"], [], FAILED, "ended with 127"),
        (["/no/such/program"], [], FAILED, "No such file"),
        (["sleep", "60"], ["--timeout", "500ms"], TIMED_OUT, "--on-timeout"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else None,
)
def test_a_test_without_a_verdict_aborts_and_another_goes_on(
    planted: Planted, place: Path, tmp_path: Path, test: list[str], options: list[str], status: int, said: str
) -> None:
    log = tmp_path / "log"
    done = run(planted.repository, "hunt", *ENDS, "--log", log, *options, "--", *test)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    *_, hint, error = done.stderr.splitlines()
    assert hint == f"`vsnapfs hunt --resume {log}` goes on"
    assert error.startswith("vsnapfs: ")
    assert said in error
    leaves_nothing(planted.repository, place)
    assert must_json(planted.repository, "hunt", "--replay", log, status=DEGRADED)["state"] == "unfinished"
    assert "jobs are not possible" in refused(planted.repository, USAGE, "hunt", "--resume", log, "--jobs", "0")
    found = must_json(planted.repository, "hunt", "--resume", log, "--timeout", "1min", "--jobs", "2", "--", *WRONG)
    assert found["first_bad"]["seqno"] == planted.seqno
    leaves_nothing(planted.repository, place)


def test_when_its_server_ends_it_ends_and_goes_on_with_the_next(tmp_path: Path, place: Path) -> None:
    planted = plant(tmp_path / "repository", 1)
    with serving(planted.repository, tmp_path / "mount"):
        held = Held(planted.repository, place)
    held.runs.with_suffix(".go").touch()
    _, said = held.process.communicate(timeout=60)
    assert held.process.returncode == NOT_FOUND, said
    assert "the server that the hunt needs has ended; start it again" in said.splitlines()[-1]
    with serving(planted.repository, tmp_path / "mount"):
        leaves_nothing(planted.repository, place)
        assert must_json(planted.repository, "hunt", "--resume", held.log)["first_bad"]["seqno"] == planted.seqno


def test_a_worker_that_dies_between_two_steps_is_waited_for(tmp_path: Path, place: Path) -> None:
    """At the end of each test, so that the hunt asks while the keeper starts the next one."""
    planted = plant(tmp_path / "repository", 2)
    with serving(planted.repository, tmp_path / "mount") as server:
        kill = f"kill -9 $(cat /proc/{server.pid}/task/{server.pid}/children)"
        test = ("sh", "-c", f"! {IS_THERE}; told=$?; {kill}; exit $told", "sh", "{}")
        found = hunted(planted.repository, tmp_path / "log", "--trust", "--bookmarks-only", test=test)
        assert found["last_good"]["seqno"] < planted.seqno < found["first_bad"]["seqno"]
        assert server.log.count("the worker died, another goes on") == len(found["probes"])
        leaves_nothing(planted.repository, place)


def test_what_a_prune_takes_meanwhile_is_left_out(tmp_path: Path, place: Path) -> None:
    """In the first test. What was tested stays known, and the write is named only if no other can be meant."""
    settings = '[journal]\nsegment_size = "64K"\n[retention]\nprotection_window = "1ms"\nkeep_last = 8\n'
    repository, done = tmp_path / "repository", tmp_path / "done"
    seqnos = count_up(repository, 24, 3, settings)
    with serving(repository, tmp_path / "mount"):
        prune = f"PYTHONPATH={Path(__file__).parents[2]} {shlex.join([*program(), '-r', str(repository), 'prune'])}"
        shell, option, asks, *rest = counted_below(37)
        test = (shell, option, f"[ -e {done} ] || {{ {prune} && touch {done}; }}; {asks}", *rest)
        words = ("hunt", "--good", "m0", "--bad", "m23", "--to-write", "--log", str(tmp_path / "log"))
        found = must_json(repository, *words, "--", *test)
        kept = [bookmark["name"] for bookmark in must_json(repository, "bookmark", "list")["bookmarks"]]
        assert done.exists()
        assert "m12" not in kept, "which would be the first bad one"
        assert (found["state"], found["skipped"]) == ("found", [])
        assert found["first_bad_bookmark"] in kept
        assert found["last_good"]["seqno"] < seqnos[37] <= found["first_bad"]["seqno"]
        assert len(found["probes"]) <= 4
        assert found["write"] is None
        assert "not all are there any more" in found["write_problem"]
        leaves_nothing(repository, place)


def test_points_that_cannot_be_told_make_a_range(planted: Planted, place: Path, tmp_path: Path) -> None:
    """The test does not know what to say of the defect and what was written shortly before it."""
    skip = f"[ $VSNAPFS_SEQNO -le {planted.seqno} ] && [ $VSNAPFS_SEQNO -ge {planted.before} ] && exit 125"
    test = ("sh", "-c", f"{skip}; ! {IS_THERE}", "sh", "{}")
    found = must_json(planted.repository, "hunt", "--log", tmp_path / "log", *ENDS, "--", *test, status=DEGRADED)
    assert (found["state"], found["untested"]) == ("range", 0)
    assert found["last_good"]["seqno"] < planted.before
    assert found["first_bad"]["seqno"] > planted.seqno
    assert [point["seqno"] for point in found["skipped"]] == [planted.before, planted.seqno]
    leaves_nothing(planted.repository, place)


def test_a_good_point_that_is_bad_is_told(planted: Planted, place: Path, tmp_path: Path) -> None:
    told = must(planted.repository, "hunt", *ENDS, "--log", tmp_path / "log", "--", "false", status=FAILED)
    assert re.search(r"^contradiction: @\d+ was said to be good and is bad$", told, re.MULTILINE)
    leaves_nothing(planted.repository, place)


REFUSALS: list[tuple[int, str, tuple[str, ...]]] = [
    (USAGE, "--good and --bad", ("--", "true")),
    (USAGE, "--good and --bad", ("--good", "b0", "--", "true")),
    (USAGE, "needs a test", ("--good", "b0", "--bad", "b3")),
    (USAGE, "is not older", ("--good", "b3", "--bad", "b0", "--", "true")),
    (USAGE, "is not older", ("--good", "b3", "--bad", "b3", "--", "true")),
    (NOT_FOUND, "there is no bookmark", ("--good", "b99", "--bad", "b3", "--", "true")),
    (NOT_FOUND, "there is no volume", ("--good", "b0", "--bad", "b3", "--volume", "dc", "--", "true")),
    (USAGE, "jobs are not possible", ("--good", "b0", "--bad", "b3", "--jobs", "99", "--", "true")),
    (USAGE, "jobs are not possible", ("--good", "b0", "--bad", "b3", "--jobs", "0", "--", "true")),
    (USAGE, "is not text", ("--good", "b0", "--bad", "b3", "--", "grep", "\udcff")),
    (USAGE, "cannot be printed", ("--good", "b0", "--bad", "b3", "--log", "a\nb", "--", "true")),
    (USAGE, "--partition", ("--good", "b0", "--bad", "b3", "--mount", "--partition", "0", "--", "true")),
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
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = must_json(repository, "bookmark", "list")
    for status, said, words in REFUSALS:
        assert run_here(["-r", str(repository), "hunt", *words]) == status, words
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err, err
    assert must_json(repository, "bookmark", "list") == before
    assert list(tmp_path.iterdir()) == []


def test_a_hunt_goes_on_when_nobody_listens(planted: Planted, place: Path, tmp_path: Path) -> None:
    """As with 2>&1 | head -1: what it says on the way is for people; the result is in the log."""
    words = ["hunt", *ENDS, "--log", str(tmp_path / "log"), "--", *WRONG]
    process = subprocess.Popen(
        [*program(), *words], env=environment(planted.repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    assert process.communicate(timeout=60)[0].startswith(b"last good:")
    assert process.returncode == 0
    assert must_json(planted.repository, "hunt", "--replay", tmp_path / "log")["first_bad"]["seqno"] == planted.seqno


def test_without_a_server_it_says_what_to_start(tmp_path: Path) -> None:
    alone = plant(tmp_path / "alone", 0).repository
    line = refused(alone, NOT_FOUND, "hunt", *ENDS, "--log", tmp_path / "log", "--", "true")
    assert "vsnapfs serve" in line
    assert not (tmp_path / "log").exists()
