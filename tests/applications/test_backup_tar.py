"""docs/backup-software.md: GNU tar and dd on points."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.applications.protected import SIZE_BYTES, VOLUMES, Protected
from tests.support.devices import sh
from tests.support.files import opened
from tests.support.processes import child
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

TAPE_BYTES = 1000 << 10
"""A multiple of what tar writes at once."""


def names_in(archive: Path) -> list[str]:
    return sh("tar", "--list", "-f", archive).split()


def fresh(place: Protected, name: str) -> Path:
    path = place.ground / name
    path.mkdir()
    return path


def data_bytes(place: Protected, point: str) -> int:
    return sum((place.point(point) / volume).stat().st_blocks * 512 for volume in VOLUMES)


def test_over_several_tapes(place: Protected) -> None:
    """Data alone is written, in as many pieces as it needs; they are listed and extracted by tar alone."""
    point, tapes, restored = place.bookmark("tapes"), fresh(place, "tapes.1"), fresh(place, "from-tapes")
    archive = "points.2026-11-26.tar"
    several = ["--multi-volume", "--new-volume-script=tar-next-volume", f"--file={tapes}/{archive}"]
    snaps = place.mountpoint / "snaps"
    place.must("tar", "--create", "--sparse", f"--tape-length={TAPE_BYTES >> 10}", *several, "-C", snaps, point)
    pieces = sorted(tapes.iterdir())
    total = sum(piece.stat().st_size for piece in pieces)
    assert max(piece.stat().st_size for piece in pieces) <= TAPE_BYTES
    assert len(pieces) == -(-total // TAPE_BYTES) > 3
    assert [piece.name for piece in pieces] == [archive, *(f"{archive}.{n}" for n in range(2, len(pieces) + 1))]
    assert data_bytes(place, point) < total < data_bytes(place, point) + (64 << 10)
    listed = place.must("tar", "--list", *several).split()
    assert listed == [f"{point}/", *(f"{point}/{name}" for name in os.listdir(snaps / point))]
    place.must("tar", "--extract", "--sparse", *several, "-C", restored)
    place.assert_restored(restored / point, point)


def test_what_changed_since_the_last_dump(place: Protected) -> None:
    """Exactly that; restored in order it is each of the points."""
    snapshot, dumps = place.ground / "snapshot", fresh(place, "dumps")
    changes = [[], ["db1"], [], ["db0", "logs"]]
    points = []
    for number, changed in enumerate(changes):
        for volume in changed:
            place.change(volume)
        points.append(place.bookmark(f"dump-{number}"))
        place.at_point("latest", "tar-incremental", snapshot, dumps / f"{number}.tar")
    assert names_in(dumps / "0.tar") == ["MANIFEST.json", *VOLUMES]
    for number in (1, 2, 3):
        assert names_in(dumps / f"{number}.tar") == ["MANIFEST.json", *changes[number]]
    restored = fresh(place, "from-dumps")
    for number, point in enumerate(points):
        place.must("tar", "-x", "-S", "--listed-incremental=/dev/null", "-f", dumps / f"{number}.tar", "-C", restored)
        place.assert_restored(restored, point)


def test_what_is_written_between_the_point_and_the_dump_is_in_the_next(place: Protected) -> None:
    """By its own notes tar would leave it out: it notes when it began, and the write was before that."""
    snapshot = place.ground / "between"
    place.bookmark("between-0")
    place.change("logs")
    place.must("tar-incremental", snapshot, place.ground / "between-0.tar", cwd=place.point("between-0"))
    place.bookmark("between-1")
    place.must("tar-incremental", snapshot, place.ground / "between-1.tar", cwd=place.point("between-1"))
    assert names_in(place.ground / "between-1.tar") == ["MANIFEST.json", "logs"]


def test_a_point_before_the_last_one_is_refused(place: Protected) -> None:
    snapshot, archive = place.ground / "backwards", place.ground / "backwards.tar"
    place.bookmark("earlier")
    place.change("db0")
    place.bookmark("later")
    place.must("tar-incremental", snapshot, archive, cwd=place.point("later"))
    before = snapshot.read_bytes()
    said = place.must("tar-incremental", snapshot, place.ground / "no.tar", cwd=place.point("earlier"), status=1)
    assert "before the last one" in said
    assert snapshot.read_bytes() == before
    assert not (place.ground / "no.tar").exists()


def test_a_dump_that_failed_counts_for_nothing(place: Protected) -> None:
    snapshot = place.ground / "failed"
    place.bookmark("whole")
    place.must("tar-incremental", snapshot, place.ground / "whole.tar", cwd=place.point("whole"))
    before = snapshot.read_bytes()
    place.change("db1")
    place.bookmark("broken")
    place.must("tar-incremental", snapshot, "/dev/full", cwd=place.point("broken"), status=2)
    assert snapshot.read_bytes() == before
    place.must("tar-incremental", snapshot, place.ground / "again.tar", cwd=place.point("broken"))
    assert names_in(place.ground / "again.tar") == ["MANIFEST.json", "db1"]


def test_two_dumps_do_not_take_each_others_notes(place: Protected) -> None:
    """A full one may take longer than until the next one's turn."""
    snapshot, pipe = place.ground / "two", place.ground / "pipe"
    os.mkfifo(pipe)
    point = place.point(place.bookmark("two"))
    with child(["tar-incremental", str(snapshot), str(pipe)], env=place.env, cwd=point), pipe.open("rb") as slow:
        place.must("tar-incremental", snapshot, place.ground / "two.tar", cwd=point, status=5)
        assert len(slow.read()) > data_bytes(place, point.name)
        eventually(snapshot.exists, "the first one goes on")


def test_the_directory_of_a_bookmark_is_a_new_one_for_tar(place: Protected) -> None:
    """Which is why the volumes are named: of a directory that is new everything is taken."""
    command = ["tar", "-c", "-S", f"--listed-incremental={place.ground}/directory", "--no-check-device", "-f"]
    for number in (0, 1):
        point = place.bookmark(f"directory-{number}")
        place.must(*command, place.ground / f"directory-{number}.tar", "-C", place.point(point), ".")
    assert set(VOLUMES) <= {os.path.basename(name) for name in names_in(place.ground / "directory-1.tar")}


@pytest.mark.parametrize("flags", ["iflag=fullblock", "iflag=direct"])
def test_dd(place: Protected, flags: str) -> None:
    """A raw image, sparse, on the medium when dd ends."""
    point = place.bookmark(f"dd-{flags.partition('=')[2]}")
    restored = fresh(place, f"from-{point}")
    for name in os.listdir(place.point(point)):
        place.must(
            "dd", f"if={place.point(point)}/{name}", f"of={restored}/{name}", "bs=64K", "conv=sparse,fsync", *[flags] * (name in VOLUMES)
        )  # fmt: skip
    place.assert_restored(restored, point)


def test_a_link_that_moves_while_it_is_read(place: Protected) -> None:
    """``latest`` is another bookmark by then; who has a directory of a point open stays in it."""
    place.bookmark("moves-0")
    with opened(place.mountpoint / "snaps/latest", os.O_RDONLY | os.O_DIRECTORY) as directory:
        numbers = {name: os.stat(name, dir_fd=directory).st_ino for name in VOLUMES}
        for volume in VOLUMES:
            place.change(volume)
        place.bookmark("moves-1")
        assert os.readlink(place.mountpoint / "snaps/latest") == "moves-1"
        assert {name: os.stat(name, dir_fd=directory).st_ino for name in VOLUMES} == numbers
        fd = os.open("db0", os.O_RDONLY, dir_fd=directory)
        with open(fd, "rb") as file:
            assert (
                file.read()
                == (place.point("moves-0") / "db0").read_bytes()
                != (place.point("moves-1") / "db0").read_bytes()
            )
            assert file.tell() == SIZE_BYTES
