"""One repository, one application: bookmarks and kills at random moments of its work, then every bookmark opened.

What an application has answered with success before a bookmark was asked for is in the bookmark, what it began after the
bookmark was acknowledged is not, and what is there has no gap and adds up. The same holds for the application itself
after each kill.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path
from typing import NamedTuple

from tests.applications.application import Application
from tests.applications.mariadb import MariaDB
from tests.applications.place import KINDS, Place
from tests.applications.postgresql import PostgreSQL
from tests.applications.session import closing
from tests.applications.sqlite import SQLite
from tests.applications.writers import Counts, Writers

APPLICATIONS: Mapping[str, type[Application]] = {"postgresql": PostgreSQL, "mariadb": MariaDB, "sqlite": SQLite}
FILESYSTEMS = tuple(product(KINDS, KINDS))
"""(of the volume, below the repository): the seed says which."""
WRITERS = 4
KILLS = ("application", "worker", "server", "worker", "storage", "worker")
"""In this proportion; the seed has their order. A worker is quickest to come back, and has most to hide."""
PAUSE_S_MAX = 0.4
"""The longest between two bookmarks or kills."""
DYING_S_MAX = 0.2
"""The longest an application goes on after its storage began to fail."""


class Told(NamedTuple):
    """What was done. ``failed``: bookmarks that were not as they have to be, each told on standard error."""

    where: str
    bookmarks: int
    failed: int
    kills: Counter[str]
    acknowledged: int

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of {kind}" for kind, count in sorted(self.kills.items()))
        bookmarks = f"{self.bookmarks} bookmarks, {self.failed} of them wrong"
        return f"{self.where}: {bookmarks}; {self.acknowledged} transfers; {self.kills.total()} kills ({kills})"


@contextmanager
def ground() -> Iterator[Path]:
    """A directory that every user can reach."""
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-applications-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def play(name: str, *, bookmarks: int, kills: int, seed: int) -> Told:
    """Raises: AssertionError: the application noticed what it must not, or lost what it had acknowledged."""
    with ground() as directory:
        return _Play(name, directory, seed).run(bookmarks, kills)


class _Play:
    def __init__(self, name: str, ground: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        kind, store_kind = FILESYSTEMS[seed % len(FILESYSTEMS)]
        self._where = f"{name} on {kind} on a volume, the repository on {store_kind}"
        self._make: Callable[[Path, Path], Application] = APPLICATIONS[name]
        self._place = Place(ground, kind=kind, store_kind=store_kind, seed=self._rng.randrange(2**32))
        self._beside, self._beside_copy = ground / "beside", ground / "beside-copy"
        self._application = self._at(self._place.directory, self._beside)
        self._writers = Writers(WRITERS, self._rng.randrange(2**32))
        self._marks: dict[str, Counts] = {}
        self._kills: Counter[str] = Counter()

    def _at(self, directory: Path, beside: Path) -> Application:
        application = self._make(directory, beside)
        beside.mkdir()
        shutil.chown(beside, application.user, application.group)
        return application

    def run(self, bookmarks: int, kills: int) -> Told:
        deeds = [*(["bookmark"] * bookmarks), *islice(cycle(KILLS), kills)]
        self._rng.shuffle(deeds)
        with self._place:
            try:
                acknowledged = self._work(deeds)
                self._place.detach()
                failed = sum(not self._is_right(name) for name in self._marks)
                self._place.stop()
            except BaseException:
                print(self._place.log, file=sys.stderr)
                raise
            finally:
                self._writers.kill()
                self._application.kill()
        return Told(self._where, len(self._marks), failed, self._kills, acknowledged)

    def _work(self, deeds: list[str]) -> int:
        """Returns: how many transfers were acknowledged."""
        self._application.make()
        self._application.start()
        self._application.fill()
        self._begin()
        for deed in deeds:
            self._pause(PAUSE_S_MAX)
            if deed == "bookmark":
                self._bookmark()
            else:
                self._killings[deed](self)
                self._kills[deed] += 1
        self._writers.wait_for_each()
        self._application.end_load()
        counts = self._writers.stop()
        self._assert_kept(self._application, counts)
        self._application.assert_sound()
        self._application.stop()
        return sum(counts.acknowledged)

    def _pause(self, s_max: float) -> None:
        threading.Event().wait(self._rng.uniform(0, s_max))

    def _begin(self) -> None:
        self._writers.start(self._application)
        self._application.begin_load()

    def _bookmark(self) -> None:
        self._writers.assert_working()
        name = f"mark-{len(self._marks)}"
        acknowledged = self._writers.counts().acknowledged
        self._place.bookmark(name)
        self._marks[name] = Counts(acknowledged, self._writers.counts().issued)

    def _kill_worker(self) -> None:
        self._place.kill_worker()
        self._writers.assert_working()

    def _kill_application(self) -> None:
        self._application.kill()
        self._recover(self._writers.kill())

    def _kill_server(self) -> None:
        self._place.kill_server()
        self._start_again()

    def _shut_store_down(self) -> None:
        self._place.shut_store_down(flush_log=self._rng.random() < 0.5)
        self._pause(DYING_S_MAX)
        self._place.kill_server()
        self._start_again()

    def _start_again(self) -> None:
        """After the store has failed below it."""
        self._pause(DYING_S_MAX)
        self._application.kill()
        counts = self._writers.kill()
        self._place.start_again()
        assert set(self._marks) <= set(self._place.bookmarks())
        self._recover(counts)

    def _recover(self, counts: Counts) -> None:
        self._application.start()
        self._writers.go_on_after(self._assert_kept(self._application, counts))
        self._begin()

    _killings: Mapping[str, Callable[[_Play], None]] = {
        "application": _kill_application,
        "worker": _kill_worker,
        "server": _kill_server,
        "storage": _shut_store_down,
    }

    def _assert_kept(self, application: Application, counts: Counts) -> list[int]:
        """Returns: how many transfers of each writer are there, which are neither too few nor too many, and add up."""
        kept = []
        for writer, (acknowledged, issued) in enumerate(zip(*counts, strict=True)):
            with closing(application.session(application.book_of(writer))) as session:
                found = session.ask(
                    f"SELECT count(*), coalesce(min(id), 1), coalesce(max(id), 0) FROM transfers WHERE writer = {writer};"
                )
            count = int(found[0])
            assert found == [str(count), "1", str(count)], f"writer {writer}: count, first, last are {found}"
            assert acknowledged <= count <= issued, f"writer {writer}: {count}, of {acknowledged} to {issued}"
            kept.append(count)
        for book in application.books:
            with closing(application.session(book)) as session:
                sums = session.ask(application.sums())
            assert len(set(sums)) == 1, f"{book}: sums of accounts, tellers, branches, history are {sums}"
        return kept

    def _is_right(self, name: str) -> bool:
        """What a bookmark shows is recovered by its filesystem and its application, and is as it has to be."""
        try:
            with self._place.opened(name) as directory:
                self._assert_right(directory, self._marks[name])
        except Exception:  # noqa: BLE001  told and counted, and the next one is opened
            traceback.print_exc()
            print(f"bookmark {name} is not right", file=sys.stderr, flush=True)
            return False
        return True

    def _assert_right(self, directory: Path, counts: Counts) -> None:
        if not self._beside_copy.exists():
            self._at(directory, self._beside_copy)
        copy = self._make(directory, self._beside_copy)
        try:
            copy.start()
            self._assert_kept(copy, counts)
            copy.assert_sound()
            copy.stop()
        finally:
            copy.kill()
