"""``vsnapfs verify`` with a real server: good and bad points, where the verdict shows, by itself, killed, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.attaching import left_behind
from tests.support.devices import mounted, sh
from tests.support.processes import Mounted, environment, make_repository, must, must_json, program, run
from tests.support.waiting import eventually, nothing_left

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]

USAGE, NOT_FOUND, BUSY, NOT_GOOD, DEGRADED, INTERRUPTED = 2, 3, 5, 6, 8, 130
SETTINGS = """
[verify.shop]
command = ["sh", "-c", 'grep -q well {}/state']

[verify.raw]
mount = false
check = false
command = ["sh", "-c", 'test -f {} && /sbin/blkid -p {}']

[verify.greedy]
quota = "4M"
command = ["sh", "-c", 'dd if=/dev/urandom of={}/much bs=1M count=16 conv=fsync']

[verify.slow]
command = ["sh", "-c", 'touch {}/began; sleep 600']
timeout = "20min"
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(autouse=True)
def run_directory(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Records of these tests alone, and nothing left at the end of each."""
    monkeypatch.setenv("VSNAPFS_RUN", str(ground / "run"))
    yield ground / "run"
    nothing_left(lambda: [*left_behind(ground), *left_behind(tmp_path)])


def put(server: Mounted, place: Path, state: str) -> None:
    """A file of the filesystem on the live volume, on the medium."""
    with mounted(server.mountpoint / "live/disk", place / "disk", options="loop") as disk:
        (disk / "state").write_text(state)
        sh("sync", "-f", disk)


@contextmanager
def history(place: Path, settings: str = SETTINGS) -> Iterator[Mounted]:
    """Bookmarks: ``good``, and ``room``; ``ill``, whose file says so; ``torn``, whose filesystem is not whole; ``gone``, without one."""
    repository = make_repository(place / "repository", disk=32 * MIB)
    (repository / "vsnapfs.toml").write_text(settings)
    with serving(repository, place / "mount") as server:
        live = server.mountpoint / "live/disk"
        sh("mkfs.ext4", "-q", live)
        for name, state in (("good", "well"), ("room", "well"), ("ill", "ill")):
            put(server, place, state)
            must(repository, "bookmark", "add", name)
        sh("debugfs", "-w", "-R", "clri state", live)
        must(repository, "bookmark", "add", "torn")
        sh("dd", "if=/dev/zero", f"of={live}", "bs=64K", "count=1", "conv=notrunc,fsync")
        must(repository, "bookmark", "add", "gone")
        yield server


@pytest.fixture(scope="module")
def server(ground: Path) -> Iterator[Mounted]:
    """One for all tests: what they change are verdicts."""
    with history(ground) as server:
        yield server


def verified(server: Mounted, *words: str, status: int = 0) -> dict[str, Any]:
    done = run(server.repository, "verify", "--json", *words)
    assert done.returncode == status, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bookmark(server: Mounted, name: str) -> dict[str, Any]:
    found: dict[str, Any] = must_json(server.repository, "bookmark", "show", name)["bookmark"]
    return found


def branches(server: Mounted) -> list[str]:
    return [branch["name"] for branch in must_json(server.repository, "branch", "list")["branches"]]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_good_point(server: Mounted) -> None:
    snap = server.mountpoint / "snaps/good"
    before = digest(snap / "disk")
    found = verified(server, "good", "--profile", "shop")
    assert (found["good"], found["bookmarks"], found["reason"], found["remarks"]) == (True, ["good"], "", [])
    assert (found["volumes"], found["proved"]) == (["disk"], ["mounted", "checked", "command"])
    verdict = bookmark(server, "good")["verdicts"][-1]
    assert (verdict["profile"], verdict["good"], verdict["volumes"]) == ("shop", True, ["disk"])
    assert os.getxattr(snap, "user.vsnapfs.verified") == b"good"
    eventually(
        lambda: json.loads((snap / "MANIFEST.json").read_text())["bookmark"]["verdicts"][-1] == verdict,
        "it is in the manifest",
    )
    assert "good" in must(server.repository, "bookmark", "list").splitlines()[1].split()
    assert "by shop, disk: good (mounted, checked, command)" in must(server.repository, "bookmark", "show", "good")
    told = must_json(server.repository, "events", "--kind", "verified")["events"][-1]
    assert (told["subject"], told["detail"]["profile"]) == ("good", "shop")
    assert digest(snap / "disk") == before
    assert branches(server) == []
    assert "is good: disk; mounted, filesystems sound" in must(server.repository, "verify", "good")


@pytest.mark.parametrize(
    ("point", "profile", "proved", "reason"),
    [
        ("ill", "shop", ["mounted", "checked"], "sh ended with 1"),
        ("torn", "shop", ["mounted"], "disk: "),
        ("gone", "shop", ["read"], "sh ended with 2"),
        ("gone", "raw", [], "sh ended with 2"),
        ("room", "greedy", ["mounted", "checked"], "sh ended with"),
    ],
)
def test_one_that_is_not_good(server: Mounted, point: str, profile: str, proved: list[str], reason: str) -> None:
    snap = server.mountpoint / "snaps" / point
    before = digest(snap / "disk")
    found = verified(server, point, "--profile", profile, status=NOT_GOOD)
    assert (found["good"], found["proved"]) == (False, proved)
    assert found["reason"].startswith(reason)
    assert os.getxattr(snap, "user.vsnapfs.verified") == b"bad"
    told = must_json(server.repository, "events", "--kind", "verify_failed")["events"][-1]
    assert (told["subject"], told["severity"], told["detail"]["reason"]) == (point, "error", found["reason"])
    done = run(server.repository, "status")
    assert done.returncode == DEGRADED
    assert f"bookmark {point} is not good, says verification {profile}" in done.stdout
    assert branches(server) == []
    assert digest(snap / "disk") == before


def test_without_a_mount_the_command_has_the_file(server: Mounted) -> None:
    assert verified(server, "good", "--profile", "raw")["proved"] == ["command"]


def test_what_no_filesystem_explains_is_read_whole(ground: Path, server: Mounted) -> None:
    """It is good as far as it reads back with its checksums; one bit in the journal, and it is not."""
    found = verified(server, "gone")
    assert (found["good"], found["proved"]) == (True, ["read"])
    assert found["remarks"] == ["disk was read whole, and that is all: it holds no filesystem that blkid knows"]
    verdict = bookmark(server, "gone")["verdicts"][-1]
    assert (verdict["profile"], verdict["good"], verdict["remarks"]) == ("", True, found["remarks"])
    assert found["remarks"][0] in must(server.repository, "bookmark", "show", "gone")
    assert "is good: disk; read whole" in must(server.repository, "verify", "gone")


def test_damage_in_what_no_filesystem_explains(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", disk=8 * MIB)
    content = random.Random(7).randbytes(MIB)
    with serving(repository, tmp_path / "mount") as server:
        with (server.mountpoint / "live/disk").open("r+b") as live:
            live.write(content)
            os.fsync(live.fileno())
        must(repository, "bookmark", "add", "raw")
        assert verified(server, "raw")["good"]
        needle = content[MIB // 2 :][:64]
        (segment,) = (path for path in (repository / "journal").iterdir() if needle in path.read_bytes())
        with segment.open("r+b") as file:
            at = file.read().index(needle)
            file.seek(at)
            file.write(bytes([needle[0] ^ 1]))
        found = verified(server, "raw", status=NOT_GOOD)
        assert (found["good"], found["proved"]) == (False, [])
        assert "read disk" in found["reason"]


def test_points_of_every_form(server: Mounted) -> None:
    seqno = bookmark(server, "good")["seqno"]
    assert verified(server, f"@{seqno}")["bookmarks"] == ["good"]
    assert verified(server, "--latest")["bookmarks"] == ["gone"]
    nameless = verified(server, f"@{seqno - 1}")
    assert (nameless["good"], nameless["bookmarks"]) == (True, [])
    told = must_json(server.repository, "events", "--kind", "verified")["events"][-1]
    assert told["subject"] == f"@{seqno - 1}"


def test_what_makes_no_sense(server: Mounted) -> None:
    repository = server.repository
    before = must_json(repository, "events", "--kind", "verify_failed")["events"]
    refused(repository, USAGE, "verify")
    refused(repository, USAGE, "verify", "good", "--latest")
    assert "did you mean good?" in refused(repository, NOT_FOUND, "verify", "god")
    assert "did you mean shop?" in refused(repository, NOT_FOUND, "verify", "good", "--profile", "shp")
    assert "did you mean disk?" in refused(repository, NOT_FOUND, "verify", "good", "--volume", "dsk")
    assert must_json(repository, "events", "--kind", "verify_failed")["events"] == before


def test_without_a_server(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", disk=4 * MIB)
    assert "vsnapfs serve" in refused(repository, NOT_FOUND, "verify", "--latest")


@contextmanager
def under_way(server: Mounted, run_directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A verification whose command sleeps. As a shell script's job in the background it ignores SIGINT."""
    command = [
        "sh",
        "-c",
        'trap "" INT; exec "$@"',
        "sh",
        *program(),
        "-r",
        str(server.repository),
        "verify",
        "good",
        "--profile",
        "slow",
    ]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(
                lambda: list((run_directory / "verify").glob("*/disk/began")) != [], "its command to run", deadline_s=60
            )
            yield process
        finally:
            process.kill()


def test_one_at_a_time(server: Mounted, run_directory: Path) -> None:
    with under_way(server, run_directory) as first:
        assert "another verification" in refused(server.repository, BUSY, "verify", "ill")
        first.terminate()
        assert first.wait(30) == INTERRUPTED
    assert branches(server) == []
    assert [verdict for verdict in bookmark(server, "good")["verdicts"] if verdict["profile"] == "slow"] == []
    assert verified(server, "good")["good"]


def test_one_that_was_killed_is_cleaned_up_after(server: Mounted, run_directory: Path) -> None:
    with under_way(server, run_directory) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert branches(server) != []
    assert verified(server, "good", "--profile", "shop")["good"]
    assert branches(server) == []


EACH_SECOND = (
    SETTINGS
    + '\n[verify.night]\nevery = "1s"\nbookmarks = "each"\nnames = "n-*"\ncommand = ["grep", "-q", "well", "{}/state"]\n'
)


def test_a_server_does_it_by_itself(tmp_path: Path) -> None:
    with history(tmp_path, EACH_SECOND) as server:
        repository = server.repository
        assert must_json(repository, "events", "--kind", "verify_missed")["events"] == []
        for name, at in (("n-1", "ill"), ("n-2", "good")):
            must(repository, "bookmark", "add", name, "--at", at)
            eventually(lambda name=name: bookmark(server, name)["verdicts"], f"a verdict on {name}", deadline_s=60)  # type: ignore[misc]
        assert [bookmark(server, name)["verdicts"][0]["good"] for name in ("n-1", "n-2")] == [False, True]
        status = json.loads(run(repository, "status", "--json").stdout)
        state = next(state for state in status["verifications"] if state["name"] == "night")
        assert (state["last_bookmark"], state["last_good"], state["last_error"]) == ("n-2", True, None)
        assert state["next_due"] is not None
        assert "night, every 1s; last n-2 good" in must(repository, "status")
        assert branches(server) == []


SLOW_NIGHT = '[verify.night]\nevery = "1s"\nnames = "good"\ncommand = ["sh", "-c", \'touch {}/began; sleep 600\']\ntimeout = "1h"\n'


def test_a_server_that_ends_meanwhile_leaves_nothing(tmp_path: Path, run_directory: Path) -> None:
    with history(tmp_path, SLOW_NIGHT) as server:
        eventually(lambda: list((run_directory / "verify").glob("*/disk/began")) != [], "one to run", deadline_s=60)
        assert server.stop() == 0
    assert must_json(server.repository, "branch", "list")["branches"] == []
