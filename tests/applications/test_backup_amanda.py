"""docs/backup-software.md: Amanda checks, makes a point, dumps it to a tape that is a directory, removes it, and gives it back."""

from __future__ import annotations

import pytest

from tests.applications.amanda import Amanda
from tests.applications.protected import VOLUMES, protected

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]

SETTINGS = """
[mount]
allow_other = true
gid = 34
[control]
socket = "{socket}"
read = ["backup"]
bookmark = ["backup"]
delete = ["backup"]
"""


def test_amanda() -> None:
    with protected(settings=SETTINGS) as place, Amanda(place) as amanda:
        place.bookmark("same")
        amanda.run("amcheck", amanda.name)
        place.must(*amanda.point("PRE-DLE-BACKUP"))
        assert "amanda is held still" in amanda.run("amcheck", "-c", amanda.name, status=1)
        assert set(place.bookmarks()) == {"same", "amanda"}, "a check takes nothing away from a dump"
        place.must(*amanda.point("POST-DLE-BACKUP"))

        amanda.run("amdump", amanda.name)
        report = amanda.report()
        assert "FAIL" not in report, report
        assert "STRANGE" not in report, report
        assert set(place.bookmarks()) == {"same"}, "its own is gone"
        assert len(amanda.tapes()) == 1
        data = sum((place.point("same") / volume).stat().st_blocks * 512 for volume in VOLUMES)
        assert data < amanda.tapes()[0].stat().st_size < data + (128 << 10)

        archive, restored = place.ground / "fetched.tar", place.ground / "restored"
        restored.mkdir()
        amanda.run("amfetchdump", "-a", "-p", amanda.name, "localhost", amanda.name, output=archive)
        place.must("tar", "-x", "-S", "--listed-incremental=/dev/null", "-f", archive, "-C", restored)
        place.assert_restored(restored, "same", manifest=False)
