"""Archives that a server makes by itself, under a clock of the test's own: in which order, one at a time for each medium, tried again,
and what is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock

from vsnapfs.core.errors import (
    BusyError,
    CorruptExtentError,
    DegradedError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    VsnapfsError,
)
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import ArchivingState
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.daemon.archiving import AGAIN_S_MAX, AGAIN_S_MIN, Archivist, archiving, words_of
from vsnapfs.policy.archive_choice import Due
from vsnapfs.policy.archiving import ArchivePolicy
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

START = parse_iso("2026-11-26T10:00:00Z")
LONG_S = 600.0


def policy(to: str, **keys: Any) -> ArchivePolicy:
    return msgspec.convert({"bookmarks": "*", "to": to, **keys}, ArchivePolicy)


class World:
    """A repository with bookmarks that policies want on media, and a command that takes a minute."""

    def __init__(self, **policies: ArchivePolicy) -> None:
        self.settings = SimpleNamespace(archive=policies)
        self.generation = 0
        self.standing: list[str] = []
        self.on_tape: set[tuple[str, str]] = set()
        """Medium and bookmark."""
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.asked: list[tuple[int, str, str, bool]] = []
        """After so many seconds, bookmark, medium, whether to go on with what was broken off."""
        self.running: list[str] = []
        self.most_at_once = 0
        self.error: Callable[[Due], VsnapfsError | None] = lambda _: None
        self.unreadable: VsnapfsError | None = None
        self.forgets = False
        """The catalog does not have what the command has made."""
        self._began_s = trio.current_time()

    def wall_ns(self) -> int:
        return START + round((trio.current_time() - self._began_s) * NS_PER_S)

    def add(self, *names: str) -> None:
        self.standing += names
        self.generation += 1

    def archives_due(self, names: Collection[str], anew: Collection[tuple[str, str]] = ()) -> list[Due]:
        if self.unreadable is not None:
            raise self.unreadable
        return [
            Due(name, bookmark, seqno, to, (), None, (name, bookmark) not in anew)
            for seqno, bookmark in enumerate(self.standing)
            for name in names
            if ((to := self.settings.archive[name].to), bookmark) not in self.on_tape
        ]

    def archive_of(self, due: Due) -> ArchiveEntry | None:
        point = {"seqno": due.seqno, "time": iso(0)}
        made = {"uuid": "u", "repository": "r", "kind": "full", "point": point, "made": iso(0)}
        there = (due.to, due.bookmark) in self.on_tape and self.bookmark(due.bookmark).seqno == due.seqno
        return msgspec.convert(made, ArchiveEntry) if there else None

    def bookmark(self, name: str) -> Bookmark:
        if name not in self.standing:
            raise NotFoundError(name)
        return cast("Bookmark", SimpleNamespace(seqno=self.standing.index(name)))

    def tell(self, kind: str, subject: str = "", **detail: Any) -> None:
        self.told.append((kind, subject, detail))

    async def archive(self, due: Due) -> VsnapfsError | None:
        self.asked.append((round(trio.current_time() - self._began_s), due.bookmark, due.to, due.resume))
        self.running.append(due.to)
        assert self.running.count(due.to) == 1
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            await trio.sleep(60)
        finally:
            self.running.remove(due.to)
        error = self.error(due)
        if error is None and not self.forgets:
            self.on_tape.add((due.to, due.bookmark))
        return error

    async def in_thread(self, what: Callable[[], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return what()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Archivist]:
        archivist = Archivist(cast("Repository", self), self.archive, self.wall_ns, self.in_thread)
        async with archiving(archivist):
            yield archivist

    def order(self) -> list[str]:
        return [bookmark for _, bookmark, *_ in self.asked]

    def kinds(self) -> list[tuple[str, str]]:
        return [(kind, subject) for kind, subject, _ in self.told]


def state(archivist: Archivist, name: str = "p") -> ArchivingState:
    return archivist.told(
        ArchivingState(name=name, when="", medium="", waiting=[], unprotected=[], last_error="as the catalog says")
    )


async def test_what_is_due_the_oldest_first_and_then_what_comes(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.add("a", "b")
    async with world.served() as archivist:
        await trio.sleep(30)
        assert (state(archivist).under_way, state(archivist).last_error) == ("a", None)
        await trio.sleep(150)
        assert state(archivist).under_way is None
        world.add("c")
        await trio.sleep(2)
        assert state(archivist).under_way == "c"
        await trio.sleep(LONG_S)
    assert world.order() == ["a", "b", "c"]
    assert world.kinds() == [("archived", "a"), ("archived", "b"), ("archived", "c")]
    assert world.told[0][2] == {
        "seqno": 0, "policy": "p", "medium": "vault", "archive": "u", "archive_kind": "full", "stored_bytes": 0,
    }  # fmt: skip


async def test_one_at_a_time_for_each_medium(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"), q=policy("vault"), other=policy("lto"))
    world.add("a", "b", "c")
    async with world.served():
        await trio.sleep(LONG_S)
    assert world.most_at_once == 2
    assert sorted((to, bookmark) for _, bookmark, to, _ in world.asked) == [
        (to, name) for to in ("lto", "vault") for name in ("a", "b", "c")
    ], "two policies want the same, and once is enough"


async def test_a_medium_that_fails_is_tried_again_after_longer_and_longer(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda _: NoSpaceError("no tape has room")
    world.add("a", "b")
    async with world.served() as archivist:
        await trio.sleep(65)
        failed = state(archivist)
        assert (failed.last_error, failed.under_way, failed.again) == (
            "a: no tape has room", None, iso(START + 70 * NS_PER_S),
        )  # fmt: skip
        await trio.sleep(40_000)
        world.add("c")
        world.error = lambda _: None
        await trio.sleep(2 * AGAIN_S_MAX)
        assert state(archivist).last_error is None
    times = [at for at, *_ in world.asked]
    pauses = [after - before - 60 for before, after in pairwise(times)]
    assert pauses[:3] == [AGAIN_S_MIN, 2 * AGAIN_S_MIN, 4 * AGAIN_S_MIN]
    assert max(pauses) == AGAIN_S_MAX
    assert set(world.order()[:-2]) == {"a"}, "in order: b would not have come on tape either"
    assert world.order()[-3:] == ["a", "b", "c"]
    assert world.kinds()[0] == ("archive_failed", "a")
    assert [kind for kind, _ in world.kinds()] == ["archive_failed", "archived", "archived", "archived"]
    assert all(resume for *_, resume in world.asked)
    detail = world.told[0][2]
    assert (detail["policy"], detail["reason"]) == ("p", "no tape has room")


async def test_what_somebody_else_has_archived_ends_the_wait(autojump_clock: MockClock) -> None:
    """A person puts a tape in, and archives by hand what the server could not."""
    world = World(p=policy("vault"))
    world.error = lambda _: NoSpaceError("no tape has room")
    world.add("a")
    async with world.served() as archivist:
        await trio.sleep(10 * AGAIN_S_MAX)
        tries = len(world.asked)
        world.error = lambda _: None
        world.on_tape.add(("vault", "a"))
        await trio.sleep(61)
        assert state(archivist).last_error is None
        world.add("b")
        await trio.sleep(120)
        assert len(world.asked) in (tries + 1, tries + 2), "a may have been under way"
        assert ("vault", "b") in world.on_tape


async def test_what_has_gone_does_not_end_the_wait(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda _: NoSpaceError("no tape has room")
    world.add("a", "b")
    async with world.served():
        await trio.sleep(10 * AGAIN_S_MAX)
        tries = len(world.asked)
        world.standing.remove("a")
        await trio.sleep(AGAIN_S_MAX)
    assert len(world.asked) <= tries + 1


async def test_a_damaged_point_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda due: CorruptExtentError("db is damaged") if due.bookmark == "a" else None
    world.add("a", "b")
    async with world.served() as archivist:
        await trio.sleep(180)
        assert world.order()[:2] == ["a", "b"]
        assert ("vault", "b") in world.on_tape
        await trio.sleep(LONG_S)
        assert state(archivist).last_error == "a: db is damaged"
    assert world.kinds().count(("archived", "b")) == 1
    assert all(resume for *_, resume in world.asked), "what is on tape of it is right"


@pytest.mark.parametrize("error", [IntegrityError("read back otherwise"), DegradedError("does not read as it did")])
async def test_what_is_of_no_use_on_tape_is_begun_anew(autojump_clock: MockClock, error: VsnapfsError) -> None:
    world = World(p=policy("vault"))
    world.error = lambda due: error if due.resume else None
    world.add("a")
    async with world.served():
        await trio.sleep(LONG_S)
    assert [resume for *_, resume in world.asked] == [True, False]
    assert world.kinds() == [("archive_failed", "a"), ("archived", "a")]


async def test_what_is_of_no_use_again_and_again_does_not_fill_the_tapes(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda due: IntegrityError("read back otherwise") if due.bookmark == "a" else None
    world.add("a", "b")
    async with world.served():
        await trio.sleep(AGAIN_S_MAX)
        assert world.order() == ["a", "a", "b"], "the others go on"
        await trio.sleep(16 * 3600)
    assert len(world.asked) <= 8


async def test_somebody_else_is_waited_for_without_a_word(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda _: BusyError("another archive is under way") if len(world.asked) < 4 else None
    world.add("a")
    async with world.served() as archivist:
        await trio.sleep(65)
        assert state(archivist).last_error is None
        await trio.sleep(LONG_S)
    assert len(world.asked) == 4
    assert world.kinds() == [("archived", "a")]


async def test_a_bookmark_that_has_gone_meanwhile_is_no_failure(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.error = lambda due: None if due.bookmark in world.standing else NotFoundError(due.bookmark)
    world.add("a", "b")
    async with world.served():
        await trio.sleep(30)
        world.standing.remove("a")
        await trio.sleep(LONG_S)
    assert world.order() == ["a", "b"]
    assert world.kinds() == [("archived", "b")]


async def test_a_bookmark_that_became_another_meanwhile_is_no_failure(autojump_clock: MockClock) -> None:
    """What was archived is the new one: the catalog does not have the old one."""
    world = World(p=policy("vault"))
    world.add("a")
    async with world.served() as archivist:
        await trio.sleep(30)
        world.on_tape.add(("vault", "another"))
        world.standing[:] = ["another", "a"]
        await trio.sleep(LONG_S)
        assert state(archivist).last_error is None
    assert world.order() == ["a"]
    assert world.told == []


async def test_an_archive_that_the_catalog_does_not_have_is_not_made_again_and_again(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"))
    world.forgets = True
    world.add("a")
    async with world.served() as archivist:
        await trio.sleep(3600)
        assert "does not have it" in str(state(archivist).last_error)
    assert len(world.asked) < 10


async def test_a_catalog_that_cannot_be_read(autojump_clock: MockClock) -> None:
    world = World(p=policy("vault"), q=policy("vault"))
    world.unreadable = IntegrityError("tapes.db is damaged")
    world.add("a")
    async with world.served() as archivist:
        await trio.sleep(5)
        assert [state(archivist, name).last_error for name in ("p", "q")] == ["tapes.db is damaged"] * 2
        assert state(archivist).again == iso(START + 10 * NS_PER_S)
        world.unreadable = None
        await trio.sleep(LONG_S)
        assert [state(archivist, name).last_error for name in ("p", "q")] == [None] * 2
    assert world.order() == ["a"]
    assert world.kinds() == [("archive_failed", ""), ("archive_failed", ""), ("archived", "a")]


def test_the_command() -> None:
    world = SimpleNamespace(settings=SimpleNamespace(archive={
        "p": policy("vault"), "q": policy("vault", verify=True, compress=True, rate="1M"),
    }))  # fmt: skip
    repository = cast("Repository", world)
    least = words_of(Due("p", "a", 7, "vault", (), None, resume=False), repository)
    assert least == ["archive", "--json", "--to", "vault", "--by-policy", "p", "--", "a"]
    most = words_of(Due("q", "a", 7, "vault", ("db", "logs"), "@3", resume=True), repository)
    assert most == [
        "archive", "--json", "--to", "vault", "--by-policy", "q", "--resume", "--since", "@3",
        "--volume", "db", "--volume", "logs", "--verify", "--compress", "--rate", str(1 << 20), "--", "a",
    ]  # fmt: skip
