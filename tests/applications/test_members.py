"""PostgreSQL and MariaDB as members of a profile: real servers, with load."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.applications.servers import (
    AMPLE_S,
    OCCASION,
    SHORT_S,
    Holding,
    busy,
    end_our_session,
    frozen,
    load,
    stopped,
    transfers,
)
from tests.applications.session import closing
from tests.applications.writers import Writers
from tests.support.processes import children_of, command_of
from vsnapfs.core.errors import NotStillError, PermissionDeniedError, QuiesceError, TimedOutError, UsageError
from vsnapfs.policy.profiles import MariaDBSettings, PostgreSQLSettings, Profile
from vsnapfs.quiesce.mariadb import MariaDBMember
from vsnapfs.quiesce.postgresql import PostgreSQLMember
from vsnapfs.quiesce.quiesce import NotStill, quiesced

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.timeout(600)]
LATE_S = 10.0
"""A machine that has much else to do may take so much longer for what should have ended at its deadline."""


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
    (freezer,) = [pid for pid in children_of(os.getpid()) if b"vsnapfs.quiesce.freezer" in command_of(pid)]
    os.kill(freezer, signal.SIGKILL)
    writers.wait_for_each()


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


def test_a_connection_that_is_lost_meanwhile_is_told_and_lets_go(holding: Holding) -> None:
    server = holding.server
    with load(server) as writers:
        member = holding.member()
        member.prepare(time.monotonic() + AMPLE_S)
        member.freeze(time.monotonic() + AMPLE_S)
        end_our_session(server)
        writers.wait_for_each()
        with pytest.raises(NotStillError):
            member.thaw()
        member.thaw()


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


@pytest.mark.parametrize(
    "dsn",
    [
        "host=/nowhere sslpassword=geheim",
        "host=/nowhere password='geheim",
        "host=/nowhere geheim",
        "postgresql://u:ge%zzheim@h/db",
        "postgresql://u:geheim@[::1/db",
        'postgresql://u:"geheim" x@h/db',
    ],
)
def test_what_may_be_a_password_is_not_repeated(dsn: str) -> None:
    with pytest.raises(UsageError, match=r"^dsn: ") as caught:
        PostgreSQLMember(PostgreSQLSettings(name="pg", dsn=dsn), OCCASION).prepare(time.monotonic() + AMPLE_S)
    assert "heim" not in str(caught.value)


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
