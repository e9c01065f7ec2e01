"""Three volumes of one repository with PostgreSQL, MariaDB and an ext4 on them, and who writes to all of them in lock step."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.place import Disk
from tests.applications.postgresql import PostgreSQL
from tests.applications.session import closing
from tests.support.devices import sh
from tests.support.processes import Mounted, make_repository, must_json
from tests.support.waiting import eventually

VOLUMES = {"postgresql": 320 << 20, "mariadb": 320 << 20, "files": 32 << 20}
STEP_S_MAX = 150.0
COPY_S_MAX = 300.0
PROFILES = """
[quiesce.checkpoint]
deadline = "60s"
[[quiesce.checkpoint.members]]
kind = "postgresql"
name = "pg"
dsn = "host={beside} user=postgres dbname=postgres"
hold_writes = true
[[quiesce.checkpoint.members]]
kind = "mariadb"
name = "maria"
socket = "{beside}/mariadb.sock"
non_transactional = "allow"
[[quiesce.checkpoint.members]]
kind = "fsfreeze"
name = "files"
mountpoint = "{files}"

[quiesce.backup]
deadline = "60s"
[[quiesce.backup.members]]
kind = "postgresql"
name = "pg"
dsn = "host={beside} user=postgres dbname=postgres"
mode = "backup"
hold_writes = true
[[quiesce.backup.members]]
kind = "mariadb"
name = "maria"
socket = "{beside}/mariadb.sock"
non_transactional = "allow"
mode = "read_lock"
[[quiesce.backup.members]]
kind = "fsfreeze"
name = "maria-files"
mountpoint = "{mariadb}"
[[quiesce.backup.members]]
kind = "fsfreeze"
name = "files"
mountpoint = "{files}"
"""


class Stepper(threading.Thread):
    """One writer to all. ``done``: the last step that was made whole."""

    def __init__(self, postgresql: Application, mariadb: Application, file: Path | None, table: str) -> None:
        super().__init__(name=table)
        self.done = 0
        self.failure: Exception | None = None
        self._stopping = threading.Event()
        self._file = file
        self._table = table
        self._stack = ExitStack()
        self._postgresql = self._stack.enter_context(closing(postgresql.session(postgresql.books[0])))
        self._mariadb = self._stack.enter_context(closing(mariadb.session(mariadb.books[0])))
        for session in (self._postgresql, self._mariadb):
            session.ask(f"CREATE TABLE {table} (n int PRIMARY KEY); SELECT 0;")
        self._postgresql.ask("SET synchronous_commit = off; SELECT 0;")

    def run(self) -> None:
        try:
            with self._stack:
                while not self._stopping.is_set():
                    self._step(self.done + 1)
                    self.done += 1
        except Exception as failure:  # noqa: BLE001  told by whoever waits for it
            self.failure = failure

    def _step(self, n: int) -> None:
        insert = f"INSERT INTO {self._table} VALUES ({n}); SELECT {n};"
        if self._file is None:
            self._postgresql.ask(insert)
            self._mariadb.ask(insert)
            self._mariadb.ask(f"INSERT INTO plain VALUES ({n}); SELECT {n};")
            return
        self._postgresql.ask(f"BEGIN; {insert}")
        self._mariadb.ask(insert)
        write_counter(self._file, n)
        assert self._postgresql.ask_number(f"COMMIT; SELECT {n};") == n

    def wait(self) -> None:
        """Until one more step is made."""
        before = self.done

        def has_gone_on() -> bool:
            assert self.failure is None, f"{self._table}: {self.failure}"
            return self.done > before

        eventually(has_gone_on, f"a step of {self._table}", deadline_s=STEP_S_MAX)

    def stop(self) -> None:
        """May be called at any time."""
        self._stopping.set()
        if self.ident is None:
            self._stack.close()
        else:
            self.join(STEP_S_MAX)


def write_counter(path: Path, n: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, b"%12d\n" % n, 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


class Site:
    """The three volumes of a repository, served, with the applications on them. Left, nothing of it is there any more."""

    def __init__(self, ground: Path) -> None:
        self.repository = ground / "repository"
        self._ground = ground
        self.beside = ground / "beside"
        self._server = Mounted(self.repository, ground / "mount")
        self._disks = {name: Disk(self._server.mountpoint / "live" / name, ground / name, "ext4") for name in VOLUMES}
        self.counter = ground / "files/counter"
        self.postgresql = PostgreSQL(ground / "postgresql/application", self.beside)
        self.mariadb = MariaDB(ground / "mariadb/application", self.beside)

    def __enter__(self) -> Self:
        try:
            make_beside(self.beside)
            make_repository(self.repository, **VOLUMES)
            settings = PROFILES.format(
                beside=self.beside, files=self._ground / "files", mariadb=self._ground / "mariadb"
            )
            (self.repository / "vsnapfs.toml").write_text(settings)
            self._server.start()
            for disk in self._disks.values():
                disk.make()
                disk.attach()
            for application in (self.postgresql, self.mariadb):
                application.make()
                application.start()
                application.fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for application in (self.postgresql, self.mariadb):
            application.kill()
        for disk in self._disks.values():
            disk.drop()
        self._server.kill()

    def detach(self) -> None:
        for application in (self.postgresql, self.mariadb):
            application.stop()
        for disk in self._disks.values():
            disk.detach()

    def stop(self) -> None:
        assert self._server.stop() == 0, self._server.log
        assert must_json(self.repository, "check")["damages"] == []

    @property
    def log(self) -> str:
        return self._server.log

    @contextlib.contextmanager
    def opened(self, bookmark: str, *volumes: str) -> Iterator[Path]:
        """A directory with copies of the volumes of a bookmark, mounted under their names."""
        copies = self._ground / f"copies-{bookmark}"
        with ExitStack() as stack:
            copies.mkdir()
            stack.callback(shutil.rmtree, copies)
            for name in volumes:
                image = copies / f"{name}.img"
                shown = self._server.mountpoint / "snaps" / bookmark / name
                sh("cp", "--sparse=always", shown, image, timeout_s=COPY_S_MAX)
                image.chmod(0o600)
                if name == "files":
                    said = sh("dumpe2fs", "-h", image)
                    assert "needs_recovery" not in said, f"the frozen ext4 needs recovery:\n{said}"
                disk = Disk(image, copies / name, "ext4")
                stack.callback(disk.drop)
                disk.attach()
            yield copies


def make_beside(path: Path) -> None:
    """For sockets and logs of users that have nothing else in common."""
    path.mkdir()
    path.chmod(0o1777)
