"""``[[quiesce.NAME.members]]`` of the kinds postgresql and mariadb, as people write them."""

from __future__ import annotations

import pytest

from vsnapfs.core.errors import UsageError
from vsnapfs.policy.profiles import WITH_FILES_MAX, MariaDBSettings, PostgreSQLSettings
from vsnapfs.repository.settings import parse

pytestmark = pytest.mark.unit

HEAD = "[quiesce.all]\n"


def member(kind: str, name: str, *lines: str) -> str:
    return "\n".join(["[[quiesce.all.members]]", f'kind = "{kind}"', f'name = "{name}"', *lines, ""])


def parsed(*members: str) -> tuple[object, ...]:
    return parse((HEAD + "".join(members)).encode(), "vsnapfs.toml").quiesce["all"].members


def test_what_is_not_said_is_the_default() -> None:
    assert parsed(member("postgresql", "pg"), member("mariadb", "maria")) == (
        PostgreSQLSettings(name="pg", dsn="", mode="checkpoint", hold_writes=False),
        MariaDBSettings(
            name="maria", mode="backup_stage", option_file="", socket="", user="", non_transactional="refuse"
        ),
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (member("postgresql", "pg", 'mode = "snapshot"'), "mode"),
        (member("postgresql", "pg", "hold_write = true"), "did you mean hold_writes"),
        (member("postgresql", "pg", 'password = "secret"'), "password"),
        (member("mariadb", "maria", 'option_file = "my.cnf"'), "option_file: 'my.cnf' is not an absolute path"),
        (member("mariadb", "maria", 'socket = "mysqld.sock"'), "socket: 'mysqld.sock' is not an absolute path"),
        (member("mariadb", "maria", 'mode = "locks"'), "mode"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name_and_line(lines: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as told:
        parsed(lines)
    assert "line " in str(told.value)
    assert "secret" not in str(told.value)


def test_no_more_members_can_leave_files_than_a_bookmark_has_room_for() -> None:
    several = [member("postgresql", f"pg-{n}", 'mode = "backup"') for n in range(WITH_FILES_MAX + 1)]
    parsed(*several[:-1])
    with pytest.raises(UsageError, match=f"no more than {WITH_FILES_MAX} of them can have mode backup"):
        parsed(*several)
