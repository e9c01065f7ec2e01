"""PostgreSQL on a directory of our own, run as its own user, ended by its own pid; it listens on no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.devices import sh
from tests.support.processes import children_of, is_alive, stand_still
from tests.support.waiting import eventually

USER = "postgres"
START_S_MAX = 60.0
END_S_MAX = 60.0
SETTINGS = (
    "listen_addresses=",
    "fsync=on",
    "max_connections=20",
    "shared_buffers=32MB",
    "checkpoint_timeout=30s",
    "max_wal_size=64MB",
    "min_wal_size=32MB",
    "recovery_init_sync_method=syncfs",
)


def program(name: str) -> Path:
    """Of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    assert found, f"{name}: PostgreSQL is not installed"
    return found[-1]


def _run(name: str, *words: str | Path, timeout_s: float = 120.0) -> str:
    """Run a program of PostgreSQL's as its user; it has to exit 0. Returns what it said on both streams."""
    command = [str(program(name)), *map(str, words)]
    done = subprocess.run(
        command, user=USER, group=USER, extra_groups=[], cwd="/", env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGTZ": "UTC"}


def make_cluster(directory: Path) -> None:
    """A new cluster in ``directory``, which does not exist; its parent is one that the user can reach. It is on the medium."""
    directory.mkdir()
    shutil.chown(directory, USER, USER)
    _run("initdb", "--auth=trust", "--no-instructions", "--no-sync", "--data-checksums", directory)
    sh("sync", "-f", directory)  # once, for all files


class Cluster:
    """A running cluster; programs connect through the socket in ``socket_directory``. ``log``: all it said."""

    def __init__(self, socket_directory: Path, log_path: Path) -> None:
        self.socket_directory = socket_directory
        self._log_path = log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def run(self, name: str, *words: str | Path, timeout_s: float = 120.0) -> str:
        """A program that connects to it."""
        return _run(name, "-h", self.socket_directory, *words, timeout_s=timeout_s)

    def query(self, text: str) -> str:
        """The one value of a query."""
        return self.run("psql", "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", text, USER).strip()

    def assert_sound(self) -> None:
        """Every table and index is what amcheck expects, and pgbench's sums agree."""
        self.run("pg_amcheck", "--all", "--heapallindexed", "--install-missing", timeout_s=300)
        sums = self.query(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        )
        assert len(set(sums.split("|"))) == 1, f"accounts, tellers, branches, history: {sums}"


class Postmaster:
    """The server of the cluster in ``directory``, any number of times one after the other. ``cluster``: it, while it runs.

    beside: a directory of the user's for its socket and its log, which is of the newest life.
    """

    def __init__(self, directory: Path, beside: Path) -> None:
        self.cluster = Cluster(beside, beside / "postgresql.log")
        self._directory = directory
        self._beside = beside
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        options = [
            word for setting in (*SETTINGS, f"unix_socket_directories={self._beside}") for word in ("-c", setting)
        ]
        with (self._beside / "postgresql.log").open("w") as log:
            self._process = subprocess.Popen(
                [str(program("postgres")), "-D", str(self._directory), *options],
                user=USER, group=USER, extra_groups=[], cwd="/", env=environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            eventually(self._is_ready, "PostgreSQL ready", deadline_s=START_S_MAX)
        except BaseException:
            self.kill()
            raise

    def _is_ready(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"postgres ended with {status}:\n{self.cluster.log}"
        return "database system is ready to accept connections" in self.cluster.log

    def stop(self) -> None:
        """A fast shutdown, which it has to do well."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(END_S_MAX)
        self._process = None
        assert status == 0, f"postgres ended with {status}:\n{self.cluster.log}"

    def kill(self) -> None:
        """SIGKILL all its processes, at any time, and wait until they are gone."""
        if self._process is None:
            return
        children = []
        if self._process.poll() is None:
            stand_still(self._process.pid)  # that it starts none meanwhile
            children = children_of(self._process.pid)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(END_S_MAX)
        self._process = None
        eventually(lambda: not any(map(is_alive, children)), "the processes of PostgreSQL gone", deadline_s=END_S_MAX)


@contextmanager
def running(directory: Path, beside: Path) -> Iterator[Cluster]:
    """The cluster in ``directory``, from when it answers until it was shut down, which it has to do well.

    beside: a directory of the user's for its socket and its log.
    """
    postmaster = Postmaster(directory, beside)
    postmaster.start()
    try:
        yield postmaster.cluster
        postmaster.stop()
    finally:
        postmaster.kill()
