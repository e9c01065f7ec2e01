"""PostgreSQL, MariaDB and an ext4 on three live volumes of one repository, with load, and bookmarks at which they stand still.

A writer goes in lock step: it inserts n into PostgreSQL, then n into MariaDB, then writes n to a file of the ext4, and only
then commits n in PostgreSQL. PostgreSQL is frozen first and waits for that commit, so at every bookmark all three have the
same n. Another one inserts n into PostgreSQL, and when that was answered into MariaDB: there PostgreSQL has the same n, or
one more. Then it inserts n into a table of MariaDB that knows no transactions, which has as many or one less where its filesystem is
frozen too. pgbench and writers of transfers work beside them.

Neither server writes a commit out before it answers: it is the member that has to see to that.

Each bookmark is opened on a copy. The servers have to come up with no more recovery than their mode leaves them.

python -m tests.applications.quiesced --count 100 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.play import ground
from tests.applications.postgresql import PostgreSQL
from tests.applications.quiesced_site import VOLUMES, Site, Stepper, make_beside
from tests.applications.session import closing
from tests.applications.writers import Writers
from tests.support.devices import sh
from tests.support.postgresql import program
from tests.support.processes import must, must_json

PER_REPOSITORY = 20
PAUSE_S_MAX = 0.5
LATER = "later"
"""A bookmark without a profile, after all others."""
POSTGRESQL_MAY_SAY = re.compile(
    "starting PostgreSQL|listening on|database system (was interrupted; last known up|was not properly shut down|is ready)"
    "|redo (starts|done) at|redo is not required|invalid record length at|checkpoint (starting|complete): (end-of-recovery|force|wal|time)"
    "|record with incorrect prev-link|checkpoint complete|restartpoint|unexpected pageaddr|invalid magic number"
    "|incorrect resource manager data checksum|invalid resource manager ID|invalid contrecord length|there is no contrecord flag"
    "|contrecord is requested|missing contrecord|invalid record offset|record length .* too long|invalid info bits|out-of-sequence timeline"
)
"""Recovery from the last checkpoint to the end of the log, which it meets in one of several ways."""
MARIADB_MUST_NOT_SAY = re.compile(r"\[ERROR\]|crashed|repair|corrupt|Recovering after a crash using", re.IGNORECASE)


class Told(NamedTuple):
    bookmarks: int
    failed: int
    steps: int
    still_ms_max: int
    """The longest that PostgreSQL was frozen for a bookmark."""


class Play:
    """Bookmarks of one repository."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._rng = random.Random(seed)
        self._made: dict[str, tuple[str, float]] = {}
        """Of each bookmark its profile, and when it was asked for."""

    def work(self, count: int) -> int:
        """Make the bookmarks while everybody works. Returns: how many steps were made."""
        site = self._site
        with closing(site.postgresql.session("postgres")) as session:
            session.ask("ALTER SYSTEM SET wal_keep_size = '64MB'; SELECT 0;")
            session.ask("SELECT pg_reload_conf();")
        with closing(site.mariadb.session("books")) as session:
            session.ask("CREATE TABLE plain (n int PRIMARY KEY) ENGINE=MyISAM; SELECT 0;")
            session.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 0; SELECT 0;")
        steppers = [
            Stepper(site.postgresql, site.mariadb, site.counter, "steps"),
            Stepper(site.postgresql, site.mariadb, None, "loose"),
        ]
        writers = [Writers(2, self._rng.randrange(2**32)) for _ in range(2)]
        try:
            for stepper in steppers:
                stepper.start()
            for crew, application in zip(writers, (site.postgresql, site.mariadb), strict=True):
                crew.start(application)
                application.begin_load()
            for number in range(count):
                self._bookmark(number)
                for stepper in steppers:
                    stepper.wait()
                for crew in writers:
                    crew.wait_for_each()
            must(site.repository, "bookmark", "add", LATER)
            site.postgresql.end_load()
            for crew in writers:
                crew.stop()
            return sum(stepper.done for stepper in steppers)
        finally:
            for stepper in steppers:
                stepper.stop()
            for crew in writers:
                crew.kill()

    def _bookmark(self, number: int) -> None:
        threading.Event().wait(self._rng.uniform(0, PAUSE_S_MAX))
        name, profile = f"mark-{number}", ("checkpoint", "backup")[number % 2]
        asked = time.time()
        must(self._site.repository, "bookmark", "add", name, "--quiesce", profile, timeout_s=300)
        self._made[name] = profile, asked

    def failed(self) -> tuple[int, int]:
        """Open each. Returns: how many are not as they have to be; the longest, in ms, that PostgreSQL stood still."""
        shown = {b["name"]: b for b in must_json(self._site.repository, "bookmark", "list")["bookmarks"]}
        wrong = 0
        for name in self._made:
            try:
                self._look_at(shown[name])
            except Exception:  # noqa: BLE001  told and counted, and the next one is opened
                traceback.print_exc()
                print(f"bookmark {name} is not right", file=sys.stderr, flush=True)
                wrong += 1
        for name in [name for name, (profile, _) in self._made.items() if profile == "backup"][-1:]:
            self._start_by_label(shown[name])
        return wrong, max(_still_ms(shown[name]) for name in self._made)

    def _look_at(self, bookmark: dict[str, Any]) -> None:
        assert bookmark["consistency"] == "filesystem", bookmark  # of the ext4, the weakest
        assert all(m["outcome"] == "frozen" and not m["error"] for m in bookmark["members"]), bookmark
        profile, asked = self._made[bookmark["name"]]
        files = [file["name"] for file in bookmark["members"][0]["files"]]
        assert files == (["backup_label"] if profile == "backup" else []), bookmark
        with self._site.opened(bookmark["name"], *VOLUMES) as copies:
            self._start(copies, asked, plain=profile == "backup")

    def _start(self, copies: Path, asked: float, *, plain: bool) -> None:
        beside = copies / "beside"
        make_beside(beside)
        postgresql = PostgreSQL(copies / "postgresql/application", beside)
        mariadb = MariaDB(copies / "mariadb/application", beside)
        _assert_checkpoint_since(postgresql.directory, asked)
        try:
            for application in (postgresql, mariadb):
                application.start()
            _assert_little_said(postgresql, mariadb)
            n = _steps(postgresql, "steps")
            assert n > 0
            assert (n, int((copies / "files/counter").read_text())) == (_steps(mariadb, "steps"),) * 2
            assert _steps(postgresql, "loose") - _steps(mariadb, "loose") in (0, 1)
            if plain:
                assert _steps(mariadb, "loose") - _steps(mariadb, "plain") in (0, 1)
            else:
                _drop(mariadb, "plain")
            for application in (postgresql, mariadb):
                _assert_sums(application)
            mariadb.assert_sound()
            for application in (postgresql, mariadb):
                application.stop()
        finally:
            for application in (postgresql, mariadb):
                application.kill()

    def _start_by_label(self, bookmark: dict[str, Any]) -> None:
        """As docs/quiesce-databases.md says, with the log of a later point."""
        site = self._site
        with site.opened(bookmark["name"], "postgresql") as copies, site.opened(LATER, "postgresql") as later:
            directory, beside = copies / "postgresql/application", copies / "beside"
            make_beside(beside)
            sh("cp", "-a", f"{later}/postgresql/application/pg_wal/.", directory / "pg_wal")
            for file in bookmark["members"][0]["files"]:
                path = directory / file["name"]
                path.write_text(file["text"])
                shutil.chown(path, PostgreSQL.user, PostgreSQL.group)
            postgresql = PostgreSQL(directory, beside)
            try:
                postgresql.start()
                assert (directory / "backup_label.old").exists()
                _assert_sums(postgresql)
                postgresql.stop()
            finally:
                postgresql.kill()


def _still_ms(bookmark: dict[str, Any]) -> int:
    first = bookmark["members"][0]
    frozen, thawed = (datetime.fromisoformat(first[key][:26]) for key in ("frozen", "thawed"))
    return int((thawed - frozen).total_seconds() * 1000)


def _assert_checkpoint_since(directory: Path, asked: float) -> None:
    """Recovery begins with a checkpoint that was made for this bookmark."""
    said = sh("env", "TZ=UTC", "LC_ALL=C", program("pg_controldata"), directory)
    found = re.search(r"^Time of latest checkpoint:\s+(.+)$", said, re.MULTILINE)
    assert found is not None, said
    at = datetime.strptime(found[1], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    assert at.timestamp() >= int(asked), f"the last checkpoint was at {at}, the bookmark asked for at {asked}:\n{said}"
    assert re.search(r"^Database cluster state:\s+in production$", said, re.MULTILINE), said


def _assert_little_said(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    for line in postgresql._cluster.log.splitlines():
        text = line.partition("LOG:  ")[2]
        assert text or line.startswith("\t") or "FATAL:  the database system is starting up" in line, (
            postgresql._cluster.log
        )
        assert not text or POSTGRESQL_MAY_SAY.match(text), f"{text!r} in\n{postgresql._cluster.log}"
    assert not MARIADB_MUST_NOT_SAY.search(mariadb.log), mariadb.log


def _steps(application: Application, table: str) -> int:
    """How many there are: all from 1 on."""
    with closing(application.session(application.books[0])) as session:
        found = session.ask(f"SELECT count(*), coalesce(max(n), 0) FROM {table};")
    assert found[0] == found[1], f"{table}: count and last are {found}"
    return int(found[0])


def _drop(application: Application, table: str) -> None:
    with closing(application.session(application.books[0])) as session:
        session.ask(f"DROP TABLE {table}; SELECT 0;")


def _assert_sums(application: Application) -> None:
    with closing(application.session(application.books[0])) as session:
        sums = session.ask(application.sums())
    assert len(set(sums)) == 1, f"sums of accounts, tellers, branches, history are {sums}"


def play(count: int, seed: int) -> Told:
    """Raises: AssertionError: somebody noticed what must not be noticed, or a bookmark could not be made."""
    with ground() as directory, Site(directory) as site:
        try:
            acts = Play(site, seed)
            steps = acts.work(count)
            site.detach()
            failed, still_ms = acts.failed()
            site.stop()
        except BaseException:
            print(site.log, file=sys.stderr)
            raise
    return Told(count, failed, steps, still_ms)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.applications.quiesced")
    parser.add_argument("--count", type=int, default=4, help="bookmarks, of as many repositories as it takes")
    parser.add_argument("--seed", type=int, default=1, help="of the first repository; the next one has the next")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # everything is cleaned up then too
    began, told = time.monotonic(), []
    for number, start in enumerate(range(0, given.count, PER_REPOSITORY)):
        seed, count = given.seed + number, min(PER_REPOSITORY, given.count - start)
        try:
            told.append(play(count, seed))
        except Exception:  # noqa: BLE001  told, counted, and the next repository is played
            traceback.print_exc()
            told.append(Told(0, count, 0, 0))
        print(f"seed {seed}: {told[-1]}", file=sys.stderr, flush=True)
        if told[-1].failed:
            print(f"repeat: {parser.prog} --count {count} --seed {seed}", file=sys.stderr, flush=True)
    failures = sum(one.failed for one in told)
    last_line = {
        "harness": "quiesced", "seed": given.seed, "bookmarks": sum(one.bookmarks for one in told), "failures": failures,
        "seconds": round(time.monotonic() - began, 1), "steps": sum(one.steps for one in told),
        "still_ms_max": max(one.still_ms_max for one in told),
    }  # fmt: skip
    print(json.dumps(last_line))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
