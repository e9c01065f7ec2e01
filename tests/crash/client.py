"""One of several that use a server at once: does whatever comes to its mind, and tells what a user should never be told.

``python -m tests.crash.client REPOSITORY MOUNTPOINT DIRECTORY SEED COUNT``. Its last line is a JSON object: how often it did what, and
``failures``, which must not be.

Everything it names may be gone by then, since the others remove and prune. It may be told so; never that a file below the
repository is missing, that something is damaged, or that a command which names nothing has failed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsnapfs.cli.main import run
from vsnapfs.core.errors import DegradedError

BLOCK = 4096
NAMES = 6
VOLUMES = {"db": 1 << 20, "logs": 512 << 10}
MEDIUM = "vault"
GONE, REFUSED = "NotFoundError", ("BusyError", "LockedError", "NameTakenError", "PointGoneError")
"""What may be said of something that others use, make and remove. A name that is gone is told by words, not by a path."""
SEVERAL = ("UsageError",)
"""A name was that of several points that are on tape."""
MAY_BE_LESS = ("prune", "plan", "archive", "recall", "tape")
"""What may end with less than was asked for, and says so: something changed meanwhile, nothing of a point counts any more."""
GONE_FILE = frozenset({errno.ENOENT, errno.ESTALE, errno.EBUSY, errno.ENOTDIR})


class Client:
    """``failures``: what must not be, a line each."""

    def __init__(self, repository: Path, mountpoint: Path, seed: int, directory: Path) -> None:
        self.kinds: Counter[str] = Counter()
        self.failures: list[str] = []
        self._repository = repository
        self._mountpoint = mountpoint
        self._rng = random.Random(seed)
        self._directory = directory
        self._number = 0
        self._steps: list[Callable[[], None]] = [
            self._look,
            self._look_at_one,
            self._bookmark,
            self._branch,
            self._write,
            self._write,
            self._read,
            self._archive,
            self._give_back,
            self._volume,
            self._bring_back,
            self._tapes,
        ]

    def step(self) -> None:
        self._number += 1
        self._rng.choice(self._steps)()

    def _ask(self, *words: str, named: bool = True, may: tuple[str, ...] = ()) -> Any:
        """named: the words name something that may be gone. may: other kinds of errors. Returns what was printed; None: an error."""
        printed, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            status = run(["-r", str(self._repository), "--json", *words])
        self.kinds[words[0]] += 1
        if status == 0 or (status == DegradedError.exit_status and words[0] in MAY_BE_LESS):
            return json.loads(printed.getvalue() or "null")
        self.kinds["refused"] += 1
        lines = said.getvalue().splitlines()
        error = json.loads(lines[-1])["error"] if lines else {"kind": "", "message": ""}
        gone = named and error["kind"] == GONE and "No such file" not in error["message"]
        if not gone and error["kind"] not in ((*REFUSED, *may) if named else may):
            self.failures.append(f"{' '.join(words)}: exit {status}: {printed.getvalue()}{said.getvalue()}")
        return None

    def _name(self, prefix: str) -> str:
        return f"{prefix}{self._rng.randrange(NAMES)}"

    def _source(self) -> str:
        return self._rng.choice((self._name("b"), self._name("b"), f"branch:{self._name('x')}", "latest"))

    def _look(self) -> None:
        """Names nothing: it has to succeed, and finds nothing wrong."""
        words = self._rng.choice((
            ("status",), ("status",), ("bookmark", "list"), ("bookmark", "list", "--space"), ("branch", "list"), ("volume", "list"),
            ("events",), ("plan",), ("prune", "--dry-run"), ("check",), ("tape", "list"), ("tape", "copies"), ("archive", "list"),
        ))  # fmt: skip
        told = self._ask(*words, named=False)
        if told is not None and words == ("branch", "list"):
            self.failures += [f"branch list: {branch}" for branch in told["branches"] if branch["problem"]]

    def _look_at_one(self) -> None:
        bookmark, branch = self._name("b"), self._name("x")
        words = self._rng.choice(
            (("bookmark", "show", bookmark), ("branch", "show", branch), ("diff", bookmark, "latest"))
        )
        told = self._ask(*words)
        if told is not None and told.get("problem"):
            self.failures.append(f"{' '.join(words)}: {told}")

    def _bookmark(self) -> None:
        what = self._rng.choice(("add", "add", "remove", "hold", "release"))
        self._ask("bookmark", what, self._name("b"))

    def _branch(self) -> None:
        what = self._rng.choice(("add", "add", "remove"))
        source = ("--from", self._source()) if what == "add" else ()
        self._ask("branch", what, self._name("x"), *source)

    def _volume(self) -> None:
        """Beside those that all write to."""
        name = self._name("v")
        what = self._rng.choice((("add", name, "--size", "64K"), ("resize", name, "128K"), ("remove", name)))
        self._ask("volume", *what)

    def _give_back(self) -> None:
        if self._rng.random() < 0.5:
            self._ask("prune")
        else:
            to = self._directory / f"{self._number}.img"
            verb, source = self._rng.choice((("restore", self._source()), ("export", self._name("b"))))
            self._ask(verb, source, self._rng.choice(list(VOLUMES)), "--to", str(to))
            to.unlink(missing_ok=True)

    def _bring_back(self) -> None:
        """Onto live volumes, whoever has them open, or onto a branch."""
        name = self._name("x")
        words = self._rng.choice((
            ("restore", self._source(), self._rng.choice(list(VOLUMES)), "--live", "--force"),
            ("branch", "promote", name, "--bookmark", self._name("b")),
            ("replay", "--from", self._name("b"), "--into", name, "--only-volume", "db"),
        ))  # fmt: skip
        self._ask(*words)

    def _tapes(self) -> None:
        words = self._rng.choice((
            ("scan", "--from", MEDIUM), ("verify", "--from", MEDIUM), ("needed", self._name("b")), ("show", "T00001"),
            ("retire", "T00001", "--force"),
        ))  # fmt: skip
        self._ask("tape", *words, may=SEVERAL)

    def _archive(self) -> None:
        if self._rng.random() < 0.5:
            incremental = ("--incremental",) if self._rng.random() < 0.5 else ()
            self._ask("archive", self._name("b"), "--to", MEDIUM, *incremental)
        else:
            to = self._directory / f"{self._number}"
            self._ask("recall", self._name("b"), "--to", str(to), may=SEVERAL)
            for name in VOLUMES:
                (to / name).unlink(missing_ok=True)

    def _file(self) -> Path:
        top = self._rng.choice(("live", f"branches/{self._name('x')}"))
        return self._mountpoint / top / self._rng.choice(list(VOLUMES))

    def _write(self) -> None:
        path = self._file()
        at = self._rng.randrange(VOLUMES[path.name] // BLOCK) * BLOCK
        content = self._rng.randbytes(BLOCK) if self._rng.random() < 0.8 else bytes(BLOCK)

        def write() -> None:
            fd = os.open(path, os.O_RDWR)
            try:
                os.pwrite(fd, content, at)
                if self._rng.random() < 0.2:
                    os.fsync(fd)
            finally:
                os.close(fd)

        self._use(path, write)

    def _read(self) -> None:
        """A volume as a whole, or all that is there."""
        if self._rng.random() < 0.5:
            point = self._rng.choice((f"snaps/{self._name('b')}", f"branches/{self._name('x')}", "latest"))
            path = self._mountpoint / point / self._rng.choice(list(VOLUMES))
            self._use(path, path.read_bytes)
            return
        for name in ("snaps", "branches"):
            self._use(self._mountpoint / name, lambda name=name: self._list(self._mountpoint / name))  # type: ignore[misc]

    def _list(self, top: Path) -> None:
        for below in os.listdir(top):
            with contextlib.suppress(FileNotFoundError):
                os.stat(top / below)

    def _use(self, path: Path, do: Callable[[], object]) -> None:
        """Live volumes are always there, and closed to all while they are brought back."""
        self.kinds["files"] += 1
        may = {errno.EBUSY} if path.parent.name == "live" else GONE_FILE
        try:
            do()
        except OSError as error:
            if error.errno not in may:
                self.failures.append(f"{path}: {error}")


def main() -> None:
    repository, mountpoint, directory = map(Path, sys.argv[1:4])
    seed, count = map(int, sys.argv[4:])
    client = Client(repository, mountpoint, seed, directory)
    for _ in range(count):
        client.step()
    print(json.dumps({"kinds": client.kinds, "failures": client.failures}))


if __name__ == "__main__":
    main()
