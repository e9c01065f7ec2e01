"""Points back from tape, by the command: from tapes alone, into repositories and onto branches, after kills.

``VSNAPFS_TAPE_MIB`` is the capacity of an emulated tape of the long way there and back (default 6); the point has two and a half times
that.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.archived import images_in
from tests.support.archived import recall as recall_here
from tests.support.processes import environment, must, must_json, program, run
from tests.support.volumes import content_at, put
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
NOT_FOUND, BUSY, INTEGRITY, USAGE = 3, 5, 6, 2
TAPE_MIB = int(os.environ.get("VSNAPFS_TAPE_MIB", "6"))
BLOCK = 4096
CALLS_OF_SOME_PIECES = "60"
"""See tests.crash.archiver: of the system, of which a recall makes six for each piece that is done, before and after each."""
POOL = """\
[media.{name}]
kind = "pool"
path = "{path}"
capacity = "{capacity}"
piece = "{piece}"
block = "64K"
"""


def with_pool(repository: Path, name: str, *, capacity: str = "3M", piece: str = "1M") -> Path:
    """Add a pool of tapes to the settings. Returns: its directory, beside the repository."""
    path = repository.with_name(f"{repository.name}-{name}")
    path.mkdir()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(POOL.format(name=name, path=path, capacity=capacity, piece=piece))
    return path


def take(repository: Path, name: str, images: dict[str, bytes]) -> None:
    """Take images in as a point."""
    for volume, content in images.items():
        (repository.parent / f"{volume}.img").write_bytes(content)
    pairs = [f"{volume}={repository.parent / volume}.img" for volume in images]
    must(repository, "import", *pairs, "--bookmark", name)


def content_of(repository: Path, point: str, volumes: list[str]) -> dict[str, bytes]:
    with Repository.open(repository, owner=False) as opened:
        return {name: content_at(opened, name, point) for name in volumes}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two points, both archived: a full archive on two tapes, and an incremental one behind it."""
    path = tmp_path_factory.mktemp("made") / "source"
    Repository.create(path)
    with_pool(path, "pool")
    rng = random.Random(1)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=8 * MIB)
        repository.volume_add("empty", size_bytes=MIB)
        put(repository, "db", 0, rng.randbytes(4 * MIB))
        put(repository, "db", 7 * MIB, rng.randbytes(MIB))
        repository.bookmark_add("monday")
        put(repository, "db", 5 * BLOCK, rng.randbytes(4 * BLOCK))
        put(repository, "db", 20 * BLOCK, bytes(2 * BLOCK))
        repository.bookmark_add("tuesday")
    must(path, "archive", "monday", "tuesday", "--to", "pool", "--incremental")
    return path


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    path = tmp_path / "source"
    for name in ("source", "source-pool"):
        shutil.copytree(made.with_name(name), tmp_path / name)
    settings = path / "vsnapfs.toml"
    settings.write_text(settings.read_text().replace(str(made.parent), str(tmp_path)))
    return path


def tapes_of(source: Path) -> Path:
    return source.with_name("source-pool")


def test_into_a_repository_from_tapes_alone(source: Path, tmp_path: Path) -> None:
    wanted = content_of(source, "tuesday", ["db", "empty"])
    shutil.rmtree(source)
    empty = tmp_path / "empty"
    must(empty, "init")
    told = must(empty, "recall", "tuesday", "--from", tapes_of(source), "--into", empty, "--bookmark", "back")
    assert "T00001 T00002" in told
    assert content_of(empty, "back", ["db", "empty"]) == wanted
    must(empty, "recall", "monday", "--from", tapes_of(source), "--into", empty, "--bookmark", "older")
    changed = must_json(empty, "diff", "back", "older")["diffs"]
    assert sum(diff["changed_bytes"] for diff in changed) == 6 * BLOCK
    refused(empty, BUSY, "recall", "monday", "--from", tapes_of(source), "--into", empty, "--bookmark", "back")
    assert not (tmp_path / "empty.recall").exists()


def test_what_is_needed_is_said_and_what_is_missing_is_named(source: Path, tmp_path: Path) -> None:
    needed = must_json(source, "recall", "tuesday", "--dry-run")
    assert needed["tapes"] == ["T00001", "T00002"]
    assert needed["missing"] is None
    (tapes_of(source) / "T00001").rename(tmp_path / "away")
    line = refused(None, NOT_FOUND, "recall", "tuesday", "--from", tapes_of(source), "--to", tmp_path / "to")
    assert "T00001" in line
    assert not (tmp_path / "to").exists()
    line = refused(source, NOT_FOUND, "recall", "tuesday", "--to", tmp_path / "to")
    assert "T00001" in line


ELSEWHERE = """
[media.away]
kind = "pool"
path = "/nonexistent/tapes"
capacity = "1G"
[media.robot]
kind = "drive"
device = "/nonexistent/nst0"
changer = "command"
status = ["false"]
load = ["false"]
unload = ["false"]
"""


def test_media_that_are_not_needed_may_be_away(source: Path, tmp_path: Path) -> None:
    """A drive that is switched off and a disk that is not mounted; where they are needed, they are named."""
    with (source / "vsnapfs.toml").open("a") as settings:
        settings.write(ELSEWHERE)
    must(source, "recall", "monday", "--to", tmp_path / "to")
    assert images_in(tmp_path / "to") == content_of(source, "monday", ["db", "empty"])
    (tapes_of(source) / "T00001").rename(tmp_path / "T00001")
    lacking = run(source, "recall", "monday", "--to", tmp_path / "again")
    assert (lacking.returncode, "T00001" in lacking.stderr) == (NOT_FOUND, True), lacking.stderr
    scanned = must_json(source, "tape", "scan", status=NOT_FOUND)
    assert (len(scanned["tapes"]), "/nonexistent/tapes" in scanned["unread"][0]) == (1, True)


def test_the_catalog_is_made_again_by_reading_tapes(source: Path) -> None:
    def listed() -> list[dict[str, Any]]:
        archives = must_json(source, "archive", "list")["archives"]
        return [{key: value for key, value in archive.items() if key != "age_s"} for archive in archives]

    before = listed()
    (source / "tapes.db").unlink()
    scanned = must_json(source, "tape", "scan")
    assert (len(scanned["tapes"]), scanned["archives"], len(scanned["new_archives"])) == (2, 2, 2)
    again = must_json(source, "tape", "scan")
    assert again["new_archives"] == []
    assert listed() == before
    tuesday = content_of(source, "tuesday", ["db"])["db"]
    take(source, "wednesday", {"db": tuesday[:-BLOCK] + b"w" * BLOCK, "empty": bytes(MIB)})
    archived = must_json(source, "archive", "wednesday", "--to", "pool", "--incremental")["archives"][0]
    assert archived["archive"]["kind"] == "incremental"


def test_whole_tapes_are_verified(source: Path) -> None:
    done = must_json(source, "tape", "verify")
    assert done["sound"]
    assert [tape["label"] for tape in done["tapes"]] == ["T00001", "T00002"]
    piece = tapes_of(source) / "T00002/00001.tar"
    content = bytearray(piece.read_bytes())
    content[100_000] ^= 4
    piece.write_bytes(content)
    must(source, "tape", "verify", "T00001")
    done = must_json(source, "tape", "verify", "T00002", status=INTEGRITY)
    (flaw,) = done["tapes"][0]["flaws"]
    assert (flaw["tape"], flaw["file"]) == ("T00002", 1)
    assert flaw["offset_bytes"] <= 100_000 < flaw["offset_bytes"] + flaw["length_bytes"]
    assert "T00009" in refused(source, NOT_FOUND, "tape", "verify", "T00009")


def test_damage_is_named_and_the_rest_given(source: Path, tmp_path: Path) -> None:
    piece = tapes_of(source) / "T00001/00003.tar"
    content = bytearray(piece.read_bytes())
    content[200_000] ^= 4
    piece.write_bytes(content)
    done = must_json(source, "recall", "tuesday", "--to", tmp_path / "to", status=INTEGRITY)
    (lost,) = done["lost"]
    expected = bytearray(content_of(source, "tuesday", ["db"])["db"])
    end = lost["offset_bytes"] + lost["length_bytes"]
    expected[lost["offset_bytes"] : end] = bytes(lost["length_bytes"])
    assert (tmp_path / "to/db").read_bytes() == expected
    assert f"bytes {lost['offset_bytes']} to {end}" in (tmp_path / "to/db.damage").read_text()
    told = run(source, "recall", "tuesday", "--to", tmp_path / "again")
    assert told.returncode == INTEGRITY
    assert "lost: bytes" in told.stdout
    again = run(source, "recall", "tuesday", "--archive-to", "pool")
    assert again.returncode == INTEGRITY
    assert "not archived as if it were whole" in again.stderr
    assert len(must_json(source, "archive", "list")["archives"]) == 2


def test_a_second_copy_has_what_the_first_lacks(source: Path, tmp_path: Path) -> None:
    """Of what is damaged, and of tapes that are not there."""
    other = with_pool(source, "other", capacity="20M", piece="4M")
    must(source, "archive", "tuesday", "--to", "other")
    wanted = content_of(source, "tuesday", ["db", "empty"])
    piece = next(other.glob("*/00001.tar"))
    content = bytearray(piece.read_bytes())
    content[2_000_000] ^= 4
    piece.write_bytes(content)
    told = must(source, "recall", "tuesday", "--to", tmp_path / "filled")
    assert "from another copy: bytes" in told
    assert images_in(tmp_path / "filled") == wanted
    words: list[str | Path] = ["--from", other, "--from", tapes_of(source)]
    done = must_json(source, "recall", "tuesday", *words, "--to", tmp_path / "paths")
    assert images_in(tmp_path / "paths") == wanted
    assert (len(done["flaws"]), done["lost"]) == (1, [])
    assert len(done["filled"]) == 1
    shutil.rmtree(other)
    other.mkdir()
    done = must_json(source, "recall", "tuesday", "--to", tmp_path / "instead")
    assert done["tapes"] == ["T00001", "T00002"]
    assert images_in(tmp_path / "instead") == wanted


def test_a_synthetic_full_archive_stands_alone(source: Path, tmp_path: Path) -> None:
    other = with_pool(source, "other", capacity="20M", piece="4M")
    chain = [entry["uuid"] for entry in must_json(source, "archive", "list")["archives"]]
    made = must_json(source, "recall", "tuesday", "--archive-to", "other")["archive"]
    shutil.rmtree(tapes_of(source))
    done = must_json(source, "recall", made[:13], "--from", other, "--to", tmp_path / "to")
    assert done["archives"] == [made]
    assert images_in(tmp_path / "to") == content_of(source, "tuesday", ["db", "empty"])
    piece = next(other.glob("*/00001.tar"))
    manifest = subprocess.run(
        ["tar", "-xOf", piece, "tuesday/MANIFEST.json"], capture_output=True, text=True, check=False
    ).stdout
    assert all(uuid in manifest for uuid in chain)
    assert '"made_from"' in manifest


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_onto_a_branch(source: Path, tmp_path: Path) -> None:
    wanted = content_of(source, "monday", ["db"])["db"]
    with serving(source, tmp_path / "mount") as server:
        done = must_json(source, "recall", "monday", "--volume", "db", "--branch", "old", "--on", "tuesday")
        assert (server.mountpoint / "branches/old/db").read_bytes() == wanted
        assert done["written_bytes"] == 6 * BLOCK
        refused(source, BUSY, "recall", "tuesday", "--branch", "old", "--on", "tuesday")
    refused(source, NOT_FOUND, "recall", "monday", "--branch", "other")


def test_a_target_is_one(source: Path, tmp_path: Path) -> None:
    refused(source, USAGE, "recall", "monday")
    refused(source, USAGE, "recall", "monday", "--to", tmp_path / "to", "--branch", "b")
    refused(source, USAGE, "recall", "monday", "--into", source)
    refused(source, USAGE, "recall", "", "--to", tmp_path / "to")
    assert "no file" in refused(source, USAGE, "recall", tapes_of(source), "--to", tmp_path / "to")
    refused(source, USAGE, "recall", "-", "--from", tapes_of(source), "--to", tmp_path / "to")
    refused(source, USAGE, "recall", "monday", "--to", "")
    refused(None, NOT_FOUND, "recall", "monday", "--from", tmp_path / "nowhere", "--to", tmp_path / "to")


def test_a_plain_file_is_recalled_with_and_without_its_index(source: Path, tmp_path: Path) -> None:
    must(source, "archive", "tuesday", "--to", tmp_path / "tuesday.tar")
    wanted = content_of(source, "tuesday", ["db", "empty"])
    must(source, "recall", "tuesday", "--from", tmp_path / "tuesday.tar", "--to", tmp_path / "with")
    assert images_in(tmp_path / "with") == wanted
    piece = next(tapes_of(source).glob("*/00001.tar"))
    for name in ("copied.tar", "copied.tar.index"):
        shutil.copy(piece if name.endswith(".tar") else piece.with_name("00002.index"), tmp_path / name)
    refused(source, NOT_FOUND, "recall", tmp_path / "copied.tar", "--to", tmp_path / "copied")
    (tmp_path / "tuesday.tar.index").unlink()
    must(source, "recall", "tuesday", "--from", tmp_path / "tuesday.tar", "--to", tmp_path / "without")
    assert images_in(tmp_path / "without") == wanted


def test_what_archive_writes_into_a_pipe_recall_reads_out_of_one(source: Path, tmp_path: Path) -> None:
    wanted = content_of(source, "tuesday", ["db", "empty"])
    words = [*program(), "-r", str(source), "archive", "tuesday", "--to", "-", "--compress"]
    archiving = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    words = [*program(), "recall", "-", "--to", str(tmp_path / "to")]
    try:
        subprocess.run(words, env=environment(), stdin=archiving.stdout, check=True, timeout=600)
    finally:
        assert archiving.stdout is not None
        archiving.stdout.close()
        archiving.wait(timeout=600)
    assert images_in(tmp_path / "to") == wanted
    must(source, "archive", "monday", "--to", tmp_path / "monday.tar")
    must(source, "archive", "tuesday", "--since", "monday", "--to", tmp_path / "more.tar")
    must(source, "recall", tmp_path / "more.tar", "--from", tmp_path / "monday.tar", "--to", tmp_path / "chain")
    assert images_in(tmp_path / "chain") == wanted
    with (tmp_path / "more.tar").open("rb") as more:
        words = [*program(), "recall", "-", "--to", str(tmp_path / "more")]
        refusal = subprocess.run(words, env=environment(), stdin=more, check=False, capture_output=True, text=True)
    assert refusal.returncode == USAGE
    assert "incremental" in refusal.stderr
    assert not (tmp_path / "more").exists()


def test_each_of_eleven_points(tmp_path: Path) -> None:
    """A full archive and ten incremental ones, none of which takes more than what changed and two in a hundred."""
    path = tmp_path / "eleven"
    Repository.create(path)
    pool = with_pool(path, "pool", capacity="16M", piece="2M")
    rng = random.Random(2)
    points: list[bytes] = []
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=8 * MIB)
        put(repository, "db", 0, rng.randbytes(4 * MIB))
        for number in range(11):
            for at in rng.sample(range(2048), 200 if number else 0):
                put(repository, "db", at * BLOCK, rng.randbytes(BLOCK))
            repository.bookmark_add(f"p{number}")
            points.append(content_at(repository, "db", f"p{number}"))
    names = [f"p{number}" for number in range(11)]
    made = must_json(path, "archive", *names, "--to", "pool", "--incremental")["archives"]
    assert [one["archive"]["kind"] for one in made] == ["full"] + ["incremental"] * 10
    for one in made[1:]:
        assert one["archive"]["stored_bytes"] <= 200 * BLOCK * 1.02, one
    for name, wanted in zip(names, points, strict=True):
        done = recall_here([pool], tmp_path / name, name)
        assert (tmp_path / name / "db").read_bytes() == wanted
        assert (done.flaws, done.lost) == ([], [])


def test_volumes_that_were_resized_removed_and_added_again(tmp_path: Path) -> None:
    path = tmp_path / "changing"
    Repository.create(path)
    pool = with_pool(path, "pool", capacity="40M", piece="1M")
    rng = random.Random(4)
    wanted: dict[str, dict[str, bytes]] = {}
    with Repository.open(path, owner=True) as repository:

        def mark() -> None:
            name = f"p{len(wanted)}"
            repository.bookmark_add(name)
            names = [volume.name for volume in repository.volumes(repository.resolve(name))]
            wanted[name] = {volume: content_at(repository, volume, name) for volume in names}

        repository.volume_add("db", size_bytes=4 * MIB)
        put(repository, "db", 0, rng.randbytes(2 * MIB))
        put(repository, "db", 4 * MIB - BLOCK, rng.randbytes(BLOCK))
        mark()
        repository.volume_resize("db", 6 * MIB)
        put(repository, "db", 5 * MIB, rng.randbytes(MIB))
        mark()
        repository.volume_resize("db", MIB)
        repository.volume_resize("db", 5 * MIB)
        put(repository, "db", 3 * MIB, rng.randbytes(BLOCK))
        mark()
        repository.volume_remove("db")
        repository.volume_add("db", size_bytes=2 * MIB)
        put(repository, "db", 8 * BLOCK, rng.randbytes(BLOCK))
        repository.volume_add("new", size_bytes=MIB)
        put(repository, "new", 0, rng.randbytes(3 * BLOCK))
        mark()
        repository.volume_remove("new")
        put(repository, "db", MIB, rng.randbytes(BLOCK))
        mark()
    must(path, "archive", *wanted, "--to", "pool", "--incremental")
    for name, images in wanted.items():
        done = recall_here([pool], tmp_path / name, name)
        assert images_in(tmp_path / name) == images, name
        assert (done.flaws, done.lost) == ([], [])


def test_over_three_tapes_through_kills_and_back(tmp_path: Path) -> None:
    """Killed in the middle of the second tape, resumed, recalled on an empty machine through another kill; GNU tar gives the same."""
    path, empty = tmp_path / "source", tmp_path / "empty"
    Repository.create(path)
    pool = with_pool(path, "pool", capacity=f"{TAPE_MIB}M", piece=f"{max(TAPE_MIB // 12, 1) * 512}K")
    digest = _volume(path, TAPE_MIB * 5 // 2)
    _archive_killed(path, pool)
    must(path, "archive", "--resume", "--to", "pool", timeout_s=900)
    assert len(list(pool.iterdir())) == 3
    shutil.rmtree(path)
    Repository.create(empty)
    words: list[str | Path] = ["recall", "point", "--from", pool, "--into", empty, "--bookmark", "back"]
    dying = [sys.executable, "-m", "tests.crash.archiver", CALLS_OF_SOME_PIECES, *map(str, words)]
    done = subprocess.run(dying, env=environment(), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert _pieces_done(tmp_path / "empty.recall/.vsnapfs-recall") > 3
    refused(None, BUSY, *words)
    must(empty, *words, "--resume", timeout_s=900)
    must(empty, "export", "back", "db", "--to", tmp_path / "db.img", timeout_s=900)
    assert _sha256(tmp_path / "db.img") == digest
    pieces = [word for piece in sorted(pool.glob("*/*.tar")) for word in ("-f", str(piece))]
    subprocess.run(["tar", "-M", "-x", *pieces], cwd=tmp_path, check=True, timeout=900)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "point", check=True, timeout=900)
    assert _sha256(tmp_path / "point/db") == digest


def _volume(repository: Path, size_mib: int) -> str:
    """A point of so much data, none of it compressible. Returns: its digest."""
    rng = random.Random(3)
    image = repository.parent / "image"
    with image.open("wb") as file:
        for _ in range(size_mib):
            file.write(rng.randbytes(MIB))
    must(repository, "import", f"db={image}", "--bookmark", "point", timeout_s=900)
    digest = _sha256(image)
    image.unlink()
    return digest


def _archive_killed(repository: Path, pool: Path) -> None:
    """In the middle of the second tape, without warning."""
    words = ["-r", str(repository), "archive", "point", "--to", "pool", "--rate", f"{max(TAPE_MIB // 3, 2)}M"]
    process = subprocess.Popen(
        [*program(), *words], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: len(list(pool.glob("T00002/*.index"))) > 2, "the moment to kill it", deadline_s=900)
        assert process.poll() is None, "it ended before"
    finally:
        process.kill()
        process.wait()


def _pieces_done(state: Path) -> int:
    try:
        return int(state.read_text().split('"piece":')[1].split(",")[0])
    except (FileNotFoundError, IndexError):
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
