"""What a branch holds, brought to live volumes and into files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.volumes import content_at, mark, put
from vsnapfs.core.errors import BusyError, IntegrityError, NameTakenError, NotFoundError
from vsnapfs.core.state import Progress
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.restore import Wanted, restore
from vsnapfs.repository import branch_table, branches, bring
from vsnapfs.repository.parts import Report
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit
MIB = 1 << 20
BLOCK = 4096
SEED = 20261126


@pytest.fixture
def branched(repository: Repository) -> Repository:
    """Volumes ``db`` and ``log``; branch ``fix`` on bookmark ``good``; both were written to since."""
    repository.volume_add("db", size_bytes=4 * MIB)
    repository.volume_add("log", size_bytes=MIB)
    put(repository, "log", 0, random.Random(2).randbytes(MIB))
    mark(repository, "db", 0, random.Random(1).randbytes(2 * MIB), "good")
    repository.branch_add("fix", "good")
    put(repository, "db", 10 * BLOCK, b"bad" * BLOCK)
    put(repository, "log", 0, b"bad")
    return repository


def scratch(repository: Repository, name: str, volume: str, offset_bytes: int, content: bytes) -> None:
    """Write to a branch; nothing: zeros of a block."""
    parts = repository._parts
    number = repository.volume(volume).id
    with branches.opened(parts, branches.find(parts, name)) as branch:
        if content:
            branch.write(number, offset_bytes, content)
        else:
            branch.zero(number, offset_bytes, BLOCK)


def held(repository: Repository, name: str, volume: str) -> bytes:
    with repository.restores.source(f"branch:{name}", volume) as source:
        return source.read(0, source.size_bytes)


def primary(repository: Repository, name: str) -> bytes:
    return Path(repository.volume(name).primary_path or "").read_bytes()


def test_all_its_volumes_between_two_bookmarks(branched: Repository) -> None:
    scratch(branched, "fix", "db", 100, b"fixed")
    scratch(branched, "fix", "db", 3 * MIB, b"more" * BLOCK)
    scratch(branched, "fix", "db", 5 * BLOCK, b"")
    wanted = {name: held(branched, "fix", name) for name in ("db", "log")}
    branched.bookmark_add("bad")
    done = branched.restores.promote("fix")
    assert {name: primary(branched, name) for name in wanted} == wanted
    assert {name: content_at(branched, name, "fix") for name in wanted} == wanted
    assert done.changed_bytes == (3 + 1 + 4 + 1 + 1) * BLOCK
    assert done.after.name == "fix"
    assert [done.before.name in command for command in done.undo] == [True, True]
    for name in wanted:
        branched.restores.live(name, done.before.name)
        assert primary(branched, name) == content_at(branched, name, "bad")
    assert [branch.name for branch in branched.branches()] == ["fix"]
    assert held(branched, "fix", "db") == wanted["db"]
    assert branched.check(read_data=True).damages == []


def test_one_volume_of_a_branch(branched: Repository) -> None:
    scratch(branched, "fix", "db", 100, b"fixed")
    branched.bookmark_add("bad")
    log = primary(branched, "log")
    done = branched.restores.live("db", "branch:fix")
    assert primary(branched, "db") == held(branched, "fix", "db")
    assert primary(branched, "log") == log
    assert done.source == "branch:fix"


@pytest.mark.parametrize("number", range(6))
def test_random_branches(branched: Repository, number: int) -> None:
    """Of branches, while both sides are written to."""
    rng = random.Random(SEED + number)
    print(f"seed {SEED + number}")
    branched.branch_add("deeper", "branch:fix")
    for _ in range(30):
        at = rng.randrange(4 * MIB - 50_000)
        content = rng.randbytes(rng.randrange(1, 50_000)) if rng.random() < 0.8 else b""
        match rng.randrange(3):
            case 0:
                put(branched, "db", at, content or bytes(BLOCK))
            case kind:
                scratch(branched, ["fix", "deeper"][kind - 1], "db", at, content)
    for name in ("deeper", "fix", "deeper"):
        branched.restores.promote(name, f"{name}-{len(branched.bookmarks())}")
        assert primary(branched, "db") == held(branched, name, "db")


def test_it_is_called_as_asked(branched: Repository) -> None:
    assert branched.restores.promote("fix", "monday").after.name == "monday"
    branched.bookmark_add("fix")
    with pytest.raises(NameTakenError):
        branched.restores.promote("fix")
    with pytest.raises(NotFoundError, match="did you mean fix"):
        branched.restores.promote("fux")


def test_a_live_volume_that_is_gone(branched: Repository) -> None:
    branched.volume_remove("log")
    was = branched.journal.facts().last_seqno
    with pytest.raises(NotFoundError):
        branched.restores.promote("fix")
    assert branched.journal.facts().last_seqno == was


@pytest.mark.parametrize("way", ["promote", "live"])
def test_a_branch_that_is_open(branched: Repository, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(branches, "CLOSE_WAIT_S", 0)
    was = branched.journal.facts().last_seqno
    with monkeypatch.context() as patch:
        patch.setattr(branch_table._Slot, "files", property(lambda _: 1))
        with pytest.raises(BusyError, match="branch fix is open"):
            WAYS[way](branched, None)
    assert branched.journal.facts().last_seqno == was
    WAYS[way](branched, None)


WAYS: dict[str, Callable[[Repository, Report], object]] = {
    "promote": lambda repository, report: repository.restores.promote("fix", progress=report),
    "live": lambda repository, report: repository.restores.live("db", "branch:fix", progress=report),
}


@pytest.mark.parametrize("way", WAYS)
def test_nobody_gets_at_the_branch_meanwhile(branched: Repository, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """What becomes of the volumes is one state of the branch: who wants to write to it, or remove it, has to wait."""
    monkeypatch.setattr(branches, "CLOSE_WAIT_S", 0)
    refused: list[str] = []

    def meddle(_: Progress) -> None:
        for change in (
            lambda: branched.branch_file("fix", "log"),
            lambda: branched.branch_remove("fix"),
            lambda: branched.restores.promote("fix", "again"),
        ):
            with pytest.raises(BusyError) as error:
                change()
            refused.append(str(error.value))
        branched.branch_add(f"copy{len(refused)}", "branch:fix")

    WAYS[way](branched, meddle)
    assert refused
    branched.branch_remove("fix")


def test_a_branch_that_is_damaged(branched: Repository, path: Path) -> None:
    (path / "branches/fix.json").write_text("{")
    branched.close()
    with Repository.open(path, owner=True) as repository, pytest.raises(IntegrityError):
        repository.restores.promote("fix")


def test_into_a_file_without_a_server(branched: Repository, path: Path, memory_path: Path) -> None:
    scratch(branched, "fix", "db", 3 * MIB, b"fixed")
    wanted = held(branched, "fix", "db")
    branched.close()
    target = memory_path / "db.img"
    done = restore(connect(path), Wanted("branch:fix", "db"), target, lambda _: None)
    assert target.read_bytes() == wanted
    assert (done.source, done.written_bytes) == ("branch:fix", 2 * MIB + BLOCK)
    with pytest.raises(NotFoundError, match="did you mean log"):
        restore(connect(path), Wanted("branch:fix", "lag"), memory_path / "x", lambda _: None)


def test_a_branch_is_compared_anew_when_it_goes_on(
    branched: Repository, path: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been written to since."""
    monkeypatch.setattr(bring, "SETTLE_BYTES", BLOCK)
    target = memory_path / "db.img"
    branched.close()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(connect(path), Wanted("branch:fix", "db"), target, stop)
    with Repository.open(path, owner=True) as repository:
        scratch(repository, "fix", "db", 0, b"written since")
        wanted = held(repository, "fix", "db")
    done = restore(connect(path), Wanted("branch:fix", "db"), target, lambda _: None, resume=True)
    assert target.read_bytes() == wanted
    assert done.resumed_bytes == 0
