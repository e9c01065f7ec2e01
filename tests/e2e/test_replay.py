"""Later writes again on a branch, as a user has it: server, command, mount; what it refuses, and what is left when it is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, program, refused, serving
from tests.support.attaching import left_behind
from tests.support.devices import mounted
from tests.support.processes import environment, is_alive, must, must_json, run, unmount
from tests.support.processes import program as vsnapfs
from tests.support.waiting import eventually, nothing_left
from vsnapfs.core.branch import Branch
from vsnapfs.core.replay import ReplayReport
from vsnapfs.core.times import NS_PER_S
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BranchList, BranchShow, GetStatus, Resolve
from vsnapfs.mounts.table import mounts
from vsnapfs.replay import plan
from vsnapfs.replay.replaying import replay
from vsnapfs.replay.wanted import Wanted

FAILED, USAGE, NOT_FOUND, TAKEN, DAMAGED, NO_SPACE = 1, 2, 3, 5, 6, 7
BLOCK = 4096
SIZE = 4 * MIB

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


class Story:
    """Writes to the live volume ``db``, each durable and with its seqno; bookmark ``start`` before them, made of what is there then."""

    def __init__(self, repository: Path, mount: Path) -> None:
        self.repository = repository
        self.mount = mount
        self.live = mount / "live/db"
        must(repository, "bookmark", "add", "start")
        self.start = self.live.read_bytes()
        self.writes: list[tuple[int, int, bytes]] = []

    def write(self, offset_bytes: int, data: bytes) -> int:
        fd = os.open(self.live, os.O_RDWR)
        try:
            os.pwrite(fd, data, offset_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
        seqno = last_seqno(self.repository)
        self.writes.append((seqno, offset_bytes, data))
        return seqno

    def without(self, *seqnos: int) -> bytes:
        content = bytearray(self.start)
        for seqno, offset_bytes, data in self.writes:
            if seqno not in seqnos:
                content[offset_bytes : offset_bytes + len(data)] = data
        return bytes(content)

    def branch(self, name: str, volume: str = "db") -> bytes:
        return (self.mount / "branches" / name / volume).read_bytes()


@pytest.fixture
def story(repository: Path, mount: Path) -> Story:
    """One whose volume holds something already."""
    with (mount / "live/db").open("r+b") as file:
        file.seek(8 * BLOCK)
        file.write(b"old" * 5000)
    return Story(repository, mount)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it makes its directories; in the end nothing is left there."""
    path = tmp_path / "place"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield path
    for entry in mounts():
        if entry.path.startswith(f"{path}/"):
            unmount(Path(entry.path))


def last_seqno(repository: Path) -> int:
    return connect(repository).call(GetStatus()).last_seqno


def branches(repository: Path) -> list[str]:
    return [branch.name for branch in connect(repository).call(BranchList()).branches]


def branch(repository: Path, name: str) -> Branch:
    return connect(repository).call(BranchShow(name=name))


def report_of(repository: Path, name: str) -> Any:
    return branch(repository, name).report


def replayed(repository: Path, *options: str) -> Any:
    """From ``start``, by the command."""
    return must_json(repository, "replay", "--from", "start", *options)


def replayed_here(repository: Path, into: str, **wanted: Any) -> ReplayReport:
    """The same in this process, which is quicker."""
    return replay(connect(repository), Wanted(since="start", into=into, **wanted), lambda _: None, lambda _: None)


def test_all_of_it_is_what_the_live_volumes_are(repository: Path, mount: Path) -> None:
    must(repository, "volume", "add", "log", "--size", "1M")
    must(repository, "bookmark", "add", "start")
    chance = random.Random(1)
    files = {name: os.open(mount / "live" / name, os.O_RDWR) for name in ("db", "log")}
    for _ in range(200):
        name = chance.choice(["db", "log"])
        data = chance.choice([chance.randbytes(chance.randrange(1, 20_000)), bytes(3 * BLOCK)])
        os.pwrite(files[name], data, chance.randrange(MIB - len(data)))
    live = {name: os.pread(fd, SIZE, 0) for name, fd in files.items()}
    for fd in files.values():
        os.close(fd)
    told = replayed(repository, "--into", "again")
    assert (told["state"], told["skipped_records"], told["notes"]) == ("done", 0, [])
    assert told["applied_records"] >= 200  # the kernel makes several of one that is not in whole pages
    assert {name: (mount / "branches/again" / name).read_bytes() for name in live} == live
    assert {name: (mount / "live" / name).read_bytes() for name in live} == live


def test_a_write_is_left_out_and_what_had_seen_it_is_told(story: Story) -> None:
    story.write(0, b"good" * 1024)
    defect = story.write(100, b"defect")
    over = story.write(102, b"over")
    beside = story.write(2 * BLOCK - 10, b"elsewhere")
    told = replayed(story.repository, "--skip", f"@{defect}", "--into", "b")
    assert story.branch("b") == story.without(defect)
    assert story.live.read_bytes() == story.without()
    assert (told["applied_records"], told["skipped_records"], told["skipped_bytes"]) == (3, 1, 6)
    assert told["conflicts"] == [
        {
            "kept_seqno": over,
            "skipped_seqno": defect,
            "volume": "db",
            "offset_bytes": at,
            "length_bytes": n,
            "kind": kind,
        }
        for at, n, kind in ((102, 4, "over"), (100, 2, "beside"))
    ]
    assert beside not in [conflict["kept_seqno"] for conflict in told["conflicts"]]
    assert told["volumes"] == [{"name": "db", "applied_bytes": 4109, "skipped_bytes": 6, "differs_bytes": 2}]
    assert report_of(story.repository, "b") == told
    shown = must(story.repository, "branch", "show", "b")
    assert f"@{over} wrote over 4 bytes at 102 of db, which were of @{defect}" in shown
    assert f"without:      --skip @{defect}" in shown


def test_every_way_to_leave_something_out(story: Story) -> None:
    repository = story.repository
    first = story.write(0, b"1" * 3 * BLOCK)
    second = story.write(BLOCK, b"2" * 3 * BLOCK)
    third = story.write(2 * BLOCK, b"3" * 3 * BLOCK)
    at = connect(repository).call(Resolve(text=f"@{second}")).time
    cases: list[tuple[dict[str, Any], tuple[int, ...]]] = [
        ({}, ()),
        ({"skip": (f"@{first}..@{second}",)}, (first, second)),
        ({"skip": (f"@{first}", f"@{third}")}, (first, third)),
        ({"skip_times": (f"{at}..{at}",)}, (second,)),
        ({"until": f"@{second}"}, (third,)),
        ({"skip_volumes": ("db",)}, (first, second, third)),
        ({"only_volumes": ("db",)}, ()),
    ]
    for number, (options, seqnos) in enumerate(cases):
        replayed_here(repository, f"b{number}", **options)
        assert story.branch(f"b{number}") == story.without(*seqnos), options
    told = replayed(repository, "--skip-range", "db:5K+8K", "--into", "range")
    expected = bytearray(story.without())
    expected[5120:13312] = story.start[5120:13312]
    assert story.branch("range") == bytes(expected)
    assert (told["split_records"], told["applied_records"], told["skipped_records"]) == (3, 3, 0)


def test_parts_of_one_write_are_told_of(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel hands on a large write in several; how soon the one comes after the other is for the machine to say."""
    monkeypatch.setattr(plan, "AT_ONCE_NS", 60 * NS_PER_S)
    fd = os.open(story.live, os.O_RDWR | os.O_DIRECT)
    try:
        os.pwritev(fd, [buffer := mmap.mmap(-1, 2 * MIB)], 0)
        buffer.close()
    finally:
        os.close(fd)
    last = last_seqno(story.repository)
    told = replayed_here(story.repository, "b", skip=(f"@{last}",))
    assert told.notes[0].startswith(f"@{last - 1} is made again, and lies side by side in db with @{last}")


def test_nothing_is_written_to_see_what_would_be(story: Story) -> None:
    defect = story.write(0, b"defect")
    story.write(3, b"after")
    told = replayed(story.repository, "--skip", f"@{defect}", "--into", "b", "--dry-run")
    assert (told["state"], told["over_conflicts"], branches(story.repository)) == ("planned", 1, [])
    text = must(story.repository, "replay", "--from", "start", "--skip", f"@{defect}", "--into", "b", "--dry-run")
    assert "conflicts:    2 (1 over, 1 beside what was left out)" in text
    assert "nothing was written" in text


def test_it_goes_onto_a_branch_that_was_corrected_first(story: Story) -> None:
    story.write(0, b"later")
    must(story.repository, "branch", "add", "b", "--from", "start")
    with (story.mount / "branches/b/db").open("r+b") as file:
        file.seek(MIB)
        file.write(b"by hand")
    replayed_here(story.repository, "b")
    expected = bytearray(story.without())
    expected[MIB : MIB + 7] = b"by hand"
    assert story.branch("b") == bytes(expected)


def test_what_makes_no_sense_is_refused_before_anything_is_made(story: Story) -> None:
    repository, seqno = story.repository, story.write(0, b"later")
    must(repository, "bookmark", "add", "end")

    def no(status: int, *options: str) -> str:
        return refused(repository, status, "replay", *options)

    assert "is later than" in no(USAGE, "--from", "end", "--to", "start", "--into", "b")
    assert "did you mean start?" in no(NOT_FOUND, "--from", "stard", "--into", "b")
    assert "outside of what is replayed" in no(USAGE, "--from", "start", "--skip", f"@{seqno + 9}", "--into", "b")
    assert "outside of what is replayed" in no(USAGE, "--from", "start", "--skip-time", "-2h..-1h", "--into", "b")
    assert "names no records" in no(USAGE, "--from", "start", "--skip", "end", "--into", "b")
    assert "did you mean db?" in no(NOT_FOUND, "--from", "start", "--skip-volume", "dbx", "--into", "b")
    assert "is no range" in no(USAGE, "--from", "start", "--skip-range", "db:1M", "--into", "b")
    assert "not a branch name" in no(USAGE, "--from", "start", "--into", "../b")
    assert "--mount is for a test" in no(USAGE, "--from", "start", "--mount", "--into", "b")
    assert branches(repository) == []
    must(repository, "branch", "add", "other", "--from", "end")
    assert "give another --into" in no(TAKEN, "--from", "start", "--into", "other")
    must(repository, "branch", "add", "open", "--from", "start")
    with (story.mount / "branches/open/db").open("rb"):
        eventually(lambda: branch(repository, "open").in_use == 1, "the branch to be open")
        assert "is open" in no(TAKEN, "--from", "start", "--into", "open")
    assert story.branch("open") == story.start


def test_it_goes_onto_a_branch_once(story: Story) -> None:
    story.write(0, b"later")
    replayed(story.repository, "--into", "b")
    must(story.repository, "branch", "add", "child", "--from", "branch:b")
    for name, why in (("b", "has a replay that is done"), ("child", "has a replay that is done, of branch b")):
        assert why in refused(story.repository, TAKEN, "replay", "--from", "start", "--into", name)


def test_volumes_that_came_grew_and_went(story: Story) -> None:
    repository = story.repository
    story.write(0, b"later")
    must(repository, "volume", "resize", "db", "2M")
    replayed_here(repository, "small")
    assert story.branch("small") == story.without()[: 2 * MIB].ljust(SIZE, b"\0")
    must(repository, "volume", "resize", "db", "8M")
    grew = refused(repository, USAGE, "replay", "--from", "start", "--into", "b")
    assert "volume db grew to 8 MiB by @" in grew
    seqno = int(re.search(r"--to @(\d+)", grew).group(1))  # type: ignore[union-attr]
    told = replayed(repository, "--to", f"@{seqno}", "--into", "b")
    assert "volume db was resized to 2 MiB" in told["notes"][0]
    must(repository, "volume", "add", "log", "--size", "1M")
    must(repository, "bookmark", "add", "grown")
    must(repository, "volume", "add", "new", "--size", "1M")
    with (story.mount / "live/new").open("r+b") as file:
        file.write(b"of a volume that came later")
    came = refused(repository, USAGE, "replay", "--from", "grown", "--into", "c")
    assert "volume new was added after @" in came
    must(repository, "volume", "remove", "log")
    told = must_json(repository, "replay", "--from", "grown", "--skip-volume", "new", "--into", "c")
    assert told["notes"] == [f"volume log was removed by @{last_seqno(repository)}: the branch keeps it"]
    assert branches(repository) == ["b", "c", "small"]


def test_where_only_bookmarks_are_left_it_says_so_before_it_makes_anything(repository: Path, tmp_path: Path) -> None:
    (repository / "vsnapfs.toml").write_text(
        '[journal]\nsegment_size = "64K"\nreserve = "0"\n[retention]\nprune = "off"\nprotection_window = "1ms"\nkeep_last = 2\n'
    )
    with serving(repository, tmp_path / "mount") as server:
        story = Story(repository, server.mountpoint)
        chance = random.Random(1)
        for name in ("one", "two"):
            for _ in range(6):
                story.write(chance.randrange(SIZE - 50_000), chance.randbytes(50_000))
            must(repository, "bookmark", "add", name)
        must(repository, "prune")
        gone = refused(repository, NOT_FOUND, "replay", "--from", "one", "--to", "two", "--into", "b")
        assert "only bookmarks are kept" in gone
        assert branches(repository) == []
        two = story.live.read_bytes()
        story.write(0, b"later")
        must_json(repository, "replay", "--from", "two", "--into", "b")
        assert story.branch("b") == b"later" + two[5:]


def test_a_branch_that_is_full_says_what_it_has(story: Story) -> None:
    for at in range(8):
        story.write(at * 64 * BLOCK, random.Random(at).randbytes(16 * BLOCK))
    said = refused(story.repository, NO_SPACE, "replay", "--from", "start", "--quota", "256K", "--into", "b")
    assert "branch b has a part: vsnapfs branch remove b, and begin anew with a larger --quota" in said
    report = report_of(story.repository, "b")
    assert (report["state"], report["kind"]) == ("failed", "replay")
    assert report["error"] in said
    assert "has a replay that is failed" in refused(story.repository, TAKEN, "replay", "--from", "start", "--into", "b")
    must(story.repository, "branch", "remove", "b")
    replayed_here(story.repository, "b")
    assert story.branch("b") == story.without() == story.live.read_bytes()


def test_damage_is_found_before_it_is_written(story: Story) -> None:
    needle = random.Random(7).randbytes(BLOCK)
    story.write(0, b"before")
    bad = story.write(BLOCK, needle)
    story.write(0, b"after")  # the last batch of all would count as torn
    segment = next(path for path in (story.repository / "journal").glob("*.seg") if needle in path.read_bytes())
    with segment.open("r+b") as file:
        at = file.read().index(needle)
        file.seek(at)
        file.write(bytes([needle[0] ^ 1]))
    said = refused(story.repository, DAMAGED, "replay", "--from", "start", "--into", "b")
    assert f"the write @{bad}: a checksum that does not match" in said
    assert story.branch("b")[BLOCK : 2 * BLOCK] == story.start[BLOCK : 2 * BLOCK]
    replayed_here(story.repository, "c", skip=(f"@{bad}",))
    assert story.branch("c") == story.without(bad)


def write_many(story: Story) -> None:
    """So much that it takes a while to make it again."""
    fd = os.open(story.live, os.O_RDWR)
    chance = random.Random(1)
    for _ in range(20_000):
        os.pwrite(fd, chance.randbytes(512), chance.randrange(SIZE // 512) * 512)
    os.fsync(fd)
    os.close(fd)


@contextlib.contextmanager
def begun(story: Story) -> Iterator[subprocess.Popen[bytes]]:
    """A replay onto ``b`` that has said that it is not finished; killed at the end of the block."""
    file = story.repository / "branches/b.json"
    command = [*vsnapfs(), "replay", "--from", "start", "--into", "b"]
    process = subprocess.Popen(command, env=environment(story.repository), stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: file.exists() and b'"unfinished"' in file.read_bytes(), "the replay to begin")
        yield process
    finally:
        process.kill()
        process.wait()


def test_killed_it_leaves_a_branch_that_says_so(story: Story) -> None:
    write_many(story)
    with begun(story):
        pass
    report = eventually(lambda: report_of(story.repository, "b"), "the server to know what it has written")
    assert report["state"] == "unfinished"
    eventually(lambda: branch(story.repository, "b").in_use == 0, "the branch to be closed")
    assert "a replay that is unfinished" in refused(story.repository, TAKEN, "replay", "--from", "start", "--into", "b")
    must(story.repository, "branch", "remove", "b")
    assert replayed_here(story.repository, "b").applied_records == 20_000
    assert story.branch("b") == story.live.read_bytes()


def test_it_does_not_notice_that_a_worker_of_the_server_dies(story: Story) -> None:
    write_many(story)
    worker = connect(story.repository).call(GetStatus()).worker_pid
    assert worker is not None
    with begun(story) as process:
        os.kill(worker, signal.SIGKILL)
        assert process.wait(timeout=60) == 0
    assert report_of(story.repository, "b")["state"] == "done"
    assert story.branch("b") == story.live.read_bytes()


def with_filesystem(story: Story, tmp_path: Path) -> None:
    """An ext4 in the live volume, before bookmark ``made``."""
    image = tmp_path / "image"
    image.write_bytes(bytes(SIZE))
    assert program("mkfs.ext4", "-q", "-F", image).returncode == 0
    with image.open("rb") as source, story.live.open("r+b") as target:
        shutil.copyfileobj(source, target)
        os.fsync(target.fileno())
    must(story.repository, "bookmark", "add", "made")


def test_the_result_is_checked_and_tested(story: Story, place: Path, tmp_path: Path) -> None:
    with_filesystem(story, tmp_path)
    with (story.live).open("r+b") as file:
        file.seek(MIB * 3)
        file.write(b"later")
    command = ["replay", "--from", "made", "--check", "--mount", "--into"]
    test = [
        "sh",
        "-c",
        'test -d "$1/lost+found" && test "$VSNAPFS_VOLUME_DB" = "$1" && echo "$VSNAPFS_POINT"',
        "sh",
        "{}",
    ]
    told = json.loads(must(story.repository, "--json", *command, "b", "--", *test))
    assert [(check["volume"], check["filesystem"], check["ok"]) for check in told["checks"]] == [("db", "ext4", True)]
    assert (told["test"]["verdict"], told["test"]["exit_status"], told["test"]["output"]) == ("good", 0, "made\n")
    assert report_of(story.repository, "b") == told
    bad = run(story.repository, *command, "c", "--", "sh", "-c", "echo wrong; exit 3")
    assert bad.returncode == FAILED, bad.stderr
    assert "bad, exit status 3\n  wrong" in bad.stdout
    nothing_left(lambda: [*left_behind(place), *place.iterdir()])


def test_a_damaged_filesystem_is_an_integrity_error(story: Story, place: Path, tmp_path: Path) -> None:
    with_filesystem(story, tmp_path)
    with story.live.open("r+b") as file:  # the bitmaps and the inode table
        file.seek(4 * BLOCK)
        file.write(b"\xff" * 40 * BLOCK)
    done = run(story.repository, "replay", "--from", "made", "--check", "--into", "b")
    assert done.returncode == DAMAGED, done.stdout + done.stderr
    assert "checked:      db (ext4): damaged" in done.stdout
    assert report_of(story.repository, "b")["checks"][0]["ok"] is False
    nothing_left(lambda: [*left_behind(place), *place.iterdir()])


def test_what_hunt_finds_is_left_out_with_the_command_that_it_names(story: Story, place: Path, tmp_path: Path) -> None:
    for at in range(5):
        story.write(at * BLOCK, b"well" * 100)
    defect = story.write(3 * BLOCK + 200, b"the defect")
    after = story.write(30 * BLOCK, b"needed")
    test = ("sh", "-c", "! grep -q 'the defect' $1", "sh", "{}")
    hunt = (
        "hunt",
        "--log",
        tmp_path / "log",
        "--good",
        "start",
        "--bad",
        "-0s",
        "--read-only",
        "--to-write",
        "--",
        *test,
    )
    found = must(story.repository, *hunt)
    line = next(line for line in found.splitlines() if line.startswith("without it:"))
    words = shlex.split(line.removeprefix("without it:").replace("BRANCH", "mended"))
    assert words[:3] == ["vsnapfs", "replay", "--from"]
    must(story.repository, *words[1:], "--", *test)
    assert story.branch("mended") == story.without(defect)
    assert b"needed" in story.branch("mended")
    assert after == story.writes[-1][0]


def test_without_a_server_it_says_what_to_start(repository: Path) -> None:
    must(repository, "bookmark", "add", "start")
    assert "vsnapfs serve MOUNT" in refused(repository, NOT_FOUND, "replay", "--from", "start", "--into", "b")
    assert must_json(repository, "replay", "--from", "start", "--into", "b", "--dry-run")["state"] == "planned"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_process_and_no_mount(story: Story, place: Path, tmp_path: Path, number: int) -> None:
    with_filesystem(story, tmp_path)
    story.write(3 * MIB, b"later")
    started = place.parent / "started"
    test = ["sh", "-c", f"echo $$ > {started}; exec sleep 600"]
    command = [*vsnapfs(), "replay", "--from", "made", "--mount", "--into", "b", "--", *test]
    process = subprocess.Popen(command, env=environment(story.repository), stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: started.exists() and bool(started.read_text().strip()), "the test to run")
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not is_alive(int(started.read_text())), "the test to be ended")
    assert report_of(story.repository, "b")["state"] == "done"
    nothing_left(lambda: [*left_behind(place), *place.iterdir()])


def spoiling(repository: Path, volume: str, spoiled: bytes) -> int:
    """The record that put these bytes, whole blocks, into a volume."""
    with connect(repository).reading() as opened:
        number = opened.volume(volume).id
        for piece in opened.journal.pieces(opened.bookmark("fresh").seqno):
            if piece.volume == number and piece.length_bytes >= BLOCK and not piece.zero:
                with opened.view(volume, opened.resolve(f"@{piece.seqno}")) as view:
                    if spoiled in view.read(piece.offset_bytes, piece.length_bytes):
                        return piece.seqno
    raise AssertionError("nobody wrote that")


def test_a_spoiled_file_is_as_it_was_and_what_came_later_is_there(repository: Path, mount: Path, place: Path) -> None:
    """An ext4 in use: a program writes garbage over a part of a file; others go on working."""
    must(repository, "volume", "add", "fs", "--size", "64M")
    assert program("mkfs.ext4", "-q", "-F", mount / "live/fs").returncode == 0
    chance = random.Random(1)
    orders, garbage = chance.randbytes(64 * BLOCK), chance.randbytes(BLOCK)
    with mounted(mount / "live/fs", place.parent / "disk", options="loop") as disk:
        (disk / "orders").write_bytes(orders)
        os.sync()
        must(repository, "bookmark", "add", "fresh")
        with (disk / "orders").open("r+b") as file:
            file.seek(7 * BLOCK)
            file.write(garbage)
            os.fsync(file.fileno())
        for number in range(20):
            (disk / f"later-{number}").write_bytes(chance.randbytes(5000))
        with (disk / "orders").open("ab") as file:
            file.write(b"the newest order")
        os.sync()
        bad = spoiling(repository, "fs", garbage)
        test = "cd {} && tail -c 16 orders | grep -q 'the newest order' && test $(ls | grep -c later) = 20 && sha256sum orders"
        words = (
            "replay",
            "--from",
            "fresh",
            "--skip",
            f"@{bad}",
            "--check",
            "--mount",
            "--only-volume",
            "fs",
            "--into",
            "mended",
        )
        told = json.loads(must(repository, "--json", *words, "--", "sh", "-c", test))
    assert [(check["filesystem"], check["ok"]) for check in told["checks"]] == [("ext4", True)], told["checks"]
    assert told["test"]["verdict"] == "good", told["test"]
    assert told["test"]["output"].split()[0] == hashlib.sha256(orders + b"the newest order").hexdigest()
    assert (told["over_conflicts"], told["beside_conflicts"]) == (0, 0)
