"""``vsnapfs events`` as people have it: without a server, with one, followed to its end in each of the ways there are; and the
command for events behind a real server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import refused, serving
from tests.support.processes import Mounted, children_of, environment, must, must_json, program
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

END_S_MAX = 60.0
INTERRUPTED = 130


class Follower:
    """``vsnapfs events --follow --json`` into a file."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self.process = process
        self._out = out

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def subjects(self, kind: str = "bookmark_added") -> list[str]:
        return [event["subject"] for event in self.events() if event["kind"] == kind]

    def wait_for(self, subject: str, kind: str = "bookmark_added") -> None:
        eventually(lambda: subject in self.subjects(kind), f"{kind} of {subject}")

    def end(self) -> int:
        return self.process.wait(END_S_MAX)


@contextmanager
def following(repository: Path, out: Path, *options: str) -> Iterator[Follower]:
    command = [*program(), "events", "--follow", "--json", *options]
    with out.open("wb") as target:
        process = subprocess.Popen(command, env=environment(repository), stdout=target, stderr=subprocess.PIPE)
    try:
        follower = Follower(process, out)
        eventually(lambda: follower.subjects("served") or options, "what was before")
        yield follower
    finally:
        process.kill()
        process.communicate()


def test_without_a_server(repository: Path) -> None:
    must(repository, "bookmark", "add", "a", "--note", "two words")
    told = must_json(repository, "events")["events"]
    assert [(event["kind"], event["subject"]) for event in told] == [("volume_added", "db"), ("bookmark_added", "a")]
    assert [event["subject"] for event in must_json(repository, "events", "--kind", "bookmark_added")["events"]] == [
        "a"
    ]
    assert must_json(repository, "events", "--since", "2100-01-01")["events"] == []
    assert len(must_json(repository, "events", "--since", "-1h")["events"]) == 2
    line = must(repository, "events").splitlines()[-1]
    assert line.split()[1:4] == ["info", "bookmark_added", "a:"]
    assert "note two words" in line
    assert "did you mean bookmark_added or" in refused(repository, 2, "events", "--kind", "bookmark_add")
    assert "not a time" in refused(repository, 2, "events", "--since", "yesterday")
    assert "no server runs" in refused(repository, 3, "events", "--follow")


def test_a_reader_of_a_copy_that_cannot_be_written(repository: Path, tmp_path: Path) -> None:
    must(repository, "bookmark", "add", "a")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    assert len(must_json(repository, "events")["events"]) == 2
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


def test_followed_until_the_server_ends(repository: Path, tmp_path: Path) -> None:
    with Mounted(repository, tmp_path / "mount") as server, following(repository, tmp_path / "out") as follower:
        for name in ("a", "b"):
            must(repository, "bookmark", "add", name)
        follower.wait_for("b")
        assert server.stop() == 0
        assert follower.end() == 0
    told = follower.events()
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert [event["kind"] for event in told][-4:] == ["served", "bookmark_added", "bookmark_added", "ended"]
    assert told == must_json(repository, "events")["events"]


def test_only_what_was_asked_for(server: Mounted, tmp_path: Path) -> None:
    """Events of other kinds are no reason to ask the server again and again."""
    options = ("--kind", "bookmark_held", "--since", "2100-01-01")
    with following(server.repository, tmp_path / "out", *options) as follower:
        for number in range(3):
            must(server.repository, "bookmark", "add", f"a{number}")
        must(server.repository, "bookmark", "hold", "a1")
        follower.wait_for("a1", "bookmark_held")
        assert [event["kind"] for event in follower.events()] == ["bookmark_held"]


def test_it_goes_on_with_the_next_worker(server: Mounted, tmp_path: Path) -> None:
    with following(server.repository, tmp_path / "out") as follower:
        must(server.repository, "bookmark", "add", "a")
        follower.wait_for("a")
        (worker,) = children_of(server.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(follower.subjects("served")) == 2, "another worker serves")
        must(server.repository, "bookmark", "add", "b")
        follower.wait_for("b")
        told = follower.events()
        assert [event["id"] for event in told] == list(range(1, len(told) + 1)), "none twice, none left out"


def test_interrupted(server: Mounted, tmp_path: Path) -> None:
    with following(server.repository, tmp_path / "out") as follower:
        follower.process.send_signal(signal.SIGINT)
        assert follower.end() == INTERRUPTED
        assert follower.process.stderr is not None
        assert follower.process.stderr.read().strip() == b""


def test_a_reader_that_has_gone_ends_it(server: Mounted) -> None:
    """Though nothing happens that could be written."""
    command = [*program(), "events", "--follow"]
    with subprocess.Popen(
        command, env=environment(server.repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"served" in process.stdout.readline() + process.stdout.readline()
        process.stdout.close()
        assert process.wait(END_S_MAX) == 1
        assert process.stderr.read() == b""


HOOK = """
import json, os, sys
event = json.load(sys.stdin)
with open(sys.argv[1], "a") as out:
    out.write(json.dumps(event) + "\\n")
if event["subject"] == "hang":
    os.system("sleep 1000")
if event["subject"] == "flood":
    for _ in range(200):
        os.write(1, b"x" * 65536)
        os.write(2, b"x" * 65536)
"""


def test_the_command_for_events(repository: Path, tmp_path: Path) -> None:
    """It hangs and floods; a bookmark waits for neither."""
    (tmp_path / "hook.py").write_text(HOOK)
    words = [sys.executable, "-S", str(tmp_path / "hook.py"), str(tmp_path / "out")]
    (repository / "vsnapfs.toml").write_text(f"[events]\ncommand = {json.dumps(words)}\ntimeout = '6s'\n")

    def told() -> list[str]:
        lines = (tmp_path / "out").read_text().splitlines() if (tmp_path / "out").exists() else []
        return [json.loads(line)["subject"] for line in lines]

    with serving(repository, tmp_path / "mount"):
        for name in ("hang", "flood", "c"):
            must(repository, "bookmark", "add", name)
        eventually(lambda: "c" in told(), "all three")
        (failed,) = must_json(repository, "events", "--kind", "hook_failed")["events"]
    assert told() == ["", "hang", "flood", "c", ""]
    assert failed["detail"]["reason"] == "it was still running after 6 s"


def test_a_command_on_our_own_mount(repository: Path, tmp_path: Path) -> None:
    """To find out that it is no program, names of the mount are asked for: by nobody whose answer they need."""
    words = json.dumps([str(tmp_path / "mount" / "snaps" / "a" / "db")])
    (repository / "vsnapfs.toml").write_text(f"[events]\ncommand = {words}\nkinds = ['bookmark_added']\n")
    with serving(repository, tmp_path / "mount"):
        must(repository, "bookmark", "add", "a")
        (failed,) = eventually(
            lambda: must_json(repository, "events", "--kind", "hook_failed")["events"], "that it fails"
        )
        assert "exit status 126" in failed["detail"]["reason"]
