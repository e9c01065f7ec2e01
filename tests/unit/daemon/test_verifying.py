"""Verifications that a server runs by itself, under a clock of the test's own: which bookmarks, one at a time, what is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from vsnapfs.core.errors import BusyError, NotFoundError, StoreError, VsnapfsError
from vsnapfs.core.model import Bookmark, Verdict
from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.daemon.verifying import Judged, Verifier, by_command, verifying
from vsnapfs.policy.verification import Verification
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

H = 3600.0
START = parse_iso("2026-11-26T10:00:00Z")


class World:
    """A repository as far as verifications know it, and a command that takes a while."""

    def __init__(self, **profiles: Verification) -> None:
        self.uuid = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"
        self.settings = SimpleNamespace(verify=profiles)
        self.standing: dict[str, Bookmark] = {}
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.handled_ns: dict[str, int] = {}
        self.asked: list[tuple[str, str, str]] = []
        """Hour, bookmark, profile."""
        self.takes_s = 60.0
        self.running = 0
        self.running_max = 0
        self.error: Callable[[str], VsnapfsError | None] = lambda _: None
        self.good = True
        self._began_s = trio.current_time()

    def wall_ns(self) -> int:
        return START + round((trio.current_time() - self._began_s) * NS_PER_S)

    def add(self, name: str) -> None:
        seqno = len(self.standing) + 1
        now_ns = self.wall_ns()
        self.standing[name] = Bookmark(
            name=name, seqno=seqno, time=iso(now_ns), time_ns=now_ns, consistency="crash",
            created_seqno=seqno, created=iso(now_ns), created_ns=now_ns,
        )  # fmt: skip

    def bookmarks(self) -> list[Bookmark]:
        return list(self.standing.values())

    def bookmark(self, name: str) -> Bookmark:
        if name not in self.standing:
            raise NotFoundError(name)
        return self.standing[name]

    def verifications_handled_ns(self) -> dict[str, int]:
        return self.handled_ns

    def tell(self, kind: str, subject: str = "", **detail: Any) -> None:
        self.told.append((kind, subject, detail))

    async def judge(self, bookmark: str, profile: str) -> Judged:
        self.asked.append((iso(self.wall_ns())[11:13], bookmark, profile))
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.running -= 1
        error = self.error(bookmark)
        if error is None and bookmark in self.standing:
            self._give(bookmark, profile)
        return Judged(self.good, error)

    def _give(self, name: str, profile: str) -> None:
        import msgspec

        verdict = Verdict(profile=profile, good=self.good, time=iso(0), took_s=1.0, volumes=(), proved=())
        self.standing[name] = msgspec.structs.replace(self.standing[name], verdicts=(verdict,))

    async def in_thread(self, what: Callable[[], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return what()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Verifier]:
        verifier = Verifier(cast("Repository", self), self.judge, self.wall_ns, self.in_thread)
        async with verifying(verifier):
            yield verifier


async def test_the_newest_when_it_is_due(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h"))
    world.add("a")
    async with world.served() as verifier:
        assert verifier.states()["p"].next_due == "2026-11-26T11:00:00.000000000Z"
        await trio.sleep(H + 1)
        assert verifier.states()["p"].running
        world.add("b")
        await trio.sleep(H)
    assert world.asked == [("11", "a", "p"), ("12", "b", "p")]
    assert world.told == []


async def test_each_in_one_run(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h", bookmarks="each"))
    for name in ("a", "b"):
        world.add(name)
    async with world.served():
        await trio.sleep(1.5 * H)
        for name in ("c", "d"):
            world.add(name)
        await trio.sleep(2 * H)
    assert world.asked == [("11", "b", "p"), ("12", "c", "p"), ("12", "d", "p")]


async def test_never_two_at_once(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h"), q=Verification(every="1h"), by_hand=Verification())
    world.add("a")
    world.takes_s = 600
    async with world.served() as verifier:
        assert set(verifier.states()) == {"p", "q"}
        await trio.sleep(3.5 * H)
    assert world.running_max == 1
    assert len(world.asked) == 6


async def test_one_that_takes_longer_than_its_span_misses_some(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h"))
    world.add("a")
    world.takes_s = 2.5 * H
    async with world.served():
        await trio.sleep(5.5 * H)
    assert [hour for hour, *_ in world.asked] == ["11", "14"]
    kind, subject, detail = world.told[0]
    assert (kind, subject, detail["count"], detail["made_up_for"]) == ("verify_missed", "p", 2, False)


async def test_what_was_missed_without_a_server_is_made_up_for_once(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h"))
    world.add("a")
    world.handled_ns = {"p": START - 5 * 3600 * NS_PER_S - 1}
    async with world.served():
        await trio.sleep(1)
        assert len(world.asked) == 1
    ((kind, _, detail),) = world.told
    assert (kind, detail["made_up_for"]) == ("verify_missed", True)


async def test_a_verdict_that_is_not_good_is_no_failure_of_the_run(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h", bookmarks="each"))
    world.add("a")
    world.good = False
    async with world.served() as verifier:
        await trio.sleep(1.5 * H)
        assert verifier.states()["p"].last_error is None
        world.add("b")
        await trio.sleep(H)
    assert [name for _, name, _ in world.asked] == ["a", "b"]
    assert world.told == [], "who gave the verdict has told of it"


async def test_no_verdict_is_told_and_the_rest_waits(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h", bookmarks="each"))
    world.add("a")
    async with world.served() as verifier:
        await trio.sleep(1.5 * H)
        for name in ("b", "c"):
            world.add(name)
        world.error = lambda _: StoreError("no loop device")
        await trio.sleep(H)
        assert verifier.states()["p"].last_error == "no loop device"
        assert [name for _, name, _ in world.asked] == ["a", "b"]
        world.error = lambda _: None
        await trio.sleep(H)
        assert verifier.states()["p"].last_error is None
    assert [name for _, name, _ in world.asked] == ["a", "b", "b", "c"]
    ((kind, subject, detail),) = world.told
    assert (kind, subject) == ("verify_failed", "b")
    assert detail == {"seqno": 2, "profile": "p", "reason": "no loop device"}


async def test_somebody_else_is_waited_for(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h"))
    world.add("a")
    world.takes_s = 0.01
    tries: list[None] = []

    def error(_: str) -> VsnapfsError | None:
        tries.append(None)
        return BusyError("a verification is under way") if len(tries) < 5 else None

    world.error = error
    async with world.served() as verifier:
        await trio.sleep(1.5 * H)
        assert len(tries) == 5
        world.error = lambda _: BusyError("for ever")
        await trio.sleep(H)
        assert verifier.states()["p"].last_error == "for ever"


async def test_a_bookmark_that_has_gone_meanwhile_is_passed_over(autojump_clock: MockClock) -> None:
    world = World(p=Verification(every="1h", bookmarks="each"))
    world.add("a")

    def gone(name: str) -> VsnapfsError | None:
        return None if name in world.standing else NotFoundError(f"no bookmark {name}")

    world.error = gone
    async with world.served():
        await trio.sleep(1.5 * H)
        for name in ("b", "c"):
            world.add(name)
        await trio.sleep(H / 2 + 10)
        del world.standing["b"]
        await trio.sleep(H)
    assert [name for _, name, _ in world.asked] == ["a", "b", "c"]
    assert world.told == []


SCRIPT = "import sys; {}"


@pytest.mark.parametrize(
    ("program", "good", "error"),
    [
        ("sys.exit(0)", True, None),
        ("sys.exit(6)", False, None),
        ("sys.stderr.write('nice: cannot set niceness'); sys.exit(0)", True, None),
        (
            """sys.stderr.write('noise\\n{"error": {"kind": "BusyError", "message": "held", "fields": {}}}\\n'); sys.exit(5)""",
            False,
            BusyError("held"),
        ),
        ("sys.stderr.write('boom'); sys.exit(1)", False, StoreError("the verification ended with status 1: boom")),
        (
            """sys.stderr.write('{"error": {"kind": "IntegrityError", "message": "torn", "fields": {}}}'); sys.exit(6)""",
            False,
            VsnapfsError("torn"),
        ),
    ],
)
async def test_what_the_command_says(
    program: str, good: bool, error: VsnapfsError | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Status 6 alone is a verdict; with an error beside it, it is that."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nexec python3 -c "$PROGRAM"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PROGRAM", SCRIPT.format(program))
    monkeypatch.setattr("sys.executable", str(stand_in))
    judged = await by_command(cast("Repository", SimpleNamespace(path=tmp_path)))("a", "p")
    assert judged.good is good
    assert str(judged.error) == str(error)


async def test_one_that_is_under_way_at_the_end_is_told_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"#!/bin/sh\ntrap 'touch {tmp_path}/ended; exit 1' TERM\ntouch {tmp_path}/began\nwhile :; do sleep 0.1; done\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stand_in))
    judge = by_command(cast("Repository", SimpleNamespace(path=tmp_path)))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(judge, "a", "p")
            while not (tmp_path / "began").exists():  # noqa: ASYNC110  a file of another process
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert (tmp_path / "ended").exists()
