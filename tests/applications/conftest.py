"""Servers that the tests of members share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.postgresql import PostgreSQL
from tests.applications.protected import Protected, protected
from tests.applications.servers import (
    Holding,
    running,
    settings_of_mariadb,
    settings_of_postgresql,
)
from tests.applications.session import closing


@pytest.fixture(scope="package")
def postgresql() -> Iterator[Application]:
    with running(PostgreSQL) as application:
        with closing(application.session("postgres")) as session:
            session.ask(
                'CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."a ""b" (i int) PARTITION BY RANGE (i);'
                ' CREATE TABLE "Odd".part PARTITION OF "Odd"."a ""b" FOR VALUES FROM (0) TO (9);'
                " CREATE UNLOGGED TABLE unlogged (i int); CREATE MATERIALIZED VIEW seen AS SELECT 1; SELECT 0;"
            )
        yield application


@pytest.fixture(scope="package")
def mariadb() -> Iterator[Application]:
    with running(MariaDB) as application:
        with closing(application.session("books")) as session:
            session.ask("CREATE TABLE plain (i int PRIMARY KEY) ENGINE=MyISAM; SELECT 0;")
        yield application


@pytest.fixture(params=["postgresql", "backup_stage", "read_lock"])
def holding(request: pytest.FixtureRequest) -> Holding:
    if request.param == "postgresql":
        server: Application = request.getfixturevalue("postgresql")
        return Holding(server, settings_of_postgresql(server, hold_writes=True))
    server = request.getfixturevalue("mariadb")
    return Holding(server, settings_of_mariadb(server, mode=request.param))


@pytest.fixture(scope="module")
def place() -> Iterator[Protected]:
    with protected() as place:
        yield place
