"""Schedules behind a real server: bookmarks come by themselves, each second; a profile is made still for them; another server, a
worker that is killed, and a run that fails are seen for what they are.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import refused, serving
from tests.support.processes import children_of, must, must_json, run
from tests.support.waiting import eventually
from vsnapfs.core.times import NS_PER_S
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

DEGRADED = 8


def made(repository: Path, schedule: str = "tick") -> list[dict[str, Any]]:
    return [found for found in must_json(repository, "bookmark", "list")["bookmarks"] if found["schedule"] == schedule]


def events(repository: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = must_json(repository, "events", "--kind", kind)["events"]
    return found


def status_of(repository: Path) -> Any:
    """Whatever its exit status."""
    return json.loads(run(repository, "status", "--json").stdout)


def settings(repository: Path, text: str) -> None:
    (repository / "vsnapfs.toml").write_text(text)


def test_a_bookmark_each_second(repository: Path, tmp_path: Path) -> None:
    settings(repository, '[schedule.tick]\nevery = "1s"\nnote = "by itself"\napp = "shop"\n')
    with serving(repository, tmp_path / "mount") as server:
        eventually(lambda: len(made(repository)) >= 4, "four bookmarks")
        (state,) = status_of(repository)["schedules"]
        assert (state["name"], state["when"], state["last_error"]) == ("tick", "every 1s", None)
        assert state["next_due"] > state["last_made"]
        assert "tick, every 1s; last tick-" in must(repository, "status")
        (worker,) = children_of(server.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(events(repository, "served")) == 2, "another worker")
        before = len(made(repository))
        eventually(lambda: len(made(repository)) >= before + 2, "it goes on")
        known = {found["name"] for found in made(repository)}
        snaps = tmp_path / "mount" / "snaps"
        eventually(lambda: known <= {path.name for path in snaps.iterdir()}, "the tree has them")
    found = made(repository)
    seconds = [bookmark["time_ns"] // NS_PER_S for bookmark in found]
    assert len(set(seconds)) == len(seconds), "none is made twice"
    assert {(bookmark["note"], bookmark["application"]) for bookmark in found} == {("by itself", "shop")}
    told = [event for event in events(repository, "bookmark_added") if event["detail"]["schedule"] == "tick"]
    names = [bookmark["name"] for bookmark in found]
    killed_at = events(repository, "served")[1]["time"]
    last = [bookmark["name"] for bookmark in found if bookmark["time"] < killed_at][-1]
    without = [name for name in names if name != last]  # it was made, and its worker was killed before it could tell
    assert [event["subject"] for event in told] in (names, without)
    (state,) = status_of(repository)["schedules"]
    assert (state["last_bookmark"], state["next_due"]) == (found[-1]["name"], None)


def test_what_was_missed_between_two_servers(repository: Path, tmp_path: Path) -> None:
    """A bookmark of the schedule stands for the server before; some seconds have passed when the next one answers."""
    settings(repository, '[schedule.tick]\nevery = "1s"\n')
    must(repository, "bookmark", "add", "now")
    with Repository.open(repository, owner=True) as opened:
        first = opened.bookmark_add("tick-first", schedule="tick")
    eventually(lambda: time.time_ns() > first.time_ns + 3 * NS_PER_S, "two due times, and a moment")
    with serving(repository, tmp_path / "mount"):
        eventually(lambda: len(made(repository)) >= 3, "it goes on from there")
        missed = events(repository, "bookmark_missed")[0]
    assert missed["subject"] == "tick"
    assert missed["detail"]["count"] >= 1
    assert "no server ran" in missed["detail"]["reason"]
    assert missed["detail"]["made_up_for"] is True


def test_a_new_schedule_has_missed_nothing(repository: Path, tmp_path: Path) -> None:
    settings(repository, '[schedule.day]\ncron = "0 2 * * *"\n')
    with serving(repository, tmp_path / "mount"):
        (state,) = status_of(repository)["schedules"]
        assert state["next_due"] is not None
        assert events(repository, "bookmark_missed") == []


def test_a_profile_is_made_still_for_it(repository: Path, tmp_path: Path) -> None:
    settings(
        repository,
        f"""
[[quiesce.app.members]]
kind = "command"
name = "app"
freeze = ["touch", "{tmp_path}/frozen"]
thaw = ["touch", "{tmp_path}/thawed"]

[schedule.tick]
every = "1s"
quiesce = "app"
""",
    )
    with serving(repository, tmp_path / "mount"):
        eventually(lambda: made(repository), "a bookmark")
    found = made(repository)[0]
    assert (found["consistency"], found["profile"], found["schedule"]) == ("application", "app", "tick")
    assert (tmp_path / "frozen").exists()
    assert (tmp_path / "thawed").exists()


def test_one_that_fails_is_seen_and_tried_again_when_it_is_due(repository: Path, tmp_path: Path) -> None:
    settings(
        repository,
        f"""
[[quiesce.app.members]]
kind = "command"
name = "app"
freeze = ["test", "-e", "{tmp_path}/ready"]
thaw = ["true"]

[schedule.tick]
every = "1s"
quiesce = "app"
""",
    )
    with serving(repository, tmp_path / "mount"):
        eventually(lambda: len(events(repository, "bookmark_failed")) >= 2, "two failures")
        failed = events(repository, "bookmark_failed")[0]
        assert (failed["severity"], failed["detail"]["schedule"]) == ("error", "tick")
        assert run(repository, "status").returncode == DEGRADED
        (state,) = status_of(repository)["schedules"]
        assert state["last_error"] == failed["detail"]["reason"]
        assert made(repository) == []
        (tmp_path / "ready").touch()
        eventually(lambda: made(repository), "one that succeeds")
        eventually(lambda: run(repository, "status").returncode == 0, "that all is well")


def test_a_schedule_that_cannot_be_is_refused(repository: Path, tmp_path: Path) -> None:
    settings(repository, '[schedule.tick]\nevery = "1s"\nquiesce = "app"\n')
    assert "there is no profile [quiesce.app]" in refused(repository, 2, "status")
