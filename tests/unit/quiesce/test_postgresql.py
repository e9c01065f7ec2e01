"""What a member of kind postgresql asks of its server, and in which order; the server is a table of answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.quiesce.fake_sessions import Answer, FakeSession
from vsnapfs.core.errors import NotStillError, QuiesceError, TimedOutError
from vsnapfs.core.model import MemberFile
from vsnapfs.policy.profiles import PostgreSQLSettings
from vsnapfs.quiesce.member import Occasion
from vsnapfs.quiesce.postgresql import PostgreSQLMember
from vsnapfs.quiesce.sql import LostError, RefusedError

pytestmark = pytest.mark.unit

OCCASION = Occasion(repository="/repository", profile="all", bookmark="mark", deadline_s=10.0)
FAR_S = 3600.0

FACTS = "SELECT current_setting('server_version_num')"
HOLD_FACTS = "SELECT current_setting('is_superuser')"
TABLES = "SELECT format"
UNFINISHED = "SELECT count(*) FROM pg_locks"
SETTLE = "SELECT set_config"
FLUSH = "SELECT pg_logical_emit_message"
GOOD: Mapping[str, Answer] = {
    FACTS: [("150018", "false", "on", "on", "100")],
    HOLD_FACTS: [("on", "20", "6400")],
    TABLES: [("public.a",), ("public.b",)],
    UNFINISHED: [("0",)],
    "SELECT labelfile": [("the label", "")],
}


class Ground:
    """A member, and the sessions that it opened."""

    def __init__(self, answers: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.log: list[str] = []
        self.sessions: list[FakeSession] = []
        self._answers = {**GOOD, **(answers or {})}
        self.member = PostgreSQLMember(PostgreSQLSettings(name="pg", **settings), OCCASION, self._connect)

    def _connect(self, _dsn: str, _until: float) -> FakeSession:
        name = ("", "hold: ")[len(self.sessions)]
        self.sessions.append(FakeSession(self.log, self._answers, name))
        return self.sessions[-1]

    def prepare(self) -> None:
        self.member.prepare(time.monotonic() + FAR_S)

    def freeze(self, s: float = FAR_S) -> None:
        self.member.freeze(time.monotonic() + s)

    def asked(self) -> list[str]:
        """Without what is asked of every session."""
        quiet = (SETTLE, FACTS, f"hold: {SETTLE}", f"hold: {HOLD_FACTS}", "hold: SET deadlock_timeout")
        return [text for text in self.log if not text.startswith(quiet)]


TAKEN = ("public.a", "public.b", "pg_catalog.pg_largeobject", "pg_catalog.pg_class")
LOCKS = [f"hold: LOCK TABLE ONLY {name} IN SHARE MODE" for name in TAKEN]


def test_a_checkpoint_is_made_before_anybody_is_still_and_the_log_written_out_then() -> None:
    ground = Ground()
    ground.prepare()
    assert ground.asked() == ["CHECKPOINT"]
    ground.freeze()
    assert ground.asked()[1].startswith(FLUSH)
    ground.member.thaw()
    ground.member.thaw()
    assert len(ground.asked()) == 2
    assert [session.closed for session in ground.sessions] == [1]
    assert ground.member.files == ()


def test_backup_mode_lasts_from_prepare_to_thaw() -> None:
    ground = Ground(mode="backup")
    ground.prepare()
    ground.freeze()
    ground.member.thaw()
    starts = [text.split("(")[0] for text in ground.asked()]
    assert starts == [
        "SELECT pg_backup_start",
        "SELECT pg_logical_emit_message",
        "SELECT labelfile, spcmapfile FROM pg_backup_stop",
    ]
    assert ground.member.files == (MemberFile("backup_label", "the label"),)


def test_backup_mode_that_nobody_was_frozen_in_ends_with_its_connection() -> None:
    ground = Ground(mode="backup")
    ground.prepare()
    ground.member.thaw()
    assert len(ground.asked()) == 1
    assert ground.sessions[0].closed


def test_writes_are_held_before_the_log_is_written_out_and_let_go_first() -> None:
    ground = Ground(hold_writes=True, mode="backup")
    ground.prepare()
    ground.log.clear()
    ground.freeze()
    asked = [text for text in ground.asked() if TABLES not in text and UNFINISHED not in text]
    assert asked[0].startswith("hold: BEGIN")
    assert asked[1:-1] == LOCKS
    assert asked[-1].startswith(FLUSH)
    ground.log.clear()
    ground.member.thaw()
    assert ground.log[0] == "hold: ROLLBACK"
    assert ground.log[1].startswith("SELECT labelfile")
    assert [session.closed for session in ground.sessions] == [1, 1]


@pytest.mark.parametrize("why", [TimedOutError("late"), RefusedError("40P01", "deadlock")])
def test_a_table_that_cannot_be_had_comes_first_in_the_next_try(why: Exception) -> None:
    ground = Ground({"LOCK TABLE ONLY public.b": [why, []]}, hold_writes=True)
    ground.prepare()
    ground.log.clear()
    ground.freeze()
    locks = [text for text in ground.log if "LOCK" in text or "ROLLBACK" in text]
    assert locks == [*LOCKS[:2], "hold: ROLLBACK", LOCKS[1], LOCKS[0], *LOCKS[2:]]
    ground.member.thaw()


def test_the_first_lock_may_be_waited_for_and_the_others_for_half_of_the_deadlock_timeout_together() -> None:
    ground = Ground(hold_writes=True)
    ground.prepare()
    ground.freeze()
    asked = [text for text in ground.log if text.startswith("hold: ")]
    limits = [limit for text, limit in zip(asked, ground.sessions[1].limits, strict=True) if "LOCK TABLE" in text]
    assert limits[0] > FAR_S / 2
    assert all(limit <= 0.010 for limit in limits[1:])
    assert "hold: SET deadlock_timeout = '2ms'" in ground.log
    ground.member.thaw()


@pytest.mark.parametrize(
    "answers",
    [
        {
            TABLES: [
                [("public.a",)],
                [("public.a",)],
                [("public.a",), ("public.fresh",)],
                [("public.a",), ("public.fresh",)],
            ]
        },
        {UNFINISHED: [[("1",)], [("0",)]]},
        {"LOCK TABLE ONLY public.a": [RefusedError("42P01", "gone"), []]},
    ],
    ids=["made meanwhile", "just being made", "dropped meanwhile"],
)
def test_what_changes_meanwhile_is_tried_again(answers: dict[str, Any]) -> None:
    ground = Ground(answers, hold_writes=True)
    ground.prepare()
    ground.freeze()
    assert ground.log.count("hold: ROLLBACK") == 1
    ground.member.thaw()


def test_it_gives_up_at_the_deadline_and_names_the_table() -> None:
    ground = Ground({"LOCK TABLE ONLY public.b": TimedOutError("late")}, hold_writes=True)
    ground.prepare()
    with pytest.raises(TimedOutError, match=r"^hold_writes: transactions that write to public\.b do not end$"):
        ground.freeze(0.05)
    ground.member.thaw()
    assert [session.closed for session in ground.sessions] == [1, 1]


@pytest.mark.parametrize("start", ["ROLLBACK", "SELECT labelfile"])
def test_a_connection_that_was_lost_makes_the_mark_worth_nothing(start: str) -> None:
    ground = Ground({start: LostError("terminated")}, hold_writes=True, mode="backup")
    ground.prepare()
    ground.freeze()
    with pytest.raises(NotStillError, match="the connection is lost: terminated"):
        ground.member.thaw()
    ground.member.thaw()
    assert [session.closed for session in ground.sessions] == [1, 1]
    assert ground.member.files == ()


@pytest.mark.parametrize(
    ("answers", "settings", "said"),
    [
        ({FACTS: [("150018", "false", "off", "on", "0")]}, {}, "fsync of PostgreSQL is off"),
        ({FACTS: [("150018", "false", "on", "off", "0")]}, {}, "full_page_writes of PostgreSQL is off"),
        ({FACTS: [("140018", "false", "on", "on", "0")]}, {"mode": "backup"}, "needs PostgreSQL 15"),
        (
            {FACTS: [("150018", "false", "on", "on", "1025")]},
            {"mode": "backup"},
            "paths of the tablespaces are too long",
        ),
        ({FACTS: [("150018", "true", "on", "on", "0")]}, {"hold_writes": True}, "the server is a standby"),
        ({HOLD_FACTS: [("off", "1000", "6400")]}, {"hold_writes": True}, "superuser"),
        ({HOLD_FACTS: [("on", "1000", "3")]}, {"hold_writes": True}, "2 tables are too many for the server's 3 locks"),
        ({"CHECKPOINT": RefusedError("42501", "must be superuser")}, {}, "^CHECKPOINT: must be superuser$"),
    ],
)
def test_what_is_refused_before_anybody_is_still(answers: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    ground = Ground(answers, **settings)
    with pytest.raises(QuiesceError, match=said):
        ground.prepare()
    ground.member.thaw()
    assert all(session.closed for session in ground.sessions)


def test_a_standby_is_asked_whether_it_is_there() -> None:
    ground = Ground({FACTS: [("150018", "true", "on", "on", "0")]})
    ground.prepare()
    ground.freeze()
    assert ground.asked() == ["CHECKPOINT", "SELECT 1"]
    ground.member.thaw()


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vsnapfs.quiesce.postgresql_session", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    member = PostgreSQLMember(PostgreSQLSettings(name="pg"), OCCASION)
    with pytest.raises(QuiesceError, match=r"install vsnapfs\[postgresql\]$"):
        member.prepare(time.monotonic() + FAR_S)
    member.thaw()
