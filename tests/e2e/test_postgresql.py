"""PostgreSQL on ext4 on a loop device on a live volume, at full speed: killed workers go unnoticed, bookmarks are sound.

Each bookmark is a moment at which the power could have failed: a copy of it is mounted, PostgreSQL recovers on it, and
its tables, indexes and sums are right. VSNAPFS_WORKER_KILLS says how many workers are killed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.devices import loop_device, mounted, sh
from tests.support.keeper import Killing, Workers, kills
from tests.support.postgresql import USER, Cluster, make_cluster, running
from tests.support.processes import Mounted, make_repository, must, must_json

KILLS = kills(6)
BOOKMARKS_MAX = 20
PGBENCH_S = 3
BAD = re.compile("ERROR(?!:  canceling autovacuum task)|FATAL|PANIC|could not|lost")
"""An autovacuum gives way to whoever changes its table, as the making of a key does."""

pytestmark = [
    pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(180 + 20 * KILLS)
]  # fmt: skip


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-postgresql-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def database(image: Path, ground: Path, name: str) -> Iterator[Cluster]:
    """The cluster that an image's filesystem holds, running."""
    beside = ground / f"{name}.run"
    beside.mkdir()
    shutil.chown(beside, USER, USER)
    with loop_device(image) as device, mounted(device, ground / name, options="errors=remount-ro") as disk:
        if not (disk / "cluster").exists():
            make_cluster(disk / "cluster")
        with running(disk / "cluster", beside) as cluster:
            yield cluster
        assert (Path("/sys/fs/ext4") / device.name / "errors_count").read_text() == "0\n"
    shutil.rmtree(beside)


def work(cluster: Cluster) -> int:
    """Let four clients work; nothing may fail. Returns: transactions done."""
    said = cluster.run("pgbench", "-c", "4", "-j", "2", "-n", "-T", str(PGBENCH_S), USER)
    assert not BAD.search(said), said
    found = re.search(r"number of transactions actually processed: (\d+)", said)
    assert found is not None, said
    return int(found[1])


def check_copy(shown: Path, ground: Path) -> None:
    """What a bookmark shows, recovered by ext4 and PostgreSQL on a copy, is sound."""
    copy = ground / "copy.img"
    sh("cp", "--sparse=always", shown, copy)
    copy.chmod(0o600)
    with database(copy, ground, "copy") as cluster:
        cluster.assert_sound()
    sh("e2fsck", "-fn", copy)
    copy.unlink()


def test_pgbench_sees_no_error_and_every_bookmark_is_sound(ground: Path) -> None:
    repository = make_repository(ground / "repository", disk="600M")
    workers = Workers(repository, seed=7)
    bookmarks: list[str] = []

    def mark(number: int) -> None:
        if number % max(KILLS // BOOKMARKS_MAX, 1) == 0:
            bookmarks.append(f"after-{number}")
            must(repository, "bookmark", "add", bookmarks[-1])

    with Mounted(repository, ground / "mount") as server:
        live = server.mountpoint / "live/disk"
        sh("mkfs.ext4", "-q", live)
        with database(live, ground, "disk") as cluster:
            cluster.run("pgbench", "-i", "-q", "-s", "3", USER)
            transactions, going = 0, True
            with Killing(workers, KILLS, after_s_max=1.0, after_each=mark) as killing:
                while going:
                    going = killing.going
                    transactions += work(cluster)
            cluster.assert_sound()
            assert not BAD.search(cluster.log), cluster.log
        must(repository, "bookmark", "add", "end", "--consistency", "application")
        for bookmark in (*bookmarks, "end"):
            check_copy(server.mountpoint / "snaps" / bookmark / "disk", ground)
    assert must_json(repository, "check", "--read-data")["damages"] == []
    print(f"{workers}; {transactions} transactions, {len(bookmarks)} bookmarks")
