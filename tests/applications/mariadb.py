"""MariaDB: a server of our own with InnoDB, run as an unprivileged user, that listens on a socket of its own only."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

from tests.applications.application import Application
from tests.applications.session import Session
from tests.support.devices import sh
from tests.support.waiting import eventually

START_S_MAX = 60.0
END_S_MAX = 60.0
SETTINGS = (
    "--skip-networking",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-max-dirty-pages-pct=0",
    "--innodb-max-dirty-pages-pct-lwm=0",
)
"""Tables are written out all the time, and not only the log."""
BAD = re.compile(r"\[ERROR\]|corrupt", re.IGNORECASE)


class MariaDB(Application):
    """``directory`` is its data directory. ``log``: what all its lives said."""

    user = "nobody"
    group = "nogroup"

    def __init__(self, directory: Path, beside: Path) -> None:
        super().__init__(directory, beside)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_path = beside / "mariadb.log"
        self._lives = 0

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def make(self) -> None:
        self.directory.mkdir()
        shutil.chown(self.directory, self.user, self.group)
        self._run(
            "mariadb-install-db", "--no-defaults", "--basedir=/usr", f"--datadir={self.directory}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M", "--debug-no-sync",
            f"--tmpdir={self.beside}",
        )  # fmt: skip
        sh("sync", "-f", self.directory)  # its installer leaves tables out, and syncs others again and again

    def _run(self, *words: str, timeout_s: float = 120.0) -> str:
        done = subprocess.run(
            words, user=self.user, group=self.group, extra_groups=[], cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self) -> None:
        command = [
            "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.directory}", f"--socket={self._socket}",
            f"--pid-file={self.beside}/mariadb.pid", f"--tmpdir={self.beside}", *SETTINGS,
        ]  # fmt: skip
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, user=self.user, group=self.group, extra_groups=[], cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._is_ready, "MariaDB ready", deadline_s=START_S_MAX)
        assert not BAD.search(self.log), self.log

    @property
    def _socket(self) -> Path:
        return self.beside / "mariadb.sock"

    def _is_ready(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"mariadbd ended with {status}:\n{self.log}"
        return "mariadbd: ready for connections." in self.log

    def stop(self) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(END_S_MAX)
        assert status == 0, f"mariadbd ended with {status}:\n{self.log}"
        assert not BAD.search(self.log), self.log
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_S_MAX)
            self._process = None

    def fill(self) -> None:
        self._client("mariadb", "--execute=CREATE DATABASE books")
        super().fill()

    def _client(self, name: str, *words: str) -> str:
        return self._run(name, "--no-defaults", "--user=root", f"--socket={self._socket}", *words)

    def session(self, book: str) -> Session:
        command = [
            "mariadb", "--no-defaults", "--user=root", f"--socket={self._socket}", "--batch", "--skip-column-names",
            "--unbuffered", "--skip-reconnect", book,
        ]  # fmt: skip
        return Session(command, user=self.user, group=self.group)

    def assert_sound(self) -> None:
        said = self._client("mariadb-check", "--check", "--extended", "--all-databases").splitlines()
        assert any(line.startswith("books.transfers ") for line in said), said
        assert all(line.endswith(" OK") for line in said), said
