"""Amanda with the configuration of docs/examples: under a name of its own in Amanda's directories, which nothing else has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from tests.applications.protected import EXAMPLES, Protected

CONFIGURATION = EXAMPLES / "amanda"
USER = "backup"
SETTINGS = Path("/etc/amanda")
APPLICATIONS = Path("/usr/lib/amanda/application")
LOGS = Path("/var/log/amanda")
TEMPORARY = Path("/tmp/amanda")
"""Amanda makes it, if its user may write to /tmp."""
LISTS = Path("/var/lib/amanda/gnutar-lists")
TAPES = 3
DUMP_S_MAX = 200
READING = "-all,+dac_read_search"


class Amanda:
    """A context manager: left, nothing of it is there any more.

    Its user may read everything, so that it may read the interpreter and the examples, wherever they are.
    """

    def __init__(self, place: Protected) -> None:
        self.name = f"vsnapfs-{place.ground.name.rpartition('-')[2]}"
        self._place = place
        self._top = place.ground / "amanda"
        self._made_temporary = False
        self._script = APPLICATIONS / f"amanda-point-{self.name}"
        self._places = {
            "/var/lib/amanda/points": str(self._top),
            "/srv/amanda": str(self._top / "tapes"),
            "/etc/vsnapfs": str(place.ground),
            "/mnt/points": str(place.mountpoint),
            "amanda-point": self._script.name,
            "localhost points": f"localhost {self.name}",
        }

    def _configured(self, path: Path) -> str:
        text = path.read_text()
        for usual, ours in self._places.items():
            text = text.replace(usual, ours)
        return text

    def __enter__(self) -> Self:
        for name in ("curinfo", "log", "index", "holding", *(f"tapes/slot{number}" for number in range(1, TAPES + 1))):
            (self._top / name).mkdir(parents=True)
        settings = SETTINGS / self.name
        settings.mkdir()
        self._made_temporary = not TEMPORARY.exists()
        try:
            if self._made_temporary:
                TEMPORARY.mkdir(mode=0o700)
                shutil.chown(TEMPORARY, USER, USER)
            for name in ("amanda.conf", "disklist"):
                (settings / name).write_text(self._configured(CONFIGURATION / name))
            self._script.write_text(self._configured(CONFIGURATION / "amanda-point"))
            self._script.chmod(0o755)
            place = self._place
            shown = f"VSNAPFS_SOCKET='{place.socket}' VSNAPFS_MOUNT='{place.mountpoint}' PATH='{place.env['PATH']}'"
            (place.ground / "backup.conf").write_text(f"export {shown}\n")
            for path in (settings, self._top):
                for directory, _, files in os.walk(path):
                    for each in (directory, *(os.path.join(directory, file) for file in files)):
                        shutil.chown(each, USER, USER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._script.unlink(missing_ok=True)
        for path in (SETTINGS / self.name, *LOGS.glob(f"*/{self.name}")):
            shutil.rmtree(path)
        for path in LISTS.glob(f"localhost{self.name}*"):
            path.unlink()
        if self._made_temporary:
            shutil.rmtree(TEMPORARY)

    def point(self, command: str) -> list[str]:
        """The script, as Amanda calls it for a dump or a check of its one entry."""
        return [str(self._script), command, "--config", self.name, "--disk", self.name]

    def run(self, *command: str, output: Path | None = None, status: int = 0) -> str:
        """One of its programs, with all that it starts. Returns: what it said. output: where the bytes go that it gives back."""
        words = [
            "timeout", "--kill-after=5", str(DUMP_S_MAX),
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", f"--inh-caps={READING}", f"--ambient-caps={READING}",
            *command,
        ]  # fmt: skip
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self._top),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",
        }
        with (output or Path(os.devnull)).open("wb") as file:
            done = subprocess.run(
                words, env=env, cwd=self._top, stdin=subprocess.DEVNULL,
                stdout=file if output else subprocess.PIPE, stderr=subprocess.PIPE, check=False,
            )  # fmt: skip
        said = ((done.stdout or b"") + done.stderr).decode(errors="replace")
        assert done.returncode == status, f"{command}: exit {done.returncode}\n{said}\n{self.report()}"
        return said

    def report(self) -> str:
        """Of its last dump."""
        logs = sorted((self._top / "log").glob("log.*"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text() if logs else ""

    def tapes(self) -> list[Path]:
        """What is on them, but for their labels."""
        return sorted(path for path in self._top.glob("tapes/slot*/*") if not path.name.startswith("00000"))
