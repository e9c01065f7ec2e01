"""docs/examples/backup-point: a point is there as long as somebody reads it, whatever a backup program says and when."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.applications.protected import VOLUMES, Protected
from tests.support.processes import Mounted, child
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("verb", ["serve", "mount"])
def test_a_name_that_is_made_again_shows_the_new_point_at_once(place: Protected, verb: str) -> None:
    """Though the kernel may remember for a while what that name was, and a mount without a server has to hear of it first."""
    with ExitStack() as stack:
        mountpoint = place.mountpoint
        if verb == "mount":
            mountpoint = place.ground / "beside"
            stack.enter_context(Mounted(place.repository, mountpoint, verb="mount"))
        for job in ("one", "two"):
            place.change("db0")
            place.must("backup-point", "begin", "again", job, env={"VSNAPFS_MOUNT": str(mountpoint)})
            shown_seqno = int(os.getxattr(mountpoint / "snaps/again", "user.vsnapfs.seqno"))
            made = place.bookmarks()["again"]
            assert (made.held, made.hold_note, made.seqno) == (True, job, shown_seqno)
            assert made.hold_until is not None
            place.must("backup-point", "end", "again", job)
    assert "again" not in place.bookmarks()


def test_a_save_that_is_not_ended_yet_keeps_its_point(place: Protected) -> None:
    place.must("backup-point", "begin", "busy", "one", "--consistency", "filesystem", "--note", "nightly")
    made = place.bookmarks()["busy"]
    assert (made.consistency, made.note) == ("filesystem", "nightly")
    assert "held still, for: one" in place.must("backup-point", "begin", "busy", "two", status=5)
    assert "nothing to remove" in place.must("backup-point", "end", "busy", "two")
    assert place.bookmarks()["busy"] == made
    place.must("backup-point", "end", "busy", "one")


def test_an_end_that_comes_too_early(place: Protected) -> None:
    """The last command of a job ran into a time-out, while the job reads on: it finds everything, also what it has not opened yet."""
    place.must("backup-point", "begin", "early", "one")
    numbers = {name: os.stat(place.point("early") / name).st_ino for name in VOLUMES}
    place.must("backup-point", "end", "early", "one", "1h")
    for volume in VOLUMES:
        place.change(volume)
    place.must("backup-point", "begin", "early", "two", status=5)
    place.must("vsnapfs", "prune")
    place.must("vsnapfs", "bookmark", "remove", "early", status=5)
    assert {name: os.stat(place.point("early") / name).st_ino for name in VOLUMES} == numbers
    place.must("backup-point", "end", "early", "one", "1s")

    def begins() -> bool:
        return place.run("backup-point", "begin", "early", "two").returncode == 0

    eventually(begins, "the hold ends, by the clock: nothing is written")
    assert place.bookmarks()["early"].hold_note == "two"
    place.must("backup-point", "end", "early", "two")


def test_what_cannot_begin_leaves_nothing(place: Protected) -> None:
    place.must("backup-point", "begin", "nothing", "one", "--quiesce", "nosuch", status=3)
    place.must("backup-point", "begin", "nothing", "one", env={"VSNAPFS_HOLD": "forever"}, status=2)
    place.must("backup-point", "begin", "nothing", "one", env={"VSNAPFS_REPO": "/nonexistent"}, status=3)
    place.must("backup-point", "end", "nothing", "one", env={"VSNAPFS_REPO": "/nonexistent"}, status=3)
    assert "nothing" not in place.bookmarks()
    place.must("backup-point", "run", "nothing", place.stand, "true", status=3)
    place.must("backup-point", "run", "latest", place.stand, "true", env={"VSNAPFS_MOUNT": "/nonexistent"}, status=3)


def test_a_run_stays_at_its_point(place: Protected) -> None:
    """``latest`` goes on meanwhile, and the bookmark can be neither removed nor pruned."""
    point = place.bookmark("run-0")
    expected = (place.point(point) / "db0").read_bytes()
    command = [
        "backup-point",
        "run",
        "latest",
        str(place.stand),
        "sh",
        "-c",
        "echo; read line; cat db0; pwd >&2; exit 7",
    ]
    with child(
        command, env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == b"\n"
        place.change("db0")
        place.bookmark("run-1")
        place.must("vsnapfs", "bookmark", "remove", point, status=5)
        assert os.listdir(place.stand) == [], "nobody else sees it"
        read, said = running.communicate(b"\n", 30)
        assert read == expected
        assert said.decode().split() == [str(place.stand)]
        assert running.returncode == 7
    assert not place.bookmarks()[point].held


def test_of_two_that_begin_at_once_one_has_it(place: Protected) -> None:
    """And the failure of the other one costs it nothing."""
    begin = ["backup-point", "begin", "both"]
    with ExitStack() as stack:
        jobs = {
            owner: stack.enter_context(child([*begin, owner], env=place.env, stderr=subprocess.PIPE))
            for owner in ("one", "two")
        }
        said = {owner: job.communicate(timeout=60)[1].decode() for owner, job in jobs.items()}
        (winner, loser) = sorted(jobs, key=lambda owner: jobs[owner].returncode)
        assert [jobs[winner].returncode, jobs[loser].returncode] == [0, 5], said
        assert f"held still, for: {winner}" in said[loser]
    assert place.bookmarks()["both"].hold_note == winner
    place.must("backup-point", "end", "both", winner)
    assert "both" not in place.bookmarks()


@contextmanager
def reader(place: Protected, point: str, *, until: str = "read line") -> Iterator[subprocess.Popen[bytes]]:
    """A run that reads, until it gets a line."""
    command = ["backup-point", "run", point, str(place.stand), "sh", "-c", f"echo; {until}"]
    with child(command, env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"\n"
        yield running


def test_the_last_of_several_runs_lets_the_point_go(place: Protected) -> None:
    """borg, restic and tar at once on the newest point: it stays until none of them reads."""
    point = place.bookmark("several")
    with reader(place, point) as first, reader(place, point) as second:
        first.communicate(b"\n", 30)
        assert first.returncode == 0
        assert place.bookmarks()[point].held, "the second reads on"
        second.communicate(b"\n", 30)
    assert not place.bookmarks()[point].held


def test_a_run_goes_on_where_one_was_killed(place: Protected) -> None:
    """What that has held is let go by the next one."""
    point = place.bookmark("killed")
    with reader(place, point) as running:
        running.kill()
        running.communicate(timeout=30)
    held = place.bookmarks()[point]
    assert held.held
    place.at_point(point, "true")
    assert not place.bookmarks()[point].held


def test_a_run_that_is_told_to_end_ends_its_command_and_lets_its_point_go(place: Protected) -> None:
    point = place.bookmark("told")
    with reader(place, point, until="exec sleep 60") as running:
        running.terminate()
        running.communicate(timeout=30)  # to the end of what the command might say: it has ended
        assert running.returncode != 0
    assert not place.bookmarks()[point].held


def test_a_hold_of_somebody_else_is_left_alone(place: Protected) -> None:
    point = place.bookmark("audit")
    place.must("vsnapfs", "bookmark", "hold", point, "--note", "audit")
    before = place.bookmarks()[point]
    place.at_point(point, "true")
    assert place.bookmarks()[point] == before
    assert "held still, for: audit" in place.must("backup-point", "begin", point, "one", status=5)
