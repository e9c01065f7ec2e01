"""PostgreSQL and MariaDB as members of a profile: real servers, with load."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.postgresql import PostgreSQL
from tests.applications.session import closing
from tests.applications.writers import Writers
from tests.support.processes import children_of
from tests.support.waiting import eventually
from vsnapfs.core.errors import NotStillError, PermissionDeniedError, QuiesceError, TimedOutError, UsageError
from vsnapfs.policy.profiles import MariaDBSettings, PostgreSQLSettings, Profile
from vsnapfs.quiesce.mariadb import MariaDBMember
from vsnapfs.quiesce.member import Member, Occasion
from vsnapfs.quiesce.postgresql import PostgreSQLMember
from vsnapfs.quiesce.quiesce import NotStill, quiesced

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.timeout(300)]

OCCASION = Occasion(repository="/repository", profile="all", bookmark="mark", deadline_s=10.0)
AMPLE_S = 60.0
SHORT_S = 1.5
LATE_S = 10.0
"""A machine that has much else to do may take so much longer for what should have ended at its deadline."""


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


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Application]:
    with running(PostgreSQL) as application:
        with closing(application.session("postgres")) as session:
            session.ask(
                'CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."a ""b" (i int) PARTITION BY RANGE (i);'
                ' CREATE TABLE "Odd".part PARTITION OF "Odd"."a ""b" FOR VALUES FROM (0) TO (9);'
                " CREATE UNLOGGED TABLE unlogged (i int); CREATE MATERIALIZED VIEW seen AS SELECT 1; SELECT 0;"
            )
        yield application


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Application]:
    with running(MariaDB) as application:
        with closing(application.session("books")) as session:
            session.ask("CREATE TABLE plain (i int PRIMARY KEY) ENGINE=MyISAM; SELECT 0;")
        yield application


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


@pytest.fixture(params=["postgresql", "backup_stage", "read_lock"])
def holding(request: pytest.FixtureRequest) -> Holding:
    if request.param == "postgresql":
        server: Application = request.getfixturevalue("postgresql")
        return Holding(server, settings_of_postgresql(server, hold_writes=True))
    server = request.getfixturevalue("mariadb")
    return Holding(server, settings_of_mariadb(server, mode=request.param))


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


def test_commits_stop_from_freeze_to_thaw_and_go_on_after(holding: Holding) -> None:
    server = holding.server
    with load(server) as writers:
        for _ in range(3):
            with frozen(holding.member()):
                before = transfers(server)
                assert not threading.Event().wait(0.3)
                assert transfers(server) == before
                writers.assert_working()
            writers.wait_for_each()


def test_when_the_freezer_is_killed_they_go_on_at_once(holding: Holding) -> None:
    server = holding.server
    profile = Profile(members=(holding.settings,), deadline="60s")
    with load(server) as writers, pytest.raises(NotStill, match="died"), quiesced(profile, OCCASION, ()):
        _kill_freezer_and_wait(writers)


def _kill_freezer_and_wait(writers: Writers) -> None:
    (freezer,) = [pid for pid in children_of(os.getpid()) if b"vsnapfs.quiesce.freezer" in _command_of(pid)]
    os.kill(freezer, signal.SIGKILL)
    writers.wait_for_each()


def _command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_one_that_is_not_asked_to_hold_writes_holds_nobody(postgresql: Application) -> None:
    with load(postgresql) as writers:
        for mode in ("checkpoint", "backup"):
            with frozen(of_postgresql(postgresql, mode=mode)):
                writers.wait_for_each()


def test_commits_that_postgresql_has_not_written_out_yet_are_on_the_disk_when_it_is_still(
    postgresql: Application,
) -> None:
    with closing(postgresql.session("postgres")) as session:
        session.ask("ALTER SYSTEM SET wal_writer_delay = '10s'; SELECT 0;")
        session.ask("SELECT pg_reload_conf();")
        member = of_postgresql(postgresql)
        try:
            member.prepare(time.monotonic() + AMPLE_S)
            insert = "SET synchronous_commit = off; INSERT INTO transfers VALUES (98, 1); SELECT pg_current_wal_insert_lsn();"
            (end,) = session.ask(insert)
            member.freeze(time.monotonic() + AMPLE_S)
            assert session.ask(f"SELECT pg_current_wal_flush_lsn() >= '{end}';") == ["t"]
        finally:
            member.thaw()
            session.ask("ALTER SYSTEM RESET wal_writer_delay; SELECT 0;")
            session.ask("DELETE FROM transfers; SELECT pg_reload_conf();")


def test_commits_that_mariadb_has_not_written_out_yet_are_on_the_disk_when_it_is_still(mariadb: Application) -> None:
    with closing(mariadb.session("books")) as session:
        session.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 0; SELECT 0;")

        def position(name: str) -> int:
            wanted = f"VARIABLE_NAME = 'INNODB_LSN_{name}'"
            return session.ask_number(f"SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE {wanted};")

        member = Holding(mariadb, settings_of_mariadb(mariadb)).member()
        try:
            member.prepare(time.monotonic() + AMPLE_S)
            session.ask("INSERT INTO transfers VALUES (98, 1); SELECT 0;")
            end = position("CURRENT")
            member.freeze(time.monotonic() + AMPLE_S)
            assert position("FLUSHED") >= end
        finally:
            member.thaw()
            session.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 1; DELETE FROM transfers; SELECT 0;")


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


def test_a_lock_that_cannot_be_had_is_given_up_in_time_and_nobody_waits_then(holding: Holding) -> None:
    server = holding.server
    with busy(server):
        member = holding.member()
        member.prepare(time.monotonic() + AMPLE_S)
        began = time.monotonic()
        try:
            with pytest.raises(TimedOutError):
                member.freeze(began + SHORT_S)
            assert time.monotonic() - began < SHORT_S + LATE_S
        finally:
            member.thaw()
        with closing(server.session(server.books[0])) as other:
            assert other.ask_number("INSERT INTO transfers VALUES (99, 1); SELECT 7;") == 7
            assert other.ask_number("DELETE FROM transfers WHERE writer = 99; SELECT 8;") == 8
    with frozen(holding.member()):
        pass


def test_a_transaction_that_waits_for_us_is_not_ended_because_of_us(postgresql: Application) -> None:
    """It has changed the last table and wants the first one: a deadlock, if we waited for it with what we have."""
    with closing(postgresql.session("postgres")) as setup, closing(postgresql.session("postgres")) as application:
        setup.ask("CREATE TABLE last (i int); INSERT INTO last VALUES (0); SELECT 0;")
        application.ask("BEGIN; UPDATE last SET i = 1; SELECT 1;")
        member = of_postgresql(postgresql, hold_writes=True)
        member.prepare(time.monotonic() + AMPLE_S)
        failure: list[BaseException] = []

        def freeze() -> None:
            try:
                member.freeze(time.monotonic() + AMPLE_S)
            except BaseException as error:  # noqa: BLE001  told in the other thread
                failure.append(error)

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            # By then the member has looked for a deadlock, and will not look again.
            waits = (
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND locktype = 'relation'"
                " AND waitstart < clock_timestamp() - interval '0.2 s';"
            )
            eventually(lambda: setup.ask_number(waits) > 0, "the member waits")
            application.ask("UPDATE pgbench_branches SET bbalance = bbalance; SELECT 2;")
            assert application.ask_number("COMMIT; SELECT 3;") == 3
            thread.join(AMPLE_S)
            assert not failure
            assert not thread.is_alive()
        finally:
            thread.join(AMPLE_S)
            member.thaw()
        setup.ask("DROP TABLE last; SELECT 0;")


def test_a_table_that_is_just_being_made_is_waited_for(postgresql: Application) -> None:
    with closing(postgresql.session("postgres")) as application:
        application.ask("BEGIN; CREATE TABLE fresh (i int); INSERT INTO fresh VALUES (1); SELECT 1;")
        member = of_postgresql(postgresql, hold_writes=True)
        try:
            member.prepare(time.monotonic() + AMPLE_S)
            with pytest.raises(TimedOutError):
                member.freeze(time.monotonic() + SHORT_S)
        finally:
            member.thaw()
        application.ask("ROLLBACK; SELECT 1;")


def _end_our_session(server: Application) -> None:
    with closing(server.session(server.books[0])) as session:
        if isinstance(server, PostgreSQL):
            session.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'vsnapfs';"
            )
        else:
            found = session.ask(
                "SELECT id FROM information_schema.processlist"
                " WHERE db IS NULL AND user = 'root' AND command = 'Sleep' ORDER BY id DESC LIMIT 1;"
            )
            session.ask(f"KILL {found[0]}; SELECT 0;")


def test_a_connection_that_is_lost_meanwhile_is_told_and_lets_go(holding: Holding) -> None:
    server = holding.server
    with load(server) as writers:
        member = holding.member()
        member.prepare(time.monotonic() + AMPLE_S)
        member.freeze(time.monotonic() + AMPLE_S)
        _end_our_session(server)
        writers.wait_for_each()
        with pytest.raises(NotStillError):
            member.thaw()
        member.thaw()


def _copy(source: Path, target: Path) -> None:
    """Of files that change meanwhile, more than once within a second, and may be gone when it comes to them."""
    command = ["rsync", "-a", "--ignore-times", f"{source}/", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 24), done.stderr


def test_with_the_label_of_backup_mode_a_copy_that_took_a_while_is_started(postgresql: Application) -> None:
    """The copy is of no single moment, and its log is of a later one: what volumes of two repositories are to each other."""
    member = of_postgresql(postgresql, mode="backup")
    copy = postgresql.directory.with_name("copy")
    beside = postgresql.directory.with_name("beside-copy")
    beside.mkdir()
    shutil.chown(beside, postgresql.user, postgresql.group)
    other = PostgreSQL(copy, beside)
    try:
        with load(postgresql) as writers, closing(postgresql.session("postgres")) as session:
            session.ask("SELECT pg_create_physical_replication_slot('keep', true);")  # its log stays until it is copied
            with frozen(member):
                _copy(postgresql.directory, copy)
                writers.wait_for_each()
            _copy(postgresql.directory / "pg_wal", copy / "pg_wal")
            session.ask("SELECT pg_drop_replication_slot('keep'); SELECT 0;")
        shutil.rmtree(copy / "pg_replslot/keep")
        (copy / "postmaster.pid").unlink()
        for file in member.files:
            (copy / file.name).write_text(file.text)
            shutil.chown(copy / file.name, postgresql.user, postgresql.group)
        other.start()
        assert (copy / "backup_label.old").exists()
        with closing(other.session("postgres")) as session:
            assert len(set(session.ask(other.sums()))) == 1
        other.assert_sound()
        other.stop()
    finally:
        other.kill()
        shutil.rmtree(copy, ignore_errors=True)


def test_backup_mode_whose_connection_is_lost_is_told(postgresql: Application) -> None:
    member = of_postgresql(postgresql, mode="backup")
    with pytest.raises(NotStillError), frozen(member):
        _end_our_session(postgresql)
    assert member.files == ()


def test_backup_mode_has_a_label_afterwards(postgresql: Application) -> None:
    member = of_postgresql(postgresql, mode="backup")
    with frozen(member):
        assert not member.files
    assert [file.name for file in member.files] == ["backup_label"]
    assert "\nLABEL: vsnapfs mark\n" in member.files[0].text


@contextlib.contextmanager
def stopped(server: Application) -> Iterator[None]:
    """All its processes stand still."""
    process = server._process if isinstance(server, MariaDB) else server._postmaster._process  # type: ignore[attr-defined]
    assert process is not None
    pids = [process.pid, *children_of(process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    tasks = [task / "stat" for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    try:
        eventually(lambda: all(task.read_text().rpartition(") ")[2][0] in "TZ" for task in tasks), "all stand still")
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_holds_nobody_up(holding: Holding) -> None:
    server = holding.server
    member = holding.member()
    began = time.monotonic()
    with stopped(server):
        try:
            with pytest.raises(TimedOutError):
                member.prepare(began + SHORT_S)
        finally:
            member.thaw()
    member = holding.member()
    member.prepare(time.monotonic() + AMPLE_S)
    with stopped(server):
        began = time.monotonic()
        try:
            with pytest.raises(TimedOutError):
                member.freeze(began + SHORT_S)
            assert time.monotonic() - began < SHORT_S + LATE_S
        finally:
            member.thaw()
    with frozen(holding.member()):
        pass
    with closing(server.session(server.books[0])) as session:
        assert session.ask_number("SELECT 1;") == 1


def test_a_server_that_is_killed_is_told(holding: Holding) -> None:
    server = holding.server
    member = holding.member()
    try:
        with pytest.raises(NotStillError), frozen(member):
            server.kill()
    finally:
        server.kill()
        server.start()
    member = holding.member()
    with frozen(member):
        pass


@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket")  # PyMySQL leaves one open that it could not connect
def test_nobody_is_there(tmp_path: Path) -> None:
    nowhere = PostgreSQLMember(PostgreSQLSettings(name="pg", dsn=f"host={tmp_path}"), OCCASION)
    with pytest.raises(QuiesceError, match=r"^cannot connect to PostgreSQL: .*No such file"):
        nowhere.prepare(time.monotonic() + AMPLE_S)
    nowhere.thaw()
    other = MariaDBMember(MariaDBSettings(name="maria", socket=str(tmp_path / "none")))
    with pytest.raises(QuiesceError, match=r"^cannot connect to MariaDB: .*No such file"):
        other.prepare(time.monotonic() + AMPLE_S)
    other.thaw()
    gc.collect()


def test_passwords_are_not_taken_from_the_settings_or_from_a_file_of_others(tmp_path: Path) -> None:
    member = PostgreSQLMember(PostgreSQLSettings(name="pg", dsn="host=/nowhere password=secret"), OCCASION)
    with pytest.raises(UsageError, match="passfile") as told:
        member.prepare(time.monotonic() + AMPLE_S)
    assert "secret" not in str(told.value)
    file = tmp_path / "my.cnf"
    file.write_text("[client]\npassword = secret\n")
    file.chmod(0o644)
    other = MariaDBMember(MariaDBSettings(name="maria", option_file=str(file)))
    with pytest.raises(PermissionDeniedError, match="chmod 600"):
        other.prepare(time.monotonic() + AMPLE_S)


def test_an_option_file_says_where_and_who(mariadb: Application, tmp_path: Path) -> None:
    with closing(mariadb.session("books")) as session:
        session.ask(
            "CREATE USER keeper@localhost IDENTIFIED BY 's3cret'; GRANT RELOAD, REFERENCES ON *.* TO keeper@localhost; SELECT 0;"
        )
    file = tmp_path / "my.cnf"
    file.touch(0o600)
    file.write_text(f"[client]\nuser = keeper\npassword = s3cret\nsocket = {mariadb.beside}/mariadb.sock\n")
    with frozen(MariaDBMember(MariaDBSettings(name="maria", option_file=str(file), non_transactional="allow"))):
        pass
    strict = MariaDBMember(MariaDBSettings(name="maria", option_file=str(file)))
    with pytest.raises(QuiesceError, match=r"books\.plain .*MyISAM"), frozen(strict):
        pass
    file.write_text(file.read_text().replace("s3cret", "wrong"))
    with pytest.raises(QuiesceError, match="Access denied"):
        MariaDBMember(MariaDBSettings(name="maria", option_file=str(file))).prepare(time.monotonic() + AMPLE_S)


def test_a_role_needs_no_more_than_the_documents_say(postgresql: Application) -> None:
    with closing(postgresql.session("postgres")) as session:
        session.ask(
            "CREATE ROLE keeper LOGIN; GRANT pg_checkpoint TO keeper;"
            " GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO keeper; SELECT 0;"
        )
    dsn = f"host={postgresql.beside} user=keeper dbname=postgres"
    for mode in ("checkpoint", "backup"):
        with frozen(PostgreSQLMember(PostgreSQLSettings(name="pg", dsn=dsn, mode=mode), OCCASION)):
            pass
    held = PostgreSQLMember(PostgreSQLSettings(name="pg", dsn=dsn, hold_writes=True), OCCASION)
    with pytest.raises(QuiesceError, match="superuser"), frozen(held):
        pass
