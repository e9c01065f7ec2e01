"""Archives by policy behind a real server, and by ``archive --due``: they come by themselves, what is not archived stays, a command or a
server that is killed costs nothing, a medium that fails is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.processes import children_of, must, must_json, run
from tests.support.volumes import flip_bit, put
from tests.support.waiting import eventually
from vsnapfs.archive.alone import alone
from vsnapfs.archive.due import ArchivesDue, DueArchives
from vsnapfs.archive.listing import archive_list
from vsnapfs.daemon.archiving import words_of
from vsnapfs.policy.archive_choice import Due
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

USAGE, NOT_FOUND, DAMAGED, NO_SPACE, DEGRADED = 2, 3, 6, 7, 8
LONG_S = 120.0
"""What a server has done, it has done with less priority than all else."""
SETTINGS = """
[retention]
protection_window = "1ms"
keep_last = 1
prune = "off"

[media.vault]
kind = "pool"
path = "{pool}"
capacity = "100M"
piece = "64K"
{medium}

[archive.daily]
bookmarks = "daily-*"
to = "vault"
full = 3
protect = "14d"
{policy}
"""


def settings(repository: Path, medium: str = "", policy: str = "") -> Path:
    """Returns the pool of ``vault``, which is not made."""
    pool = repository.parent / "pool"
    (repository / "vsnapfs.toml").write_text(SETTINGS.format(pool=pool, medium=medium, policy=policy))
    return pool


def grow(repository: Path, *names: str) -> None:
    """Bookmarks of these names, each behind a write of 1 MiB; without a server."""
    with Repository.open(repository, owner=True) as opened:
        for number, name in enumerate(names, 1):
            put(opened, "db", 0, bytes([number]) * MIB)
            put(opened, "db", 3 * MIB, mark_of(name))
            opened.bookmark_add(name)
        for number in range(400):  # so that they lie before the window
            put(opened, "db", 2 * MIB, bytes([number % 256]) * 512)


def mark_of(name: str) -> bytes:
    return f"a block of {name}".encode().ljust(4096, b".")


def archived(repository: Path) -> list[tuple[str | None, str, str]]:
    """Bookmark, kind and state of each archive, in their order."""
    return [(each.point.bookmark, each.kind, each.state) for each in archive_list(repository).archives]


def complete(*names: str) -> list[tuple[str | None, str, str]]:
    """As they should be: each third one is full."""
    return [(name, "incremental" if number % 3 else "full", "complete") for number, name in enumerate(names)]


def policy_of(repository: Path) -> Any:
    """How it stands, whatever the exit status of ``status``."""
    (state,) = json.loads(run(repository, "status", "--json").stdout)["archiving"]
    return state


def events(repository: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    found = must_json(repository, "events", "--kind", kind)["events"]
    return [(event["subject"], event["detail"]) for event in found]


def fates(repository: Path) -> dict[str, tuple[bool, list[str]]]:
    found = must_json(repository, "prune", "--dry-run")["bookmarks"]
    return {each["bookmark"]: (each["stays"], each["reasons"]) for each in found}


def test_what_is_due_is_done_once(repository: Path) -> None:
    settings(repository).mkdir()
    grow(repository, "daily-1", "other", "daily-2", "daily-3", "daily-4")
    assert fates(repository)["daily-1"] == (True, ["not yet archived (daily)"])
    assert "not yet archived (daily)" in must(repository, "prune", "--dry-run")
    said = must(repository, "archive", "--due")
    assert [line.split()[4] for line in said.splitlines()] == ["daily-1:", "daily-2:", "daily-3:", "daily-4:"]
    assert archived(repository) == complete("daily-1", "daily-2", "daily-3", "daily-4")
    assert must(repository, "archive", "--due") == "nothing is due\n"
    assert must_json(repository, "archive", "--due", "--policy", "daily") == {"archives": [], "failures": []}
    assert "daily, all of daily-* to vault; last daily-4" in run(repository, "status").stdout
    assert [name for name, (stays, _) in fates(repository).items() if not stays] == [
        "daily-1",
        "other",
        "daily-2",
        "daily-3",
    ]
    must(repository, "prune")
    assert must(repository, "archive", "--due") == "nothing is due\n"


def test_what_is_refused(repository: Path) -> None:
    settings(repository)
    assert "did you mean daily?" in refused(repository, NOT_FOUND, "archive", "--due", "--policy", "dayly")
    for words in (
        ("--due", "x"),
        ("--policy", "daily"),
        ("--due", "--to", "vault"),
        ("--due", "--verify"),
        ("list", "--due"),
    ):
        assert "--due takes --policy alone" in refused(repository, USAGE, "archive", *words)


def test_a_medium_that_fails_and_one_that_does_not(repository: Path) -> None:
    other = repository.parent / "other"
    policy = (
        '[archive.too]\nbookmarks = "*"\nto = "other"\n'
        f'[media.other]\nkind = "pool"\npath = "{other}"\ncapacity = "1M"\n'
    )
    settings(repository, policy=policy)
    other.mkdir()
    grow(repository, "daily-1", "else")
    done = run(repository, "archive", "--due", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == NOT_FOUND, done.stderr
    assert [(each["policy"], each["bookmark"], each["medium"]) for each in answer["failures"]] == [
        ("daily", "daily-1", "vault")
    ]
    assert [each["archive"]["point"]["bookmark"] for each in answer["archives"]] == ["daily-1", "else"]
    done = run(repository, "archive", "--due")
    assert (done.returncode, done.stdout) == (NOT_FOUND, "")
    assert done.stderr.startswith("vsnapfs: daily-1 to vault (daily): ")


def test_a_damaged_point_holds_up_no_other(repository: Path) -> None:
    settings(repository).mkdir()
    grow(repository, "daily-1", "daily-2")
    (segment,) = (repository / "journal").glob("*.seg")
    flip_bit(segment, mark_of("daily-1"))
    done = run(repository, "archive", "--due")
    assert done.returncode == DAMAGED
    assert "daily-1 to vault (daily): " in done.stderr
    assert ("daily-2", "full", "complete") in archived(repository)
    state = policy_of(repository)
    assert (state["waiting"], state["last_bookmark"]) == (["daily-1"], "daily-2")
    assert state["last_error"].startswith("daily-1: ")


def test_what_somebody_else_has_done_meanwhile_is_not_done_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that the medium is free."""
    settings(repository).mkdir()
    grow(repository, "daily-1")

    def behind_another(*where: Any) -> Any:
        monkeypatch.undo()
        must(repository, "archive", "--due")
        return alone(*where)

    with Repository.open(repository, owner=False) as opened:
        archives = DueArchives(opened, (), lambda _: None, time.time_ns, None)
        monkeypatch.setattr("vsnapfs.archive.request.alone", behind_another)
        archives.run()
    assert archives.answer == ArchivesDue(archives=[], failures=[])
    due = Due("daily", "daily-1", 0, "vault", (), None, resume=True)
    with Repository.open(repository, owner=False) as opened:
        must(repository, *words_of(due, opened))  # as a server has it done
    assert archived(repository) == complete("daily-1")


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_a_server_archives_by_itself(repository: Path, tmp_path: Path) -> None:
    settings(repository).mkdir()
    grow(repository, "daily-1", "daily-2")
    with serving(repository, tmp_path / "mount"):
        eventually(
            lambda: archived(repository) == complete("daily-1", "daily-2"), "those that stand", deadline_s=LONG_S
        )
        must(repository, "bookmark", "add", "daily-3")
        must(repository, "bookmark", "add", "else")
        must(repository, "bookmark", "add", "daily-4")
        wanted = complete("daily-1", "daily-2", "daily-3", "daily-4")
        eventually(lambda: archived(repository) == wanted, "those that are made", deadline_s=LONG_S)
        eventually(lambda: len(events(repository, "archived")) == 4, "each is told", deadline_s=LONG_S)
        name, detail = events(repository, "archived")[1]
        assert (name, detail["policy"], detail["medium"], detail["archive_kind"]) == (
            "daily-2",
            "daily",
            "vault",
            "incremental",
        )
        state = policy_of(repository)
        assert (state["waiting"], state["last_bookmark"], state["last_error"]) == ([], "daily-4", None)
        must(repository, "status")
    with serving(repository, tmp_path / "mount"):
        must(repository, "bookmark", "add", "daily-5")
        eventually(
            lambda: archived(repository) == complete(*(f"daily-{number}" for number in range(1, 6))),
            "the next",
            deadline_s=LONG_S,
        )
    assert events(repository, "archive_failed") == []


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_a_medium_that_fails_is_told_and_tried_again(repository: Path, tmp_path: Path) -> None:
    pool = settings(repository)
    grow(repository, "daily-1")
    with serving(repository, tmp_path / "mount"):
        eventually(lambda: len(events(repository, "archive_failed")) == 1, "it is told", deadline_s=LONG_S)
        ((name, detail),) = events(repository, "archive_failed")
        assert (name, detail["policy"]) == ("daily-1", "daily")
        assert str(pool) in detail["reason"]
        state = policy_of(repository)
        assert state["last_error"] == f"daily-1: {detail['reason']}"
        done = run(repository, "status")
        assert done.returncode == DEGRADED
        assert "problem:    archive daily: its last try failed: daily-1: " in done.stdout
        assert "not yet archived (daily)" in fates(repository)["daily-1"][1]
        pool.mkdir()
        eventually(lambda: archived(repository) == complete("daily-1"), "it is tried again", deadline_s=LONG_S)
        eventually(lambda: policy_of(repository)["last_error"] is None, "the failure is over", deadline_s=LONG_S)
        must(repository, "status")


def archive_of(server_pid: int) -> int | None:
    """The process of the command that a server runs, once it is that of the command itself."""
    for worker in [server_pid, *children_of(server_pid)]:
        for child in children_of(worker):
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"archive" in words and b"python" in words[0]:  # choom and nice have become it by then
                return child
    return None


def pieces(pool: Path) -> int:
    return len(list(pool.glob("*/*.index")))


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_a_command_and_a_server_that_are_killed(repository: Path, tmp_path: Path) -> None:
    """The command is killed in the middle and gone on with; then the server is, whose command ends what it has begun, or the next
    server does. Nothing comes on tape twice."""
    pool = settings(repository, medium='rate = "256K"')
    pool.mkdir()
    grow(repository, "daily-1", "daily-2")
    with serving(repository, tmp_path / "mount") as server:
        eventually(lambda: pieces(pool) >= 4, "some pieces", deadline_s=LONG_S)
        child = archive_of(server.pid)
        assert child is not None
        os.kill(child, signal.SIGKILL)
        eventually(lambda: len(events(repository, "archive_failed")) == 1, "it is told", deadline_s=LONG_S)
        eventually(
            lambda: ("daily-2", "incremental", "under way") in archived(repository),
            "the first one is there",
            deadline_s=LONG_S,
        )
        orphan = archive_of(server.pid)
        server.kill()
    with serving(repository, tmp_path / "mount"):
        eventually(lambda: archived(repository) == complete("daily-1", "daily-2"), "both", deadline_s=LONG_S)
        if orphan is not None:
            eventually(lambda: not Path(f"/proc/{orphan}").exists(), "nobody is at it any more", deadline_s=LONG_S)
        must(repository, "bookmark", "add", "daily-3")
        wanted = complete("daily-1", "daily-2", "daily-3")
        eventually(lambda: archived(repository) == wanted, "the next", deadline_s=LONG_S)
        eventually(lambda: events(repository, "archived")[-1][0] == "daily-3", "it is told", deadline_s=LONG_S)
    done = subprocess.run(["find", str(pool), "-name", "*.part"], capture_output=True, text=True, check=True)
    assert done.stdout == ""
