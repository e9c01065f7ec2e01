"""kill -9 at calls of an archive, and on from there: the tapes hold the stream that an undisturbed run would have written, and GNU tar
alone extracts it.

Full and incremental, compressed, and into a file. Run it as ``python -m tests.crash.archive_kill --count 60 --seed 1``.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import zstandard

from tests.crash.counted import main
from tests.support.processes import environment
from tests.support.volumes import put
from vsnapfs.archive import volumes
from vsnapfs.archive.index import PieceIndex, decode
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.volumes import Subject
from vsnapfs.repository.repository import Repository

MIB = 1 << 20
SIZE = 8 * MIB
CAPACITY = 512 << 10
KILLS_PER_ROUND = 12
KINDS = ("full", "incremental", "compressed", "file")
END_S_MAX = 60.0
MEDIA = """
[media.{name}]
kind = "pool"
path = "{pool}"
capacity = "512K"
piece = "64K"
labels = "{name}%03d"
compression = "{compression}"
"""


def make(path: Path, rng: random.Random) -> None:
    """Volumes ``a`` and ``b``, at points ``one`` and ``two``."""
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        for name in ("a", "b"):
            repository.volume_add(name, size_bytes=SIZE)
            for _ in range(12):
                put(repository, name, rng.randrange(SIZE - MIB), rng.randbytes(rng.randrange(1, 96 << 10)))
        repository.bookmark_add("one")
        for _ in range(12):
            put(repository, "b", rng.randrange(SIZE - MIB), rng.randbytes(rng.randrange(1, 64 << 10)))
        repository.bookmark_add("two")


class Ground:
    """A repository, and a pool for each kind, empty at each try."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.repository = directory / "repository"
        self.directory = directory
        self.rng = random.Random(seed)
        make(self.repository, self.rng)
        self.calls = dict.fromkeys(KINDS, 60)
        self.tries = 0

    def fresh(self, kind: str) -> str:
        """A medium, or a file, that is empty. Returns what ``--to`` says."""
        self.tries += 1
        if kind == "file":
            return str(self.directory / f"file{self.tries}.tar")
        name = f"m{self.tries}-"
        pool = self.directory / name
        pool.mkdir()
        compression = "zstd" if kind == "compressed" else "none"
        with (self.repository / "vsnapfs.toml").open("a") as settings:
            settings.write(MEDIA.format(name=name, pool=pool, compression=compression))
        return name

    def archive(self, call: int, *args: str) -> tuple[int, str]:
        """Exit status, and what it said. call: at which it kills itself, 0: at none."""
        command = [sys.executable, "-m", "tests.crash.archiver", str(call), "archive", *args]
        done = subprocess.run(
            command, env=environment(self.repository), capture_output=True, text=True, timeout=END_S_MAX, check=False
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, done.stderr


def one(ground: Ground, kind: str) -> bool:
    """An archive, killed at random calls, and resumed until it is complete. Returns whether it was killed at all."""
    to = ground.fresh(kind)
    if kind == "incremental":
        ground.archive(0, "one", "--to", to)
    wanted = ["two" if kind == "incremental" else "one", "--to", to]
    wanted += ["--incremental"] if kind == "incremental" else []
    status, said = ground.archive(ground.rng.randrange(1, ground.calls[kind]), *wanted)
    killed = status != 0
    while status != 0 and not Path(to).is_file() and ground.rng.random() < 0.4:
        status, said = ground.archive(ground.rng.randrange(1, ground.calls[kind]), *wanted, "--resume")
    if status != 0 and not Path(to).is_file():
        status, said = ground.archive(0, *wanted, "--resume")
    if not killed:
        ground.calls[kind] = int(said.split()[-1])
    ground.calls[kind] = ground.calls[kind] if not killed else ground.calls[kind] + 10
    pieces = [Path(to)] if kind == "file" else tape_pieces(ground, to, "two" if kind == "incremental" else "one")
    extracted(pieces, ground.directory / f"out{ground.tries}")
    return killed


def tape_pieces(ground: Ground, medium: str, point: str) -> list[Path]:
    """The pieces of the one complete archive of a point, compared with the stream made again; compressed ones, unpacked."""
    pool = ground.directory / medium
    assert not list(pool.glob("*/*.part*"))
    for tape in pool.iterdir():
        assert sum(file.stat().st_size for file in tape.iterdir()) <= CAPACITY
    found: list[tuple[PieceIndex, Path]] = []
    for path in pool.glob("*/*.index"):
        index = decode(path.read_bytes())
        if index.point.bookmark == point:
            (piece,) = path.parent.glob(f"{index.file:05d}.tar*")
            found.append((index, piece))
    found.sort(key=lambda each: each[0].piece)
    last = max((index for index, _ in found if index.last), key=lambda index: index.made)
    mine = {index.piece: (index, piece) for index, piece in found if index.archive == last.archive}
    assert sorted(mine) == list(range(last.piece + 1))
    plain = [unpacked(piece) for _, piece in mine.values()]
    content = b"".join(
        path.read_bytes()[index.head_bytes :] for (index, _), path in zip(mine.values(), plain, strict=True)
    )
    again = stream_again(ground.repository, last)
    differs = next((at for at in range(min(len(content), len(again))) if content[at] != again[at]), None)
    assert content == again, (last.archive, len(content), len(again), differs)
    return plain


def unpacked(piece: Path) -> Path:
    if piece.suffix != ".zst":
        return piece
    plain = piece.parent.parent.with_suffix(".plain")
    plain.mkdir(exist_ok=True)
    target = plain / f"{piece.parent.name}-{piece.stem}"
    target.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(piece.read_bytes()))
    return target


def stream_again(path: Path, index: PieceIndex) -> bytes:
    """The whole stream of an archive, from its manifest."""
    manifest = index.manifest
    names = tuple(volume.name for volume in manifest.volumes)
    subject = Subject(point=manifest.point, since=manifest.since, volumes=names)
    with Repository.open(path, owner=False) as repository, volumes.opened(repository, subject) as sources:
        stream = SummedStream(msgspec.structs.replace(manifest, volumes=()), sources)
        return b"".join(bytes(part) for part in stream.read(0, stream.length_bytes))


def extracted(pieces: list[Path], target: Path) -> None:
    """By GNU tar alone."""
    target.mkdir()
    words = [word for piece in pieces for word in ("-f", str(piece))]
    multi = ["--multi-volume"] if len(pieces) > 1 else []
    subprocess.run(["tar", *multi, "-x", "-C", str(target), *words], check=True, stdin=subprocess.DEVNULL)
    (directory,) = target.iterdir()
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=directory, check=True)


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository, twelve kills at most."""
    ground = Ground(directory, seed)
    kinds: Counter[str] = Counter()
    turns = 0
    while kinds.total() < min(count, KILLS_PER_ROUND):
        kind = KINDS[(turns + seed) % len(KINDS)]
        kinds[kind] += one(ground, kind)
        turns += 1
    return kinds


if __name__ == "__main__":
    main("archive_kill", play, count=60)
