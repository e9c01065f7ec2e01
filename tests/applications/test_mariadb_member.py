"""What is MariaDB's own in its member: a real server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.applications.application import Application
from tests.applications.servers import (
    AMPLE_S,
    Holding,
    frozen,
    settings_of_mariadb,
)
from tests.applications.session import closing
from vsnapfs.core.errors import QuiesceError
from vsnapfs.policy.profiles import MariaDBSettings
from vsnapfs.quiesce.mariadb import MariaDBMember

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.timeout(600)]


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
