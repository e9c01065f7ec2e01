"""docs/examples/backup-point: a point is there as long as somebody reads it, whatever a backup program says and when."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack

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


def test_a_run_stays_at_its_point(place: Protected) -> None:
    """``latest`` goes on meanwhile, and the bookmark can be neither removed nor pruned."""
    point = place.bookmark("run-0")
    expected = (place.point(point) / "db0").read_bytes()
    place.stand.mkdir(exist_ok=True)
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


def test_a_run_that_is_told_to_end_lets_its_point_go(place: Protected) -> None:
    point = place.bookmark("told")
    place.stand.mkdir(exist_ok=True)
    command = ["backup-point", "run", point, str(place.stand), "sh", "-c", "echo; exec sleep 600"]
    with child(command, env=place.env, stdout=subprocess.PIPE, start_new_session=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"\n"
        assert place.bookmarks()[point].held
        os.killpg(running.pid, signal.SIGTERM)
        assert running.wait(30) != 0
        running.stdout.close()
    assert not place.bookmarks()[point].held


def test_a_hold_of_somebody_else_is_left_alone(place: Protected) -> None:
    point = place.bookmark("audit")
    place.must("vsnapfs", "bookmark", "hold", point, "--note", "audit")
    before = place.bookmarks()[point]
    place.at_point(point, "true")
    assert place.bookmarks()[point] == before
    assert "held still, for: audit" in place.must("backup-point", "begin", point, "one", status=5)
