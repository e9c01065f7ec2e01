"""The command ``archive``: onto tapes, into files and pipes, resumed, read back; and what it refuses."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.ground import MIB, program, refused, serving
from tests.support.processes import environment, must, must_json, run
from tests.support.processes import program as vsnapfs
from tests.support.volumes import flip_bit, put
from tests.support.waiting import eventually
from vsnapfs.archive.index import ChunkDigest, decode, encode
from vsnapfs.archive.request import Wanted, to_plain
from vsnapfs.core.errors import IntegrityError, StoreError
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.e2e

MEDIA = """
[media.weekly]
kind = "pool"
path = "{pool}"
capacity = "1M"
piece = "256K"
labels = "W%05d"

[media.slow]
kind = "pool"
path = "{slow}"
capacity = "100M"
piece = "64K"
rate = "1M"
"""
DATA = bytes(range(256)) * 4096
MARK = b"a mark that stands once" + bytes(4096)


@pytest.fixture
def archived(repository: Path, tmp_path: Path) -> Path:
    """Volumes ``db`` and ``logs``, points ``monday`` and ``tuesday``, media ``weekly`` and ``slow``. Returns the repository."""
    for name in ("pool", "slow"):
        (tmp_path / name).mkdir()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(MEDIA.format(pool=tmp_path / "pool", slow=tmp_path / "slow"))
    with Repository.open(repository, owner=True) as opened:
        opened.volume_add("logs", size_bytes=2 * MIB + 512)
        put(opened, "db", 0, DATA)
        put(opened, "db", 2 * MIB, DATA)
        put(opened, "logs", 2 * MIB, MARK[:512])
        opened.bookmark_add("monday", consistency="filesystem", note="calm")
        put(opened, "db", 3 * MIB, b"changed" * 1000)
        opened.bookmark_add("tuesday")
    return repository


def pieces_of(pool: Path, archive: str) -> list[Path]:
    """Of one archive, in their order, by the indexes alone."""
    found: dict[int, Path] = {}
    for path in sorted(pool.glob("*/*.index")):
        index = decode(path.read_bytes())
        if index.archive == archive:
            (found[index.piece],) = path.parent.glob(f"{index.file:05d}.tar*")
    assert sorted(found) == list(range(len(found)))
    return [found[number] for number in range(len(found))]


def extracted(pieces: list[Path], target: Path) -> Path:
    """By GNU tar alone, and checked by sha256sum alone. Returns the directory."""
    target.mkdir()
    words = [word for piece in pieces for word in ("-f", str(piece))]
    multi = ["-M"] if len(pieces) > 1 else []
    subprocess.run(["tar", *multi, "-x", "-C", str(target), *words], check=True, stdin=subprocess.DEVNULL)
    (directory,) = target.iterdir()
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=directory, check=True)
    return directory


def content(repository: Path, point: str, volume: str) -> bytes:
    with Repository.open(repository, owner=False) as opened, opened.view(volume, opened.resolve(point)) as view:
        return view.read(0, view.size_bytes)


def only(answer: Any) -> dict[str, Any]:
    (found,) = answer["archives"]
    archived: dict[str, Any] = found
    return archived


def test_gnu_tar_alone_reads_what_is_on_the_tapes(archived: Path, tmp_path: Path) -> None:
    done = only(must_json(archived, "archive", "monday", "--to", "weekly", "--verify"))
    assert (done["verified"], done["tapes"], done["resumed_at_bytes"]) == (True, ["W00001", "W00002", "W00003"], None)
    entry = done["archive"]
    assert (entry["kind"], entry["state"], entry["volumes"]) == ("full", "complete", ["db", "logs"])
    pieces = pieces_of(tmp_path / "pool", entry["uuid"])
    assert entry["pieces"] == len(pieces) > 8
    directory = extracted(pieces, tmp_path / "out")
    assert directory.name == "monday"
    for volume in ("db", "logs"):
        assert (directory / volume).read_bytes() == content(archived, "monday", volume)
    assert (directory / "logs").stat().st_blocks * 512 < 64 << 10
    manifest = json.loads((directory / "MANIFEST.json").read_text())
    assert manifest["archive"] == entry["uuid"]
    assert (manifest["bookmark"]["consistency"], manifest["bookmark"]["note"]) == ("filesystem", "calm")
    for tape in (tmp_path / "pool").iterdir():
        assert sum(file.stat().st_size for file in tape.iterdir()) <= MIB


def test_an_incremental_one_has_what_changed_alone(archived: Path, tmp_path: Path) -> None:
    full = only(must_json(archived, "archive", "monday", "--to", "weekly", "--incremental"))["archive"]
    assert full["kind"] == "full"  # there was none to go on from
    done = only(must_json(archived, "archive", "tuesday", "--to", "weekly", "--incremental"))["archive"]
    assert (done["kind"], done["parent"], done["since"]["bookmark"]) == ("incremental", full["uuid"], "monday")
    directory = extracted(pieces_of(tmp_path / "pool", done["uuid"]), tmp_path / "out")
    assert sorted(path.name for path in directory.iterdir()) == [
        "MANIFEST.json",
        "SHA256SUMS",
        "db.extents",
        "db.json",
        "logs.json",
    ]
    changes = json.loads((directory / "db.json").read_text())
    assert changes["extents"] == [[3 * MIB, 8192, 0]]
    assert (directory / "db.extents").read_bytes() == content(archived, "tuesday", "db")[3 * MIB : 3 * MIB + 8192]
    since = only(must_json(archived, "archive", "tuesday", "--to", "weekly", "--since", "monday"))["archive"]
    assert (since["parent"], since["stream_bytes"]) == (full["uuid"], done["stream_bytes"])


def test_many_points_are_many_archives_each_since_the_one_before(archived: Path) -> None:
    done = must_json(archived, "archive", "tuesday", "monday", "--to", "weekly", "--incremental")["archives"]
    kinds = [(each["archive"]["point"]["bookmark"], each["archive"]["kind"]) for each in done]
    assert kinds == [("monday", "full"), ("tuesday", "incremental")]
    listed = must_json(archived, "archive", "list")["archives"]
    assert [(each["state"], each["copies"], each["tapes"][0]) for each in listed] == [
        ("complete", 1, "W00001"),
        ("complete", 1, listed[1]["tapes"][0]),
    ]
    assert "tuesday  monday" in must(archived, "archive", "list")


def test_an_incremental_one_goes_on_from_one_that_has_its_volumes(archived: Path) -> None:
    must(archived, "archive", "monday", "--to", "weekly", "--volume", "logs")
    done = only(must_json(archived, "archive", "tuesday", "--to", "weekly", "--incremental"))["archive"]
    assert done["kind"] == "full"
    again = only(must_json(archived, "archive", "tuesday", "--to", "weekly", "--incremental", "--volume", "logs"))[
        "archive"
    ]
    assert again["parent"] == done["uuid"]


@pytest.mark.parametrize("options", [[], ["--compress"]])
def test_a_file_is_a_plain_tar_and_so_is_a_pipe(archived: Path, tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "monday.tar"
    made = must_json(archived, "archive", "monday", "--to", path, "--verify", *options)
    index = decode(path.with_name("monday.tar.index").read_bytes())
    assert (index.sha256, index.stored_bytes) == (made["sha256"], path.stat().st_size)
    plain = tmp_path / "plain.tar"
    subprocess.run(f"{'zstd -dc' if options else 'cat'} {path} > {plain}", shell=True, check=True)
    directory = extracted([plain], tmp_path / "out")
    assert (directory / "db").read_bytes() == content(archived, "monday", "db")
    piped = subprocess.run(
        [*vsnapfs(), "archive", "monday", "--to", "-", *options],
        env=environment(archived),
        capture_output=True,
        check=True,
    )
    assert piped.stderr.startswith(b"full archive of monday: ")
    (tmp_path / "piped.tar").write_bytes(piped.stdout)
    subprocess.run(f"{'zstd -dc' if options else 'cat'} {tmp_path}/piped.tar > {plain}", shell=True, check=True)
    assert (extracted([plain], tmp_path / "out2") / "db").read_bytes() == content(archived, "monday", "db")
    assert "exists" in refused(archived, 5, "archive", "monday", "--to", path)
    must(archived, "archive", "monday", "--to", path, "--force")


def test_raw_is_the_volume(archived: Path, tmp_path: Path) -> None:
    raw = ["archive", "monday", "--format", "raw", "--volume", "logs", "--to"]
    must(archived, *raw, tmp_path / "logs.img")
    assert (tmp_path / "logs.img").read_bytes() == content(archived, "monday", "logs")
    assert (tmp_path / "logs.img").stat().st_blocks * 512 < 64 << 10
    piped = subprocess.run([*vsnapfs(), *raw, "-"], env=environment(archived), capture_output=True, check=True)
    assert piped.stdout == content(archived, "monday", "logs")


def test_a_file_that_was_broken_off_keeps_what_is_right_of_it(archived: Path, tmp_path: Path) -> None:
    path, partial = tmp_path / "monday.tar", tmp_path / "monday.tar.partial"
    must(archived, "archive", "monday", "--to", path)
    whole = path.read_bytes()
    path.unlink()
    for cut, damage, kept in (
        (len(whole) - 100_000, None, MIB),
        (len(whole) - 1, 1_500_000, MIB),
        (4096, None, None),
        (5, None, None),
    ):
        content_of = bytearray(whole[:cut])
        if damage:
            content_of[damage] ^= 1
        partial.write_bytes(content_of)
        done = must_json(archived, "archive", "monday", "--to", path, "--resume")
        assert done["resumed_at_bytes"] == kept
        assert extracted([path], tmp_path / f"out{cut}").name == "monday"
        assert (path.read_bytes() == whole) == (kept is not None or cut == 4096)
        assert not partial.exists()
        path.unlink()


def test_what_is_in_the_way_of_a_file_stays(archived: Path, tmp_path: Path) -> None:
    path = tmp_path / "db"
    words = ("archive", "monday", "--to", path)
    path.with_name("db.index").write_text("somebody's")
    assert "is something else" in refused(archived, 5, *words)
    assert path.with_name("db.index").read_text() == "somebody's"
    path.with_name("db.index").unlink()
    path.with_name("db.partial").write_text("half of another archive")
    assert "from an earlier try" in refused(archived, 5, *words)
    must(archived, *words, "--force")
    assert sorted(found.name for found in tmp_path.glob("db*")) == ["db", "db.index"]


def test_a_file_that_is_read_back_otherwise_gets_no_name(
    archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "monday.tar"
    monkeypatch.setattr("vsnapfs.archive.plain.digest_of", lambda _: ChunkDigest())
    with Repository.open(archived, owner=False) as opened, pytest.raises(IntegrityError, match="was not read back"):
        to_plain(opened, Wanted(points=("monday",), to=str(path), verify=True), 1, lambda _: None, 0, force=False)
    assert sorted(found.name for found in tmp_path.glob("monday*")) == ["monday.tar.partial"]
    must(archived, "archive", "monday", "--to", path, "--verify", "--resume")


def test_a_file_never_stands_beside_the_index_of_another(
    archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut before the new one has its name."""
    path, rename = tmp_path / "a.tar", os.rename
    must(archived, "archive", "monday", "--to", path)

    def cut(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.EIO, "the power is gone")
        rename(source, target)

    with monkeypatch.context() as context, Repository.open(archived, owner=False) as opened:
        context.setattr(os, "rename", cut)
        with pytest.raises(StoreError, match="the power is gone"):
            to_plain(opened, Wanted(points=("tuesday",), to=str(path)), 1, lambda _: None, 0, force=True)
    must(archived, "recall", "monday", "--from", path, "--to", tmp_path / "back")
    assert (tmp_path / "back" / "db").read_bytes() == content(archived, "monday", "db")


def test_a_damaged_volume_is_named_and_its_archive_is_not_complete(archived: Path) -> None:
    for segment in archived.glob("journal/*"):
        if MARK[:23] in segment.read_bytes():
            flip_bit(segment, MARK[:23])
    line = refused(archived, 6, "archive", "monday", "--to", "weekly")
    assert "volume logs is damaged within bytes 2097152 to 2097664" in line
    (listed,) = must_json(archived, "archive", "list")["archives"]
    assert (listed["state"], listed["copies"]) == ("failed", 0)
    assert "volume logs is damaged" in listed["why"]
    must(archived, "archive", "monday", "--to", "weekly", "--volume", "db", "--verify")


def test_one_that_was_read_back_otherwise_is_never_complete(archived: Path, tmp_path: Path) -> None:
    """Nor is it by --resume, which has nothing more to write."""
    must(archived, "archive", "monday", "--to", "weekly")
    with sqlite3.connect(archived / "tapes.db") as db:
        db.execute("UPDATE archive SET state = 'failed'")
    db.close()
    piece = tmp_path / "pool" / "W00001" / "00003.tar"
    content_of = bytearray(piece.read_bytes())
    content_of[70_000] ^= 1
    piece.chmod(0o600)
    piece.write_bytes(content_of)
    line = refused(archived, 6, "archive", "--resume", "--to", "weekly")
    assert "piece 1 of archive" in line
    assert "was not read back as it was written" in line
    (listed,) = must_json(archived, "archive", "list")["archives"]
    assert (listed["state"], listed["copies"]) == ("failed", 0)


BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""How a shell script runs what ends in ``&``."""


@pytest.mark.parametrize(
    ("number", "within"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGHUP, ()), (signal.SIGTERM, BACKGROUND)],
    ids=["INT", "TERM", "HUP", "TERM in the background"],
)
def test_a_signal_leaves_what_can_be_gone_on_with(
    archived: Path, tmp_path: Path, number: int, within: tuple[str, ...]
) -> None:
    slow = tmp_path / "slow"
    command = [*within, *vsnapfs(), "archive", "monday", "--to", "slow", "--rate", "75K"]
    with subprocess.Popen(command, env=environment(archived), stderr=subprocess.PIPE) as process:
        eventually(lambda: len(list(slow.glob("*/*.index"))) >= 3, "some pieces to be written")
        assert "another archive to slow is under way" in refused(archived, 5, "archive", "monday", "--to", "slow")
        process.send_signal(number)
        if number != signal.SIGINT:
            process.send_signal(signal.SIGHUP)  # which changes nothing any more
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert (
            process.stderr.read().rstrip() == b"vsnapfs: broken off; with --resume, `vsnapfs archive` to slow goes on"
        )
    (listed,) = must_json(archived, "archive", "list")["archives"]
    assert (listed["state"], listed["why"]) == ("failed", "it was interrupted")
    done = only(must_json(archived, "archive", "--resume", "--to", "slow", "--rate", "1G"))
    assert done["archive"]["uuid"] == listed["uuid"]
    assert done["resumed_at_bytes"] > 100_000
    assert not list(slow.glob("*/*.part*"))
    extracted(pieces_of(slow, listed["uuid"]), tmp_path / "out")
    refused(archived, 3, "archive", "--resume", "--to", "slow")


def test_without_a_terminal_it_goes_on_if_it_was_told_so(archived: Path, tmp_path: Path) -> None:
    command = ["nohup", *vsnapfs(), "archive", "monday", "--to", "slow"]
    with subprocess.Popen(command, env=environment(archived), stdout=subprocess.DEVNULL) as process:
        eventually(lambda: bool(list(tmp_path.glob("slow/*/*.index"))), "a piece to be written")
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


def test_retire_removes_the_bookmark_and_never_a_held_one(archived: Path) -> None:
    must(archived, "bookmark", "hold", "monday")
    assert "monday is held" in refused(archived, 5, "archive", "monday", "--to", "weekly", "--retire")
    assert must_json(archived, "archive", "list")["archives"] == []
    must(archived, "bookmark", "release", "monday")
    assert must_json(archived, "archive", "monday", "--to", "weekly", "--retire", "--verify")["retired"] == ["monday"]
    assert [each["name"] for each in must_json(archived, "bookmark", "list")["bookmarks"]] == ["tuesday"]
    assert "has no name" in refused(archived, 2, "archive", "@3", "--to", "weekly", "--retire")


def test_what_was_put_behind_it_meanwhile_is_not_cut_off(archived: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    words = [*vsnapfs(), "archive", "monday", "--to", "slow", "--rate", "75K"]
    with subprocess.Popen(words, env=environment(archived)) as process:
        eventually(lambda: len(list(slow.glob("*/*.index"))) >= 3, "some pieces to be written")
        process.kill()
    other = only(must_json(archived, "archive", "tuesday", "--to", "slow", "--rate", "1G"))["archive"]
    done = only(must_json(archived, "archive", "monday", "--to", "slow", "--rate", "1G", "--resume", "--verify"))
    assert done["resumed_at_bytes"] > 100_000
    for uuid, name in ((other["uuid"], "tuesday"), (done["archive"]["uuid"], "monday")):
        assert extracted(pieces_of(slow, uuid), tmp_path / f"out-{name}").name == name


def test_one_that_was_killed_is_told_and_can_be_given_up(archived: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    words = [*vsnapfs(), "archive", "monday", "--to", "slow", "--rate", "75K"]
    with subprocess.Popen(words, env=environment(archived)) as process:
        eventually(lambda: len(list(slow.glob("*/*.index"))) >= 3, "some pieces to be written")
        (listed,) = must_json(archived, "archive", "list")["archives"]
        shown = listed["uuid"][:8]
        assert (listed["state"], listed["resumable"]) == ("under way", None)
        assert "is under way" in refused(archived, 5, "archive", "drop", shown)
        process.kill()
    (listed,) = must_json(archived, "archive", "list")["archives"]
    assert (listed["state"], listed["why"], listed["resumable"]) == ("failed", "it was killed", True)
    way = f"`vsnapfs archive --resume --to slow` goes on with it, `vsnapfs archive drop {shown}` gives it up"
    assert f"{shown} was broken off: it was killed; {way}" in must(archived, "archive", "list")
    assert must(archived, "archive", "drop", shown).strip() == f"dropped archive {listed['uuid']}"
    (dropped,) = must_json(archived, "archive", "list")["archives"]
    assert (dropped["state"], dropped["resumable"]) == ("dropped", None)
    refused(archived, 3, "archive", "--resume", "--to", "slow")
    done = only(must_json(archived, "archive", "monday", "--to", "slow", "--rate", "1G", "--verify"))["archive"]
    assert "is complete" in refused(archived, 2, "archive", "drop", done["uuid"])
    assert "missing argument ARCHIVE" in refused(archived, 2, "archive", "drop")


def only_the_last_is_left(repository: Path) -> None:
    """Of all bookmarks but ``thursday``, that are not held, neither name nor point."""
    settings = repository / "vsnapfs.toml"
    short = settings.read_text().replace("[retention]", '[retention]\nprotection_window = "1ms"\nkeep_last = 1')
    settings.write_text(short.replace("[journal]", '[journal]\nsegment_size = "64K"'))
    with Repository.open(repository, owner=True) as opened:
        for name in ("wednesday", "thursday"):
            put(opened, "db", 0, DATA[::-1])
            opened.bookmark_add(name)
    must(repository, "prune")


@pytest.mark.parametrize("held", [True, False])
def test_an_incremental_one_goes_on_from_a_point_that_still_stands(archived: Path, tmp_path: Path, held: bool) -> None:
    must(archived, "archive", "monday", "tuesday", "--to", "weekly", "--incremental")
    if held:
        must(archived, "bookmark", "hold", "monday")
    only_the_last_is_left(archived)
    words = ("archive", "thursday", "--to", "weekly", "--incremental")
    if held:
        done = only(must_json(archived, *words, "--verify"))["archive"]
        assert (done["kind"], done["since"]["bookmark"]) == ("incremental", "monday")
        must(archived, "recall", "thursday", "--to", tmp_path / "back")
        assert (tmp_path / "back" / "db").read_bytes() == content(archived, "thursday", "db")
    else:
        assert "make a full one" in refused(archived, 3, *words)


def test_one_on_a_tape_that_was_retired_is_told(archived: Path) -> None:
    settings = archived / "vsnapfs.toml"
    settings.write_text(settings.read_text().replace('labels = "W%05d"', 'labels = "W%05d"\ntapes = 1'))
    refused(archived, 7, "archive", "monday", "--to", "weekly")
    assert must_json(archived, "archive", "list")["archives"][0]["resumable"]
    must(archived, "tape", "retire", "W00001")
    assert must_json(archived, "archive", "list")["archives"][0]["resumable"] is False
    refused(archived, 3, "archive", "--resume", "--to", "weekly")


def test_one_whose_point_is_gone_is_told(archived: Path, tmp_path: Path) -> None:
    settings = archived / "vsnapfs.toml"
    tapes = settings.read_text()
    settings.write_text(tapes.replace('labels = "W%05d"', 'labels = "W%05d"\ntapes = 1'))
    refused(archived, 7, "archive", "monday", "--to", "weekly")
    settings.write_text(tapes)
    only_the_last_is_left(archived)
    (listed,) = must_json(archived, "archive", "list")["archives"]
    assert (listed["state"], listed["resumable"]) == ("failed", False)
    assert "its point is gone or a tape of it retired, and nobody can go on with it" in must(
        archived, "archive", "list"
    )
    assert f"vsnapfs archive drop {listed['uuid'][:8]}" in refused(archived, 3, "archive", "--resume", "--to", "weekly")


@contextmanager
def standing_still(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Not for who is in a transaction that somebody waits for."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("to", ["slow", "./slow/latest.tar"])
def test_retire_removes_what_was_archived_whatever_has_its_name_by_then(
    archived: Path, tmp_path: Path, to: str
) -> None:
    """``latest`` is another bookmark by then, and the name of the one that was archived stands on another point."""
    words = ["archive", "latest", "--to", to, "--rate", "500K", "--retire"]
    with subprocess.Popen(
        [*vsnapfs(), *words], env=environment(archived), cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        eventually(lambda: [*tmp_path.glob("slow/*/*.index"), *tmp_path.glob("slow/*.partial")], "it to have begun")
        with standing_still(process):
            must(archived, "bookmark", "remove", "tuesday")
            must(archived, "bookmark", "add", "wednesday")
            must(archived, "bookmark", "add", "tuesday")
        assert process.wait(60) == 0
    assert {each["name"] for each in must_json(archived, "bookmark", "list")["bookmarks"]} == {
        "monday",
        "tuesday",
        "wednesday",
    }


def test_what_was_done_is_told_if_the_rest_is_not(archived: Path) -> None:
    for segment in archived.glob("journal/*"):
        if b"changed" * 1000 in segment.read_bytes():
            flip_bit(segment, b"changed" * 1000)
    done = run(archived, "archive", "monday", "tuesday", "--to", "weekly", "--retire")
    assert done.returncode == 6
    first, second, third = done.stderr.splitlines()
    assert first.startswith("full archive ")
    assert second == "removed bookmark monday"
    assert third.startswith("vsnapfs: volume db is damaged")


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_beside_a_server_what_was_just_written_is_archived(archived: Path, tmp_path: Path) -> None:
    with serving(archived, tmp_path / "mount"):
        with (tmp_path / "mount" / "live" / "db").open("r+b", buffering=0) as live:
            live.write(b"written a moment ago")
        must(archived, "bookmark", "add", "wednesday")
        entry = only(must_json(archived, "archive", "wednesday", "--to", "weekly", "--retire"))["archive"]
        directory = extracted(pieces_of(tmp_path / "pool", entry["uuid"]), tmp_path / "out")
        assert (directory / "db").read_bytes().startswith(b"written a moment ago")
        assert [each["name"] for each in must_json(archived, "bookmark", "list")["bookmarks"]] == ["monday", "tuesday"]


def test_what_was_encrypted_is_read_by_age_and_tar(archived: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    recipient = program("age-keygen", "-y", key).stdout.strip()
    entry = only(
        must_json(archived, "archive", "monday", "--to", "weekly", "--recipient", recipient, "--compress", "--verify")
    )["archive"]
    plain: list[Path] = []
    for number, piece in enumerate(pieces_of(tmp_path / "pool", entry["uuid"])):
        assert piece.name.endswith(".tar.zst.age")
        plain.append(tmp_path / f"piece{number}.tar")
        subprocess.run(f"age -d -i {key} {piece} | zstd -dc > {plain[-1]}", shell=True, check=True)
    assert (extracted(plain, tmp_path / "out") / "db").read_bytes() == content(archived, "monday", "db")
    assert "age refuses to encrypt" in refused(
        archived, 2, "archive", "monday", "--to", "weekly", "--recipient", "age1x"
    )
    assert len(must_json(archived, "archive", "list")["archives"]) == 1


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (2, ["monday"], "missing option --to"),
        (2, ["--to", "weekly"], "missing argument POINT"),
        (3, ["friday", "--to", "weekly"], "there is no bookmark 'friday'"),
        (3, ["monday", "--to", "weekli"], "did you mean weekly?"),
        (3, ["monday", "--to", "weekly", "--volume", "dbx"], "there is no volume 'dbx' at"),
        (2, ["monday", "--to", "weekly", "--since", "tuesday"], "give the older point first"),
        (2, ["monday", "--to", "weekly", "--since", "monday", "--incremental"], "give one of them"),
        (2, ["monday", "tuesday", "--to", "./x.tar"], "takes one POINT"),
        (2, ["monday", "--to", "x.img", "--format", "raw"], "one point and one --volume"),
        (2, ["monday", "--to", "-", "--verify"], "a pipe takes no"),
        (2, ["monday", "--to", "./x.tar", "--rate", "0"], "nothing is ever written"),
        (2, ["monday", "--to", "./x.tar/"], "is a directory"),
        (3, ["monday", "--to", "/nowhere/x.tar"], "/nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(
    archived: Path, tmp_path: Path, status: int, words: list[str], said: str
) -> None:
    assert said in refused(archived, status, "archive", *words)
    assert os.listdir(tmp_path / "pool") == []


def test_a_pipe_that_is_closed_is_one_line(archived: Path) -> None:
    done = subprocess.run(
        f"{' '.join(vsnapfs())} archive monday --to - | head -c 1000 > /dev/null; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", env=environment(archived), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_no_tape_with_room_is_told_and_what_reads_otherwise_is_not_gone_on_with(archived: Path, tmp_path: Path) -> None:
    settings = archived / "vsnapfs.toml"
    settings.write_text(settings.read_text().replace('labels = "W%05d"', 'labels = "W%05d"\ntapes = 1'))
    assert "none of the 1 tapes of weekly" in refused(archived, 7, "archive", "monday", "--to", "weekly")
    settings.write_text(settings.read_text().replace("tapes = 1", "tapes = 3"))
    last = max(tmp_path.glob("pool/W00001/*.index"))
    whole = last.read_bytes()
    last.write_bytes(encode(msgspec.structs.replace(decode(whole), layout="another")))
    assert "does not read as it did" in refused(archived, 8, "archive", "monday", "--to", "weekly", "--resume")
    last.write_bytes(whole)
    assert only(must_json(archived, "archive", "monday", "--to", "weekly", "--resume"))["resumed_at_bytes"] > 0
    assert run(archived, "archive", "list").returncode == 0


def test_a_pipe_that_nobody_reads_keeps_no_signal_from_ending_it(archived: Path) -> None:
    command = [*vsnapfs(), "archive", "monday", "--to", "-"]
    with subprocess.Popen(command, env=environment(archived), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        eventually(lambda: _unread_bytes(pipe) == fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ), "the pipe to be full")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130


def _unread_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
