"""docs/story.md: a DELETE without WHERE in a database under load, found by hunt and made good from a branch; nothing else is lost.

PostgreSQL runs on ext4 on a loop device on a live volume, as in test_postgresql.py. Production never stops.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_postgresql import database
from tests.support.attaching import left_behind
from tests.support.devices import sh
from tests.support.postgresql import USER, Cluster, environment, program
from tests.support.processes import Mounted, make_repository, must, must_json
from tests.support.scratch import count
from tests.support.waiting import eventually, nothing_left

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SEED = 20261126
ORDERS = 1000
BOOKMARKS = 8
RATE = 40
"""Transactions a second: what is written between two bookmarks is what a hunt for an instant has to search."""
HUNT_S_MAX = 400.0
FORWARDS = count("VSNAPFS_FORWARDS", 1)
"""2: from a bookmark without a label too."""
QUESTION = f"SELECT count(*) >= {ORDERS} FROM orders"


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-story-", dir="/var/tmp"))
    path.chmod(0o755)
    monkeypatch.setenv("VSNAPFS_RUN", str(path / "run"))
    try:
        yield path
        nothing_left(lambda: left_behind(path))
    finally:
        shutil.rmtree(path)


@contextmanager
def customers(cluster: Cluster) -> Iterator[None]:
    """pgbench at work, which sees no error until it is told to end."""
    command = ["-h", cluster.socket_directory, "-n", "-c", "2", "-R", str(RATE), "-T", "3600", USER]
    with subprocess.Popen(
        [str(program("pgbench")), *map(str, command)], user=USER, group=USER, extra_groups=[], cwd="/",
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield
            assert process.poll() is None, "it ended by itself"
        finally:
            process.kill()
            assert process.stdout is not None
            said = process.stdout.read()
    assert "error" not in said.lower(), said


class Shop:
    """What customers have ordered: orders are numbered, and each is acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.query(f"CREATE TABLE orders AS SELECT generate_series(1, {ORDERS}) AS id; SELECT 1")
        self.acknowledged = set(range(1, ORDERS + 1))

    def order(self) -> None:
        number = max(self.acknowledged) + 1
        self.cluster.query(f"INSERT INTO orders VALUES ({number}) RETURNING id")
        self.acknowledged.add(number)

    def mistake(self) -> str:
        """The WHERE was forgotten. Returns: the transaction."""
        gone = "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT pg_current_xact_id(), count(*) FROM gone"
        transaction, count = self.cluster.query(gone).split("|")
        assert count != "0"
        return transaction

    def orders(self, cluster: Cluster | None = None) -> set[int]:
        found = (cluster or self.cluster).query("SELECT coalesce(string_agg(id::text, ' '), '') FROM orders")
        return set(map(int, found.split()))

    def transactions(self, cluster: Cluster | None = None) -> int:
        return int((cluster or self.cluster).query("SELECT count(*) FROM pgbench_history"))


def history(repository: Path, shop: Shop, rng: random.Random) -> None:
    """Bookmarks as a schedule makes them; after one of them, nobody knows which, the mistake."""
    wrong = rng.randrange(2, BOOKMARKS - 2)
    print(f"seed {SEED}: the mistake is between b{wrong} and b{wrong + 1}")
    for number in range(BOOKMARKS):
        must(repository, "bookmark", "add", f"b{number}")
        before = shop.transactions()
        shop.order()
        eventually(lambda before=before: shop.transactions() > before + 3, "customers at work")  # type: ignore[misc]
        if number == wrong:
            shop.mistake()
            shop.order()


@contextmanager
def attached_branch(repository: Path, ground: Path, name: str, point: str) -> Iterator[Path]:
    """The data directory as it was at a point, on a branch; all is gone afterwards."""
    must(repository, "branch", "add", name, "--from", point)
    try:
        must(repository, "attach", f"branch:{name}", "disk", ground / name, "--read-write")
        try:
            yield ground / name / "cluster"
        finally:
            must(repository, "detach", ground / name)
    finally:
        eventually(lambda: _is_removed(repository, name), "the branch removed")


@contextmanager
def second_server(data: Path, ground: Path, *words: str | Path) -> Iterator[Cluster]:
    sockets = ground / "sockets"
    sockets.mkdir()
    shutil.chown(sockets, USER, USER)
    sh(EXAMPLES / "branch-postgresql", "start", data, sockets, *words, timeout_s=120)
    try:
        yield Cluster(sockets, sockets / "postgresql.log")
    finally:
        sh(EXAMPLES / "branch-postgresql", "stop", data)


def _is_removed(repository: Path, name: str) -> bool:
    """The kernel lets go of the file behind a loop device some time after it was unmounted."""
    try:
        must(repository, "branch", "remove", name)
    except AssertionError as error:
        if "exit 5" not in str(error):
            raise
        return False
    return True


def brought_back(source: Cluster, target: Cluster) -> None:
    """The rows of the table, from the one into the other."""
    rows = source.run("pg_dump", "--data-only", "-t", "orders", USER)
    script = Path(tempfile.mkstemp(suffix=".sql")[1])
    try:
        script.write_text(rows)
        script.chmod(0o644)
        target.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, USER)
    finally:
        script.unlink()


def hunted(repository: Path, ground: Path) -> dict[str, Any]:
    """By a question in SQL, asked of a second server at each point."""
    test = [str(EXAMPLES / "verify-postgresql"), "{}", QUESTION]
    options = ["--good", "b0", "--bad", f"b{BOOKMARKS - 1}", "--volume", "disk", "--mount"]
    options += ["--log", str(ground / "hunt.log")]
    found: dict[str, Any] = json.loads(must(repository, "--json", "hunt", *options, "--", *test, timeout_s=HUNT_S_MAX))
    assert found["state"] == "found", found
    return found


def test_a_delete_without_where(ground: Path) -> None:
    rng = random.Random(SEED)
    repository = make_repository(ground / "repository", disk="400M")
    with Mounted(repository, ground / "mount") as server:
        live = server.mountpoint / "live/disk"
        sh("mkfs.ext4", "-q", live)
        with database(live, ground, "disk") as cluster:
            cluster.run("pgbench", "-i", "-q", "-s", "1", USER)
            shop = Shop(cluster)
            with customers(cluster):
                history(repository, shop, rng)
                assert len(shop.orders()) < ORDERS, "most orders are gone"
                began = time.monotonic()
                found = hunted(repository, ground)
                hunt_s = time.monotonic() - began
                before = shop.transactions()
                began = time.monotonic()
                point = f"@{found['last_good']['seqno']}"
                with (
                    attached_branch(repository, ground, "rescue", point) as data,
                    second_server(data, ground) as rescue,
                ):
                    start_s = time.monotonic() - began
                    assert shop.orders(rescue) | shop.orders() == shop.acknowledged, "every order is in one of the two"
                    assert shop.transactions(rescue) <= before
                    rescue.assert_sound()
                    brought_back(rescue, cluster)
                assert shop.orders() == shop.acknowledged
                eventually(lambda: shop.transactions() > before + 3, "customers at work, still")
                assert shop.transactions() > before, "and nothing of theirs was taken back"
            cluster.assert_sound()
        print(f"{len(found['probes'])} probes in {hunt_s:.1f} s; a second server after {start_s:.1f} s")
        names = [branch["name"] for branch in must_json(repository, "branch", "list")["branches"]]
        assert names == []
    assert must_json(repository, "check", "--read-data")["damages"] == []


BACKUP = """
[[quiesce.shop.members]]
kind = "postgresql"
name = "orders"
mode = "backup"
dsn = "host={} user=postgres dbname=postgres"
"""


def label_of(repository: Path, name: str) -> str:
    """What the bookmark carries, as docs/rollforward.md has jq fetch it."""
    (member,) = must_json(repository, "bookmark", "show", name)["bookmark"]["members"]
    (label,) = [file["text"] for file in member["files"] if file["name"] == "backup_label"]
    return str(label)


@pytest.mark.parametrize("with_label", [True, False][:FORWARDS])
def test_forward_to_just_before_the_bad_transaction(ground: Path, with_label: bool) -> None:
    """From a bookmark that was made while all was well, by the log of a later one; customers are at work all the time."""
    repository = make_repository(ground / "repository", disk="400M")
    (repository / "vsnapfs.toml").write_text(BACKUP.format(ground / "disk.run"))
    with Mounted(repository, ground / "mount") as server:
        live = server.mountpoint / "live/disk"
        sh("mkfs.ext4", "-q", live)
        with database(live, ground, "disk") as cluster:
            cluster.run("pgbench", "-i", "-q", "-s", "1", USER)
            shop = Shop(cluster)
            cluster.query("ALTER SYSTEM SET wal_keep_size = '128MB'")  # so far back the log is in every later point
            cluster.query("SELECT pg_reload_conf()")
            with customers(cluster):
                must(repository, "bookmark", "add", "nightly", *(["--quiesce", "shop"] if with_label else []))
                for _ in range(3):
                    shop.order()
                wanted = set(shop.acknowledged)
                bad = shop.mistake()
                shop.order()
                must(repository, "bookmark", "add", "later")
                words: list[str | Path] = ["--until-xid", bad]
                if with_label:
                    (ground / "label").write_text(label_of(repository, "nightly"))
                    words += ["--label", ground / "label"]
                with (
                    attached_branch(repository, ground, "base", "nightly") as data,
                    attached_branch(repository, ground, "now", "later") as later,
                    second_server(data, ground, "--wal", later / "pg_wal", *words) as forward,
                ):
                    assert shop.orders(forward) == wanted
                    forward.assert_sound()
                    assert ((data / "backup_label.old").exists()) is with_label
