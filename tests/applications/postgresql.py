"""PostgreSQL, with pgbench at work beside the harness's writers, on the same tables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.applications.application import Application
from tests.applications.session import Session
from tests.support.postgresql import USER, Cluster, Postmaster, environment, make_cluster, program

BAD = re.compile("PANIC|could not (open|read|write|extend|fsync|flush|rename)|corrupt|invalid page")

CHECKPOINT_EVERY = 20
"""Transfers of one writer: so that tables are being written out at any moment, and not only the log."""


class PostgreSQL(Application):
    """``directory`` is a cluster."""

    user = USER
    group = USER
    books = (USER,)
    prefix = "pgbench_"
    accounts = 100_000

    def __init__(self, directory: Path, beside: Path) -> None:
        super().__init__(directory, beside)
        self._postmaster = Postmaster(directory, beside)
        self._load: subprocess.Popen[str] | None = None

    @property
    def _cluster(self) -> Cluster:
        return self._postmaster.cluster

    def make(self) -> None:
        make_cluster(self.directory)

    def start(self) -> None:
        self._postmaster.start()
        assert not BAD.search(self._cluster.log), self._cluster.log

    def stop(self) -> None:
        self._postmaster.stop()
        assert not BAD.search(self._cluster.log), self._cluster.log

    def kill(self) -> None:
        self._kill_load()
        self._postmaster.kill()

    def tables(self) -> list[str]:
        self._cluster.run("pgbench", "-i", "-q", "-s", "1", USER)
        return []

    def transfer(self, writer: int, number: int, delta: int) -> str:
        often = "CHECKPOINT; " if number % CHECKPOINT_EVERY == 0 else ""
        return often + super().transfer(writer, number, delta)

    def session(self, book: str) -> Session:
        command: list[str | Path] = [program("psql"), "-h", self.beside, "-XqAt", "-v", "ON_ERROR_STOP=1", book]
        return Session(command, user=self.user, group=self.group, env=environment())

    def begin_load(self) -> None:
        self._load = subprocess.Popen(
            [program("pgbench"), "-h", self.beside, "-c", "2", "-n", "-T", "3600", USER],
            user=self.user, group=self.group, extra_groups=[], cwd="/", env=environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def end_load(self) -> None:
        assert self._load is not None, "not begun"
        was_running = self._load.poll() is None
        said = self._kill_load()
        assert was_running, said
        assert "error" not in said, said

    def _kill_load(self) -> str:
        if self._load is None:
            return ""
        self._load.kill()
        said, _ = self._load.communicate()
        self._load = None
        return said

    def assert_sound(self) -> None:
        self._cluster.assert_sound()
