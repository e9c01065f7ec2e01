"""Bacula with the configuration of docs/examples: director, storage and client as processes of ours, on ports that nobody else gets."""

from __future__ import annotations

import re
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from tests.applications.protected import EXAMPLES, WITH_US, Protected
from tests.support.devices import sh
from tests.support.processes import child
from tests.support.waiting import eventually

CONFIGURATION = EXAMPLES / "bacula"
MAKE_TABLES = Path("/usr/share/bacula-director/make_sqlite3_tables")
DAEMONS = ("bacula-sd", "bacula-fd", "bacula-dir")
PORT = re.compile(r"(?<=port = )910[123]\b", re.IGNORECASE)
CONSOLE_S_MAX = 200
READY_S_MAX = 90.0
LOCKED_MS_MAX = 60_000


class Job(NamedTuple):
    """Of the catalog. ``status``: T, it went well; f, it failed."""

    name: str
    level: str
    files: int
    size_bytes: int
    status: str


class Bacula:
    """A context manager: entered, its daemons answer; left, they have ended."""

    def __init__(self, place: Protected) -> None:
        self._place = place
        self._top = place.ground / "bacula"
        self.restored = place.ground / "restored"
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self._places = {
            "/var/lib/bacula": self._top / "lib",
            "/run/bacula": self._top / "run",
            "/var/log/bacula": self._top / "log",
            "/srv/bacula": self._top / "srv",
            "/etc/bacula/scripts/query.sql": Path("/dev/null"),
            "/etc/bacula": self._top / "etc",
            "/etc/vsnapfs": place.ground,
            "/mnt/points": place.mountpoint,
            "/var/tmp/restored": self.restored,
        }

    @property
    def log(self) -> str:
        return (self._top / "log/bacula.log").read_text()

    @property
    def restored_point(self) -> Path:
        """Where a restore puts what was saved: below the path that it was saved from."""
        return self.restored / self._place.point("bacula").relative_to("/")

    def _configured(self, text: str) -> str:
        for usual, ours in self._places.items():
            text = text.replace(usual, str(ours))
        return text

    def configure(self, more: str = "") -> None:
        """more: behind the director's configuration."""
        for name in ("lib", "run", "log", "srv", "etc/scripts"):
            (self._top / name).mkdir(parents=True)
        settings = f"export VSNAPFS_REPO='{self._place.repository}' VSNAPFS_MOUNT='{self._place.mountpoint}'\n"
        (self._place.ground / "backup.conf").write_text(settings)
        for path in CONFIGURATION.glob("*.conf"):
            text = self._configured(path.read_text() + (more if path.stem == "bacula-dir" else ""))
            (self._top / "etc" / path.name).write_text(PORT.sub(self._port, text))
        for script in ("bacula-before", "bacula-after"):
            installed = self._top / "etc/scripts" / script
            installed.write_text(self._configured((CONFIGURATION / script).read_text()))
            installed.chmod(0o755)
        tables = MAKE_TABLES.read_text().replace("XXX_DBNAME_XXX", "bacula")
        (self._top / "tables").write_text(tables.replace("/var/lib/bacula", str(self._top / "lib")))
        sh("sh", self._top / "tables")

    def _port(self, usual: re.Match[str]) -> str:
        """One of ours. A socket that is bound and does not listen keeps it: the daemon can listen beside it, and nobody else gets it."""
        if usual[0] not in self._ports:
            keeper = self._stack.enter_context(socket.socket())
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(("127.0.0.1", 0))
            self._ports[usual[0]] = keeper.getsockname()[1]
        return str(self._ports[usual[0]])

    def __enter__(self) -> Self:
        try:
            for daemon in DAEMONS:
                settings = self._top / "etc" / f"{daemon}.conf"
                sh(daemon, "-t", "-c", settings)
                said = self._stack.enter_context((self._top / "log" / f"{daemon}.out").open("wb"))
                process = self._stack.enter_context(
                    child([*WITH_US, daemon, "-f", "-c", str(settings)], env=self._place.env, stdout=said, stderr=said)
                )
                self._stack.callback(process.terminate)
            eventually(lambda: self._console("version").returncode == 0, "the director", deadline_s=READY_S_MAX)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _console(self, *commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bconsole", "-c", str(self._top / "etc/bconsole.conf")],
            input="\n".join(commands) + "\n", env=self._place.env,
            capture_output=True, text=True, timeout=CONSOLE_S_MAX, check=False,
        )  # fmt: skip

    def run(self, command: str) -> Job:
        """Run a job and wait for its end. Returns: what the catalog has of it."""
        done = self._console(command, "wait")
        assert done.returncode == 0, done.stdout
        rows = self._rows("SELECT Name, Level, JobFiles, JobBytes, JobStatus FROM Job ORDER BY JobId DESC LIMIT 1;")
        name, level, files, size_bytes, status = rows[0]
        return Job(name, level, int(files), int(size_bytes), status)

    def files(self) -> set[str]:
        """Names of the files that the last job has saved."""
        saved = (
            "SELECT Filename.Name FROM File JOIN Filename USING (FilenameId)"
            " WHERE JobId = (SELECT max(JobId) FROM Job) AND FileIndex > 0;"
        )
        return {row[0] for row in self._rows(saved)} - {""}

    def _rows(self, query: str) -> list[list[str]]:
        database = self._top / "lib/bacula.db"
        said = sh("sqlite3", "-readonly", "-cmd", f".timeout {LOCKED_MS_MAX}", database, query, timeout_s=CONSOLE_S_MAX)
        return [line.split("|") for line in said.splitlines()]
