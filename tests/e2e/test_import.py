"""Images taken over as new points: only what differs is journalled, and what stood before stays."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.devices import loop_device
from tests.support.processes import Mounted, must, must_json
from vsnapfs.repository.repository import Repository

USAGE, NOT_FOUND, BUSY = 2, 3, 5
BLOCK = 4096

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture
def nightly(tmp_path: Path) -> Path:
    """A repository that only imports write to: volumes ``db`` and ``logs`` as they were on two nights."""
    path = tmp_path / "nightly"
    Repository.create(path)
    db, logs = tmp_path / "db.img", tmp_path / "logs.img"
    db.write_bytes(night(1))
    logs.write_bytes(b"\x01" * MIB)
    must(path, "import", f"db={db}", f"logs={logs}", "--bookmark", "one", "--app", "mysql", "--note", "first night")
    db.write_bytes(night(2))
    must(path, "import", f"db={db}", "--bookmark", "two", "--consistency", "application")
    return path


def night(number: int) -> bytes:
    """4 MiB of which one block is another each night."""
    content = bytearray(random.Random(0).randbytes(2 * MIB) + bytes(2 * MIB))
    content[number * BLOCK : (number + 1) * BLOCK] = random.Random(number).randbytes(BLOCK)
    return bytes(content)


def test_each_night_is_a_point(nightly: Path, tmp_path: Path) -> None:
    one, two = must_json(nightly, "bookmark", "list")["bookmarks"]
    assert (one["name"], one["application"], one["note"], one["consistency"]) == (
        "one",
        "mysql",
        "first night",
        "crash",
    )
    assert (two["name"], two["consistency"]) == ("two", "application")
    with serving(nightly, tmp_path / "mount") as server:
        snaps = server.mountpoint / "snaps"
        assert [(snaps / name / "db").read_bytes() for name in ("one", "two")] == [night(1), night(2)]
        assert (snaps / "one/logs").stat().st_ino == (snaps / "two/logs").stat().st_ino
        assert os.readlink(snaps / "latest") == "two"
    must(nightly, "check", "--read-data")


def test_only_what_differs_is_journalled(nightly: Path, tmp_path: Path) -> None:
    (diff,) = must_json(nightly, "diff", "one", "two", "db")["diffs"]
    assert [(extent["offset_bytes"], extent["length_bytes"]) for extent in diff["extents"]] == [(BLOCK, 2 * BLOCK)]
    before = sum(path.stat().st_size for path in (nightly / "journal").iterdir())
    must(nightly, "import", f"db={tmp_path / 'db.img'}", "--bookmark", "three")
    after = sum(path.stat().st_size for path in (nightly / "journal").iterdir())
    assert after - before <= 4 * BLOCK
    assert must_json(nightly, "diff", "two", "three", "db")["diffs"][0]["extents"] == []


def test_an_image_of_another_size_resizes_the_volume(nightly: Path, tmp_path: Path) -> None:
    for name, content in (("larger", night(3) + b"\x05" * MIB), ("smaller", night(4)[:MIB])):
        (tmp_path / "db.img").write_bytes(content)
        must(nightly, "import", f"db={tmp_path / 'db.img'}", "--bookmark", name)
        must(nightly, "export", name, "db", "--to", tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    must(nightly, "export", "two", "db", "--to", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == night(2)


def test_a_device_can_be_imported(nightly: Path, tmp_path: Path) -> None:
    (tmp_path / "db.img").write_bytes(night(5))
    with loop_device(tmp_path / "db.img", read_only=True) as device:
        must(nightly, "import", f"db={device}", "--bookmark", "from-device")
    must(nightly, "export", "from-device", "db", "--to", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == night(5)


def test_into_a_served_volume_its_users_see_it(repository: Path, server: Mounted, tmp_path: Path) -> None:
    live = server.mountpoint / "live/db"
    assert live.read_bytes() == bytes(4 * MIB)
    (tmp_path / "db.img").write_bytes(night(6))
    must(repository, "import", f"db={tmp_path / 'db.img'}", "--bookmark", "six")
    assert live.read_bytes() == night(6)
    assert (server.mountpoint / "snaps/six/db").read_bytes() == night(6)
    (primary,) = (repository / "primary").glob("*.img")
    assert primary.read_bytes() == night(6)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("db={image}", "--bookmark", "one"), BUSY),
        (("db={image}", "--bookmark", "a/b"), USAGE),
        (("db={image}", "--bookmark", "latest"), USAGE),
        (("db={image}", "a/b={image}", "--bookmark", "new"), USAGE),
        (("db={image}", "logs={missing}", "--bookmark", "new"), NOT_FOUND),
        (("db={image}", "logs={odd}", "--bookmark", "new"), USAGE),
        (("db={image}", "db={image}", "--bookmark", "new"), USAGE),
        (("db", "--bookmark", "new"), USAGE),
        (("--bookmark", "new"), USAGE),
        (("db={image}",), USAGE),
    ],
)
def test_what_cannot_be_imported_changes_nothing(
    nightly: Path, tmp_path: Path, words: tuple[str, ...], status: int
) -> None:
    """Everything is looked at before the first write, the images that are good too."""
    (tmp_path / "db.img").write_bytes(night(9))
    (tmp_path / "odd").write_bytes(bytes(1000))
    paths = {"image": tmp_path / "db.img", "missing": tmp_path / "missing", "odd": tmp_path / "odd"}
    before = [path.read_bytes() for path in sorted((nightly / "journal").iterdir())]
    refused(nightly, status, "import", *(word.format(**paths) for word in words))
    assert [path.read_bytes() for path in sorted((nightly / "journal").iterdir())] == before
