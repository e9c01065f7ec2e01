"""What a member of kind mariadb asks of its server, and in which order; the server is a table of answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.quiesce.fake_sessions import Answer, FakeSession
from vsnapfs.core.errors import NotStillError, QuiesceError, TimedOutError
from vsnapfs.policy.profiles import MariaDBSettings
from vsnapfs.quiesce.mariadb import MariaDBMember
from vsnapfs.quiesce.sql import LostError, RefusedError

pytestmark = pytest.mark.unit

FAR_S = 3600.0
FACTS = "SELECT VERSION()"
ENGINES = "SELECT tables.TABLE_SCHEMA"
POSITIONS = "SHOW GLOBAL STATUS"
READ_LOCK = "FLUSH TABLES WITH READ LOCK"
STAGES = [f"BACKUP STAGE {stage}" for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT", "END")]
FLUSH = "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"


def at(current: int, flushed: int) -> list[tuple[str, ...]]:
    return [("Innodb_lsn_current", str(current)), ("Innodb_lsn_flushed", str(flushed))]


GOOD: Mapping[str, Answer] = {FACTS: [("10.11.19-MariaDB-0+deb12u1", "1")], POSITIONS: at(100, 100)}


class Ground:
    def __init__(self, answers: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.log: list[str] = []
        self.session = FakeSession(self.log, {**GOOD, **(answers or {})})
        self.member = MariaDBMember(MariaDBSettings(name="maria", **settings), lambda *_: self.session)

    def prepare(self) -> None:
        self.member.prepare(time.monotonic() + FAR_S)

    def freeze(self, s: float = FAR_S) -> None:
        self.member.freeze(time.monotonic() + s)

    def asked(self) -> list[str]:
        return [text for text in self.log if not text.startswith((FACTS, ENGINES, POSITIONS, "SET SESSION"))]


def test_stages_are_gone_through_in_order_and_only_the_first_before_anybody_is_still() -> None:
    ground = Ground()
    ground.prepare()
    assert ground.asked() == STAGES[:1]
    ground.freeze()
    assert ground.asked() == [*STAGES[:4], FLUSH]
    ground.member.thaw()
    ground.member.thaw()
    assert ground.asked() == [*STAGES[:4], FLUSH, STAGES[4]]
    assert ground.session.closed == 1


def test_the_read_lock() -> None:
    ground = Ground(mode="read_lock")
    ground.prepare()
    assert ground.asked() == []
    ground.freeze()
    ground.member.thaw()
    assert ground.asked() == [READ_LOCK, FLUSH, "UNLOCK TABLES"]


def test_each_try_of_the_read_lock_takes_longer_than_the_one_before() -> None:
    late = TimedOutError("late")
    ground = Ground({READ_LOCK: [late, late, []]}, mode="read_lock")
    ground.prepare()
    ground.freeze()
    limits = [limit for text, limit in zip(ground.log, ground.session.limits, strict=True) if text == READ_LOCK]
    assert limits == [0.1, 0.2, 0.4]
    ground.member.thaw()


def test_a_read_lock_that_is_not_had_is_given_up_at_the_deadline() -> None:
    ground = Ground({READ_LOCK: TimedOutError("late")}, mode="read_lock")
    ground.prepare()
    with pytest.raises(TimedOutError, match=f"^{READ_LOCK}: late$"):
        ground.freeze(0.2)
    ground.member.thaw()
    assert "UNLOCK TABLES" not in ground.log
    assert ground.session.closed == 1


def test_it_is_still_only_when_the_log_of_then_is_on_the_disk() -> None:
    ground = Ground({POSITIONS: [at(100, 90), at(100, 90), at(120, 95), at(120, 100)]})
    ground.prepare()
    ground.freeze()
    assert len([text for text in ground.log if text.startswith(POSITIONS)]) == 4
    ground.member.thaw()
    never = Ground({POSITIONS: at(100, 90)})
    never.prepare()
    with pytest.raises(TimedOutError, match="not written out"):
        never.freeze(0.1)
    never.member.thaw()


def test_a_connection_that_was_lost_makes_the_mark_worth_nothing() -> None:
    ground = Ground({"BACKUP STAGE END": LostError("gone")})
    ground.prepare()
    ground.freeze()
    with pytest.raises(NotStillError, match=r"^BACKUP STAGE END: the connection is lost: gone$"):
        ground.member.thaw()
    ground.member.thaw()
    assert ground.session.closed == 1


def test_one_that_was_not_frozen_whole_is_let_go_by_the_end_of_its_connection() -> None:
    ground = Ground({"BACKUP STAGE BLOCK_DDL": TimedOutError("late")})
    ground.prepare()
    with pytest.raises(TimedOutError, match=r"^BACKUP STAGE BLOCK_DDL: late$"):
        ground.freeze()
    ground.member.thaw()
    assert ground.asked() == STAGES[:3]
    assert ground.session.closed == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({FACTS: [("10.11.19-MariaDB", "0")]}, "innodb_doublewrite of MariaDB is off"),
        ({FACTS: [("10.3.39-MariaDB", "1")]}, "10.3.39-MariaDB has no backup stages"),
        ({ENGINES: [("shop", "old", "MyISAM")]}, r"shop\.old .*MyISAM.*non_transactional"),
        ({"BACKUP STAGE START": RefusedError("1227", "Access denied")}, "^BACKUP STAGE START: Access denied$"),
    ],
)
def test_what_is_refused_before_anybody_is_still(answers: dict[str, Any], said: str) -> None:
    ground = Ground(answers)
    with pytest.raises(QuiesceError, match=said):
        ground.prepare()
    ground.member.thaw()
    assert ground.session.closed == 1


def test_older_servers_have_the_read_lock_and_tables_can_be_allowed() -> None:
    answers = {FACTS: [("10.3.39-MariaDB", "1")], ENGINES: [("shop", "old", "MyISAM")]}
    ground = Ground(answers, mode="read_lock", non_transactional="allow")
    ground.prepare()
    ground.freeze()
    ground.member.thaw()


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vsnapfs.quiesce.mariadb_session", raising=False)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    member = MariaDBMember(MariaDBSettings(name="maria"))
    with pytest.raises(QuiesceError, match=r"install vsnapfs\[mariadb\]$"):
        member.prepare(time.monotonic() + FAR_S)
    member.thaw()
