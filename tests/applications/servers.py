"""Running servers of PostgreSQL and MariaDB, with load, and members that speak to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.postgresql import PostgreSQL
from tests.applications.session import closing
from tests.applications.writers import Writers
from tests.support.processes import children_of, stand_still
from tests.support.waiting import eventually
from vsnapfs.policy.profiles import MariaDBSettings, PostgreSQLSettings
from vsnapfs.quiesce.mariadb import MariaDBMember
from vsnapfs.quiesce.member import Member, Occasion
from vsnapfs.quiesce.postgresql import PostgreSQLMember

OCCASION = Occasion(repository="/repository", profile="all", bookmark="mark", deadline_s=10.0)
AMPLE_S = 60.0
SHORT_S = 1.5


@contextlib.contextmanager
def running(make: type[Application]) -> Iterator[Application]:
    ground = Path(tempfile.mkdtemp(prefix="vsnapfs-members-", dir="/var/tmp"))
    ground.chmod(0o755)
    beside = ground / "beside"
    beside.mkdir()
    shutil.chown(beside, make.user, make.group)
    shutil.chown(ground, make.user, make.group)
    application = make(ground / "directory", beside)
    try:
        application.make()
        application.start()
        application.fill()
        yield application
    finally:
        application.kill()
        shutil.rmtree(ground)


def settings_of_postgresql(server: Application, **settings: object) -> PostgreSQLSettings:
    dsn = f"host={server.beside} user=postgres dbname=postgres"
    return PostgreSQLSettings(name="pg", dsn=dsn, **settings)  # type: ignore[arg-type]


def settings_of_mariadb(server: Application, **settings: object) -> MariaDBSettings:
    socket = str(server.beside / "mariadb.sock")
    return MariaDBSettings(name="maria", socket=socket, user="root", non_transactional="allow", **settings)  # type: ignore[arg-type]


def of_postgresql(server: Application, **settings: object) -> PostgreSQLMember:
    return PostgreSQLMember(settings_of_postgresql(server, **settings), OCCASION)


class Holding(NamedTuple):
    """A server, and the settings of a member that stops its commits."""

    server: Application
    settings: PostgreSQLSettings | MariaDBSettings

    def member(self) -> Member:
        if isinstance(self.settings, PostgreSQLSettings):
            return PostgreSQLMember(self.settings, OCCASION)
        return MariaDBMember(self.settings)


@contextlib.contextmanager
def frozen(member: Member) -> Iterator[None]:
    try:
        member.prepare(time.monotonic() + AMPLE_S)
        member.freeze(time.monotonic() + AMPLE_S)
        yield
    finally:
        member.thaw()


@contextlib.contextmanager
def load(application: Application) -> Iterator[Writers]:
    writers = Writers(3, seed=1)
    with closing(application.session(application.books[0])) as session:
        session.ask("DELETE FROM transfers; SELECT 0;")
    writers.start(application)
    application.begin_load()
    try:
        writers.wait_for_each()
        yield writers
        writers.wait_for_each()
        application.end_load()
        writers.stop()
    finally:
        writers.kill()


def transfers(application: Application) -> int:
    with closing(application.session(application.books[0])) as session:
        return session.ask_number("SELECT count(*) FROM transfers;")


@contextlib.contextmanager
def busy(server: Application) -> Iterator[None]:
    """Somebody writes, and does not come to an end."""
    with closing(server.session(server.books[0])) as session, closing(server.session(server.books[0])) as gate:
        if isinstance(server, PostgreSQL):
            session.ask("BEGIN; UPDATE pgbench_branches SET bbalance = bbalance; SELECT 1;")
            yield
            session.ask("COMMIT; SELECT 1;")
            return
        assert gate.ask_number("SELECT GET_LOCK('gate', 0);") == 1
        slow = "INSERT INTO plain SELECT 1000 + GET_LOCK('gate', 60); DELETE FROM plain; SELECT 1;"
        thread = threading.Thread(target=session.ask, args=[slow])
        thread.start()
        try:
            waiting = "SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock';"
            eventually(lambda: gate.ask_number(waiting) == 1, "it writes")
            yield
        finally:
            gate.ask_number("SELECT RELEASE_LOCK('gate');")
            thread.join()


def end_our_session(server: Application) -> None:
    with closing(server.session(server.books[0])) as session:
        if isinstance(server, PostgreSQL):
            session.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'vsnapfs';"
            )
        else:
            ours = (
                "SELECT coalesce(max(id), 0) FROM information_schema.processlist"
                " WHERE db IS NULL AND user = 'root' AND command = 'Sleep';"
            )  # the server answers, and sleeps a moment later
            found = eventually(lambda: session.ask_number(ours), "our session waits for us")
            session.ask(f"KILL {found}; SELECT 0;")


@contextlib.contextmanager
def stopped(server: Application) -> Iterator[None]:
    """All its processes stand still."""
    process = server._process if isinstance(server, MariaDB) else server._postmaster._process  # type: ignore[attr-defined]
    assert process is not None
    pids = [process.pid]
    try:
        stand_still(process.pid)  # the first: it starts no other from then on, and those that end are there still
        for pid in children_of(process.pid):
            pids.append(pid)
            stand_still(pid)
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
