"""docs/backup-software.md: Bacula makes a point, saves it, removes it, and restores it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.applications.bacula import Bacula
from tests.applications.protected import EXAMPLES, VOLUMES, Protected, protected
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]

FAILING = """
Job {
  Name = Failing
  JobDefs = Points
  RunScript {
    RunsWhen = Before
    RunsOnClient = yes
    FailJobOnError = yes
    Command = "/etc/bacula/scripts/bacula-before %j"
  }
  RunScript {
    RunsWhen = Before
    RunsOnClient = yes
    FailJobOnError = yes
    Command = "/etc/bacula/scripts/bacula-before another"
  }
}
"""
"""Its point is made, and then the script fails, since there is one."""
AFTER_BEGIN = """#!/bin/sh
"{examples}/backup-point" "$@" || exit
[ "$1" = begin ] || exit 0
vsnapfs bookmark add "kept-$3" --at "$2"
dd if=/dev/urandom of="$VSNAPFS_MOUNT/live/db1" bs=4K count=1 conv=notrunc,fsync status=none
second=$(date +%s)
while [ "$(date +%s)" = "$second" ]; do sleep 0.1; done
"""
"""The point gets a second name, so that there is something to compare with, and db1 is written to before the job begins to save: in an
earlier second, since Bacula knows nothing smaller."""


@pytest.fixture
def place() -> Iterator[Protected]:
    with protected() as place:
        script = place.ground / "bin/backup-point"
        script.write_text(AFTER_BEGIN.format(examples=EXAMPLES))
        script.chmod(0o755)
        yield place


def kept(place: Protected) -> str:
    """The name that the last point has beside."""
    names = [bookmark.name for bookmark in place.bookmarks().values() if bookmark.name.startswith("kept-")]
    return names[-1]


def restore(place: Protected, bacula: Bacula) -> None:
    job = bacula.run(f"restore client=backup-fd where={bacula.restored} select current all done yes")
    assert (job.name, job.status) == ("Restore", "T"), bacula.log
    place.dig_holes(bacula.restored_point)
    place.assert_restored(bacula.restored_point, kept(place), manifest=False)
    shutil.rmtree(bacula.restored)


def test_bacula(place: Protected) -> None:
    bacula = Bacula(place)
    bacula.configure(FAILING)
    with bacula:
        job = bacula.run("run job=Points yes")
        assert (job.level, job.status) == ("F", "T"), bacula.log
        assert bacula.files() == {"MANIFEST.json", *VOLUMES}
        data = sum((place.point(kept(place)) / volume).stat().st_blocks * 512 for volume in VOLUMES)
        assert data < job.size_bytes < 3 * data, "zeros are not stored, in pieces of 64 KiB as Bacula reads them"

        job = bacula.run("run job=Points yes")
        assert (job.level, job.status) == ("I", "T"), bacula.log
        assert bacula.files() == {"MANIFEST.json", "db1"}, "what was written between the first point and its save"
        restore(place, bacula)

        job = bacula.run("run job=Failing yes")
        assert (job.files, job.status) == (0, "f"), bacula.log
        eventually(lambda: "Job=Failing" in bacula.log, "the last job's end")
        assert "bookmark bacula is held still, for: Failing" in bacula.log
        assert bacula.log.count("ClientAfterJob: removed bookmark bacula") == 3, bacula.log
    assert "bacula" not in place.bookmarks()
