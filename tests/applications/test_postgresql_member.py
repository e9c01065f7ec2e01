"""What is PostgreSQL's own in its member: real servers, with load."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.applications.application import Application
from tests.applications.postgresql import PostgreSQL
from tests.applications.servers import (
    AMPLE_S,
    OCCASION,
    SHORT_S,
    end_our_session,
    frozen,
    load,
    of_postgresql,
)
from tests.applications.session import closing
from tests.support.waiting import eventually
from vsnapfs.core.errors import NotStillError, QuiesceError, TimedOutError
from vsnapfs.policy.profiles import PostgreSQLSettings
from vsnapfs.quiesce.postgresql import PostgreSQLMember

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.timeout(600)]


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
        end_our_session(postgresql)
    assert member.files == ()


def test_backup_mode_has_a_label_afterwards(postgresql: Application) -> None:
    member = of_postgresql(postgresql, mode="backup")
    with frozen(member):
        assert not member.files
    assert [file.name for file in member.files] == ["backup_label"]
    assert "\nLABEL: vsnapfs mark\n" in member.files[0].text


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
