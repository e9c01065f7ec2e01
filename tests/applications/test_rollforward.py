"""docs/examples/branch-postgresql and verify-postgresql: a copy of a running server goes on to just before a bad transaction.

The copies stand for what branches show: the base for an application-consistent bookmark, the log for that of a later point.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.applications.application import Application
from tests.applications.servers import frozen, load, of_postgresql
from tests.applications.session import closing
from tests.support.postgresql import USER, Cluster, environment

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ORDERS = 500
MORE = 70
WRONG_USAGE, NOT_FOUND, BUSY = 2, 3, 5


def example(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(
        command, cwd="/", env=environment(), capture_output=True, text=True, timeout=400, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


class History(NamedTuple):
    """base: a copy in backup mode. later: the log of after the accident. xid, time: of the bad transaction."""

    base: Path
    label: Path
    later: Path
    xid: str
    time: str


def copied(source: Path, target: Path) -> None:
    """Of files that change meanwhile, or are gone when it comes to them."""
    done = subprocess.run(
        ["rsync", "-a", "--ignore-times", f"{source}/", str(target)], check=False, capture_output=True, text=True
    )
    assert done.returncode in (0, 24), done.stderr


@pytest.fixture
def history(postgresql: Application) -> Iterator[History]:
    ground = postgresql.directory.with_name("history")
    ground.mkdir()
    shutil.chown(ground, USER, USER)
    member = of_postgresql(postgresql, mode="backup")
    try:
        with load(postgresql), closing(postgresql.session("postgres")) as session:
            session.ask("ALTER SYSTEM SET wal_keep_size = '512MB'; SELECT 0;")  # the log stays until it is copied
            session.ask("SELECT pg_reload_conf();")
            session.ask(f"CREATE TABLE orders AS SELECT generate_series(1, {ORDERS}) AS id; SELECT 0;")
            with frozen(member):
                copied(postgresql.directory, ground / "base")
            (ground / "label").write_text(member.files[0].text)
            session.ask(
                f"INSERT INTO orders SELECT generate_series({ORDERS + 1}, {ORDERS + MORE}); SELECT pg_switch_wal();"
            )
            xid, time = session.ask(
                "BEGIN; DELETE FROM orders; SELECT pg_current_xact_id(), clock_timestamp(); COMMIT;"
            )
            session.ask("INSERT INTO orders VALUES (0); SELECT pg_switch_wal();")
            copied(postgresql.directory / "pg_wal", ground / "later")
            yield History(ground / "base", ground / "label", ground / "later", xid, time)
    finally:
        with closing(postgresql.session("postgres")) as session:
            session.ask("ALTER SYSTEM RESET wal_keep_size; SELECT 0;")
            session.ask("DROP TABLE IF EXISTS orders; SELECT pg_reload_conf();")
        shutil.rmtree(ground)


@contextmanager
def started(data: Path, *words: str | Path) -> Iterator[Cluster]:
    sockets = data.with_name("sockets")
    sockets.mkdir()
    shutil.chown(sockets, USER, USER)
    try:
        done = example("branch-postgresql", "start", data, sockets, *words)
        log = sockets / "postgresql.log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
        try:
            yield Cluster(sockets, log)
        finally:
            assert example("branch-postgresql", "stop", data).returncode == 0
    finally:
        shutil.rmtree(sockets)


@pytest.mark.parametrize("target", ["xid", "time"])
def test_to_just_before_the_bad_transaction(history: History, target: str) -> None:
    """What was written between the bookmark and the accident is there, and what the accident did is not."""
    until = ["--until-xid", history.xid] if target == "xid" else ["--until-time", history.time]
    with started(history.base, "--label", history.label, "--wal", history.later, *until) as cluster:
        found = cluster.query("SELECT count(*), min(id), max(id) FROM orders")
        assert found == f"{ORDERS + MORE}|1|{ORDERS + MORE}", cluster.log
        cluster.assert_sound()
        cluster.query("INSERT INTO orders VALUES (-1); SELECT 1")


def test_without_a_target_to_the_end_of_the_log(history: History) -> None:
    with started(history.base, "--label", history.label, "--wal", history.later) as cluster:
        again = example("branch-postgresql", "start", history.base, history.base.parent)
        assert again.returncode == BUSY, "nobody takes away the lock of a server that runs"
        assert "a server runs on" in again.stderr
        assert cluster.query("SELECT count(*), min(id) FROM orders") == "1|0"


def test_a_log_that_does_not_reach_there_is_told(history: History, tmp_path: Path) -> None:
    """It does not stop short on the quiet."""
    sockets = history.base.with_name("other-sockets")
    sockets.mkdir()
    shutil.chown(sockets, USER, USER)
    words: list[str | Path] = ["--label", history.label, "--wal", history.later]
    words += ["--until-time", "2199-01-01 00:00:00+00"]
    done = example("branch-postgresql", "start", history.base, sockets, *words)
    assert done.returncode == 1
    assert "before configured recovery target was reached" in done.stderr


def test_a_question_to_a_copy(postgresql: Application, tmp_path: Path) -> None:
    """As the command of a verification, or the test of a hunt. A copy without any log of later recovers as after a power cut."""
    volume = postgresql.directory.with_name("volume")
    volume.mkdir()
    try:
        with closing(postgresql.session("postgres")) as session:
            session.ask("CREATE TABLE few AS SELECT generate_series(1, 7); SELECT 0;")
            member = of_postgresql(postgresql)
            with frozen(member):
                copied(postgresql.directory, volume / "data")  # nobody writes: it is of one moment
            session.ask("DROP TABLE few; SELECT 0;")
        assert example("verify-postgresql", volume, "SELECT count(*) = 7 FROM few").returncode == 0
        wrong = example("verify-postgresql", volume, "SELECT count(*) FROM few", "8")
        assert (wrong.returncode, wrong.stdout.splitlines()[-1]) == (1, "the answer is 7, not 8")
        assert example("verify-postgresql", volume, "SELECT nonsense").returncode != 0
        (volume / "data/global/pg_control").write_bytes(bytes(8192))
        assert example("verify-postgresql", volume, "SELECT true").returncode == 1
        shutil.rmtree(volume / "data")
        assert example("verify-postgresql", volume, "SELECT true").returncode == 1
    finally:
        shutil.rmtree(volume, ignore_errors=True)


def test_what_makes_no_sense(tmp_path: Path) -> None:
    assert example("branch-postgresql").returncode == WRONG_USAGE
    assert example("branch-postgresql", "start", tmp_path, tmp_path).returncode == NOT_FOUND
    (tmp_path / "PG_VERSION").write_text("15\n")
    for words in (["--until-xid", "7"], ["--label", "x"], ["--until-xid"], ["--until-whatever", "x"]):
        done = example("branch-postgresql", "start", tmp_path, tmp_path, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (WRONG_USAGE, 1), done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "PG_VERSION"], "nothing was touched"
