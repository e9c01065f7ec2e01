"""Events on their way out of a server: to the log, to those that wait, and to the command for events."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.support.processes import is_alive
from tests.support.waiting import eventually
from vsnapfs.core.errors import BusyError
from vsnapfs.core.events import KINDS, Event, EventKind, event
from vsnapfs.daemon import hook as hook_module
from vsnapfs.daemon import news as news_module
from vsnapfs.daemon.hook import Hook
from vsnapfs.daemon.news import News, log_event, telling
from vsnapfs.policy.events import EventsSettings
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.settings import Settings

pytestmark = pytest.mark.unit


class OneRepository:
    """Tells its listener, and keeps what it told."""

    def __init__(self, path: Path, settings: EventsSettings) -> None:
        self.path = path
        self.settings = Settings(events=settings)
        self.told: list[Event] = []
        self._listener: Callable[[Event], None] = lambda _: None

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener

    def tell(self, kind: EventKind, subject: str = "", **detail: Any) -> None:
        self.told.append(event(len(self.told) + 1, 0, kind, subject, detail))
        self._listener(self.told[-1])

    def details(self, kind: EventKind) -> list[dict[str, Any]]:
        return [event.detail for event in self.told if event.kind == kind]


@asynccontextmanager
async def running(tmp_path: Path, script: str = "", **settings: Any) -> AsyncIterator[tuple[OneRepository, News]]:
    """A repository that tells; the command is ``script``, in Python."""
    (tmp_path / "hook.py").write_text(script)
    command = (sys.executable, "-S", str(tmp_path / "hook.py"), str(tmp_path)) if script else ()
    repository = OneRepository(tmp_path, EventsSettings(command=command, **settings))
    async with telling(cast("Repository", repository)) as news:
        yield repository, news


async def until(look: Callable[[], Any], what: str) -> Any:
    return await trio.to_thread.run_sync(partial(eventually, look, what, deadline_s=30))


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_says_the_same_words(kind: EventKind) -> None:
    with capture_logs() as logs:
        log_event(event(1, 0, kind, "db", {"reason": "why"}))
    assert logs == [
        {
            "event": KINDS[kind].text,
            "log_level": KINDS[kind].severity,
            "kind": kind,
            "subject": "db",
            "reason": "why",
        }
    ]


class TestWaiting:
    async def test_for_the_next_one(self, tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
        async with running(tmp_path) as (repository, news), trio.open_nursery() as nursery:
            nursery.start_soon(news.wait_newer, 0, 30.0)
            await trio.testing.wait_all_tasks_blocked()
            repository.tell("served")
            with trio.fail_after(1):
                await news.wait_newer(0, 30.0)
            before = trio.current_time()
            await news.wait_newer(1, 30.0)
            assert trio.current_time() - before == pytest.approx(30)

    async def test_from_another_thread(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (repository, news), trio.open_nursery() as nursery:
            nursery.start_soon(news.wait_newer, 0, 30.0)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(partial(repository.tell, "served"))

    async def test_until_the_server_ends(self, tmp_path: Path) -> None:
        with trio.fail_after(20):
            async with running(tmp_path) as (_, news), trio.open_nursery() as nursery:
                nursery.start_soon(news.wait_newer, 0, 30.0)
                await trio.testing.wait_all_tasks_blocked()
                news.end()
                await news.wait_newer(0, 30.0)

    async def test_no_more_wait_than_others_can_bear(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(news_module, "FOLLOWERS_MAX", 2)
        async with running(tmp_path) as (_, news), trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(news.wait_newer, 0, 30.0)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BusyError, match="2 follow"):
                await news.wait_newer(0, 30.0)
            nursery.cancel_scope.cancel()
        async with running(tmp_path) as (repository, news):
            repository.tell("served")
            await news.wait_newer(0, 30.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow to start a command loses no event for it."""
    monkeypatch.setattr(hook_module, "DRAIN_S_MAX", 30.0)


async def deaf(*_: object) -> None:
    await trio.sleep_forever()


WRITE = """
import os, sys
text = sys.stdin.read()
with open(sys.argv[1] + "/out", "a") as out:
    out.write(text)
with open(sys.argv[1] + "/env", "a") as out:
    out.write(repr({k: v for k, v in os.environ.items() if k.startswith(("VSNAPFS", "NOTIFY"))}) + "\\n")
"""


@pytest.mark.usefixtures("patient")
class TestTheCommand:
    async def test_it_gets_each_event(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
        async with running(tmp_path, WRITE) as (repository, _):
            repository.tell("bookmark_added", "a b", seqno=1)
            repository.tell("gap_begun", reason="full")
            await until(lambda: len(read(tmp_path / "out")) == 2, "both")
        assert [msgspec.convert(line, Event) for line in read(tmp_path / "out")] == repository.told
        first = eval((tmp_path / "env").read_text().splitlines()[0])
        assert json.loads(first.pop("VSNAPFS_EVENT")) == msgspec.to_builtins(repository.told[0])
        assert first == {
            "VSNAPFS_REPO": str(tmp_path),
            "VSNAPFS_EVENT_ID": "1",
            "VSNAPFS_EVENT_TIME": "1970-01-01T00:00:00.000000000Z",
            "VSNAPFS_EVENT_KIND": "bookmark_added",
            "VSNAPFS_EVENT_SEVERITY": "info",
            "VSNAPFS_EVENT_SUBJECT": "a b",
            "VSNAPFS_EVENT_TEXT": "bookmark made",
        }

    async def test_a_name_that_no_environment_takes(self, tmp_path: Path) -> None:
        """Whoever asks for a bookmark says what its name shall be."""
        async with running(tmp_path, WRITE) as (repository, _):
            repository.tell("bookmark_failed", "a\0b", schedule="s")
        assert [line["subject"] for line in read(tmp_path / "out")] == ["a\0b"]
        assert "'VSNAPFS_EVENT_SUBJECT': 'a?b'" in (tmp_path / "env").read_text()

    async def test_of_the_kinds_that_were_chosen(self, tmp_path: Path) -> None:
        async with running(tmp_path, WRITE, kinds=("gap_begun",)) as (repository, _):
            for kind in ("served", "gap_begun", "gap_closed"):
                repository.tell(kind)
        assert [line["kind"] for line in read(tmp_path / "out")] == ["gap_begun"]

    async def test_the_last_ones_have_a_moment_at_the_end(self, tmp_path: Path) -> None:
        async with running(tmp_path, WRITE) as (repository, _):
            repository.tell("ended")
        assert [line["kind"] for line in read(tmp_path / "out")] == ["ended"]

    async def test_a_failure_is_told_once_until_it_is_another(self, tmp_path: Path) -> None:
        script = """
import sys
text = sys.stdin.read()
if "gap_begun" not in text:
    print("x" * 100_000, file=sys.stderr) if "gap_closed" in text else print("no mail today", file=sys.stderr)
    sys.exit(3)
"""
        async with running(tmp_path, script) as (repository, _):
            for kind in ("served", "served", "gap_closed", "gap_begun", "served"):
                repository.tell(kind)
            await until(lambda: len(repository.details("hook_failed")) == 3, "three failures")
        first, second, third = repository.details("hook_failed")
        assert first == {"of": 1, "reason": "exit status 3: no mail today"}
        assert (second["of"], len(second["reason"])) == (3, 500)
        assert (third["of"], third["reason"]) == (5, first["reason"])

    async def test_its_last_words_are_heard_however_late_we_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever hears it had no turn before it ended."""
        monkeypatch.setattr(hook_module, "_hear", deaf)
        async with running(tmp_path, 'import sys\nsys.exit("no mail today")\n') as (repository, _):
            repository.tell("served")
            await until(lambda: repository.details("hook_failed"), "the failure")
        assert repository.details("hook_failed") == [{"of": 1, "reason": "exit status 1: no mail today"}]

    @pytest.mark.parametrize(
        ("command", "said"),
        [(("/nowhere/tell",), "exit status 127"), (("/etc/passwd",), "exit status 126"), (("false",), "exit status 1")],
    )
    async def test_one_that_cannot_be_run(self, tmp_path: Path, command: tuple[str, ...], said: str) -> None:
        repository = OneRepository(tmp_path, EventsSettings(command=command))
        async with telling(cast("Repository", repository)):
            repository.tell("served")
            await until(lambda: repository.details("hook_failed"), "the failure")
        assert said in repository.details("hook_failed")[0]["reason"]

    async def test_one_that_hangs_is_killed_with_what_it_started(self, tmp_path: Path) -> None:
        script = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
open(sys.argv[1] + "/pids", "w").write(f"{os.getpid()} {child.pid} ")
time.sleep(1000)
"""
        async with running(tmp_path, script, timeout="5s") as (repository, _):
            repository.tell("served")
            await until(lambda: repository.details("hook_failed"), "that it was given up")
        assert repository.details("hook_failed") == [{"of": 1, "reason": "it was still running after 5 s"}]
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2
        await until(lambda: not any(map(is_alive, pids)), "both are gone")

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    async def test_one_that_cannot_be_killed_holds_nobody_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one that waits for a disk cannot."""
        monkeypatch.setattr(hook_module, "REAP_S_MAX", 0.1)
        monkeypatch.setattr(os, "killpg", lambda *_: None)
        script = 'import os, sys, time\nopen(sys.argv[1] + "/pids", "a").write(f"{os.getpid()} ")\ntime.sleep(60)\n'
        try:
            with trio.fail_after(30):
                async with running(tmp_path, script, timeout="2s") as (repository, _):
                    repository.tell("served")
                    await until(lambda: repository.details("hook_failed"), "that it was given up")
        finally:
            for pid in filter(is_alive, map(int, words(tmp_path / "pids"))):
                os.kill(pid, 9)

    async def test_one_that_forks_away_holds_nothing_up(self, tmp_path: Path) -> None:
        """What it leaves behind has its standard error; in its group it is killed, out of it it is let go."""
        script = """
import os, subprocess, sys
inside = subprocess.Popen(["sleep", "1000"])
outside = subprocess.Popen(["sleep", "60"], start_new_session=True)
open(sys.argv[1] + "/pids", "a").write(f"{inside.pid} {outside.pid} ")
"""
        async with running(tmp_path, script) as (repository, _):
            repository.tell("served")
            repository.tell("ended")
            await until(lambda: len(words(tmp_path / "pids")) == 4, "both runs")
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        try:
            await until(lambda: not any(map(is_alive, pids[::2])), "those of the group are gone")
            assert repository.details("hook_failed") == []
        finally:
            for pid in filter(is_alive, pids[1::2]):
                os.kill(pid, 9)

    async def test_one_that_floods_and_reads_nothing(self, tmp_path: Path) -> None:
        script = """
import os, sys
for _ in range(400):
    os.write(1, b"x" * 65536)
    os.write(2, b"y" * 65536)
open(sys.argv[1] + "/done", "a").write("done ")
"""
        async with running(tmp_path, script) as (repository, _):
            repository.tell("bookmark_added", "a", note="n" * 5000)
            repository.tell("served")
            await until(lambda: words(tmp_path / "done") == ["done"] * 2, "both runs")
        assert repository.details("hook_failed") == []

    async def test_what_comes_too_quickly_is_dropped_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hook_module, "QUEUE_MAX", 2)
        async with running(tmp_path, WRITE) as (repository, _):
            for _ in range(20):
                repository.tell("served")
            await until(lambda: repository.details("events_dropped"), "that they were dropped")
        dropped = sum(detail["count"] for detail in repository.details("events_dropped"))
        assert len(read(tmp_path / "out")) + dropped == 20
        assert dropped >= 17

    async def test_at_the_end_nobody_waits_for_one_that_hangs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hook_module, "DRAIN_S_MAX", 0.2)
        with trio.fail_after(20):
            async with running(tmp_path, "import time\ntime.sleep(1000)\n") as (repository, _):
                for _ in range(3):
                    repository.tell("served")
        assert repository.details("events_dropped") == [{"count": 2}]

    def test_it_has_a_time_limit_without_us(self, tmp_path: Path) -> None:
        settings = EventsSettings(command=("tell", "--to=x"), timeout="1.5s")
        words = Hook(settings, cast("Repository", OneRepository(tmp_path, settings)))._words()
        assert words[-5:] == ["timeout", "--signal=KILL", "31.500", "tell", "--to=x"]


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
