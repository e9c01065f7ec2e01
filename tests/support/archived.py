"""Archives of images that are bytes, on the tapes of a pool; and what a recall makes of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.volumes_in_memory import TIME_NS
from vsnapfs.archive.chain import chosen, plan
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.damage import Damage
from vsnapfs.archive.entries import archive_entry
from vsnapfs.archive.extents import Span, in_blocks
from vsnapfs.archive.given import GivenTapes, slots_of_path
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Options
from vsnapfs.archive.manifest import FORMAT, Manifest
from vsnapfs.archive.pieces import Flow
from vsnapfs.archive.places import Known
from vsnapfs.archive.position import Position
from vsnapfs.archive.recall import Recall, Recalled
from vsnapfs.archive.scan import look
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.writing import Archiver
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.model import Point
from vsnapfs.core.state import Progress
from vsnapfs.core.times import iso
from vsnapfs.media.medium import Medium
from vsnapfs.media.pool import Pool
from vsnapfs.policy.media import PoolSettings

BLOCK = 4096
REPOSITORY = "5f3a3c1e-0000-4000-8000-00000000000b"
Images = dict[str, bytes]
PLAIN = Coding()
DEFAULT = Options()


def ignore(_: Progress) -> None:
    """Nobody is told."""


def image(rng: random.Random, size_bytes: int, runs: int, run_bytes: int = 3 * BLOCK) -> bytes:
    """Mostly holes; runs of whole blocks of random bytes."""
    content = bytearray(size_bytes)
    for _ in range(runs):
        length = rng.randrange(BLOCK, run_bytes + 1, BLOCK)
        at = rng.randrange(0, max(size_bytes - length, 1), BLOCK)
        content[at : at + length] = rng.randbytes(min(length, size_bytes - at))
    return bytes(content)


def changed(rng: random.Random, old: bytes, runs: int) -> bytes:
    """Some blocks written anew, some become zeros."""
    content = bytearray(old)
    for _ in range(runs):
        at = rng.randrange(0, len(content), BLOCK)
        length = min(rng.randrange(1, 4) * BLOCK, len(content) - at)
        content[at : at + length] = bytes(length) if rng.random() < 0.3 else rng.randbytes(length)
    return bytes(content)


class BytesSource:
    """A volume that is bytes; with ``old``, what differs from that."""

    block_bytes = 512
    mtime_ns = TIME_NS

    def __init__(self, name: str, number: int, content: bytes, old: bytes | None = None) -> None:
        self.name, self.id = name, number
        self.size_bytes = len(content)
        self.changes = old is not None
        self._content, self._old = content, old

    def runs(self) -> Iterator[Span]:
        return in_blocks(self._runs(), self.size_bytes)

    def _runs(self) -> Iterator[Span]:
        for at in range(0, self.size_bytes, BLOCK):
            block = self._content[at : at + BLOCK]
            if self._old is None and any(block):
                yield Span(at, len(block))
            elif self._old is not None and block != self._old[at : at + BLOCK].ljust(len(block), b"\0"):
                yield Span(at, len(block), zero=not any(block))

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        buffer[:] = self._content[offset_bytes : offset_bytes + len(buffer)]


class Archived:
    """A pool of tapes below ``path``, and what was archived to it. Resource handling: ``close``."""

    def __init__(
        self, path: Path, *, capacity: int = 1 << 20, piece: int = 256 << 10, coding: Coding = PLAIN,
        medium: Medium | None = None,
    ) -> None:  # fmt: skip
        self.path = path / "tapes"
        self.path.mkdir(parents=True)
        self.piece_bytes = piece
        self.flow = Flow(coding=coding)
        self._fd = os.open(path, os.O_RDONLY)
        self.catalog = Tapes(Place(self._fd, path / "tapes.db"), REPOSITORY, write=True)
        settings = PoolSettings(path=str(self.path), capacity=str(capacity), block="4K", labels="W%05d")
        self.medium = medium or Pool("pool", settings)
        self.now_ns = TIME_NS
        self.points: list[tuple[str, Images]] = []
        """Bookmark and images of each archive, in order."""

    def close(self) -> None:
        self.medium.close()
        self.catalog.close()
        os.close(self._fd)

    def archive_again(self, number: int = -1) -> str:
        """One more full archive of a point. Returns: its uuid."""
        number %= len(self.points)
        return self._archive(self.points[number][1], number, since=False, ids=None)

    def archive(self, images: Images, *, since: bool = False, ids: dict[str, int] | None = None) -> str:
        """A full one, or what changed since the last one. Returns: its uuid."""
        uuid = self._archive(images, len(self.points), since=since, ids=ids)
        self.points.append((f"point-{len(self.points)}", images))
        return uuid

    def _archive(self, images: Images, number: int, *, since: bool, ids: dict[str, int] | None) -> str:
        self.now_ns += 1_000_000_000
        old = self.points[-1][1] if since else {}
        manifest = self._manifest(number, since=since)
        numbers = ids or {name: place for place, name in enumerate(sorted(images), 1)}
        sources = [
            BytesSource(name, numbers[name], content, old.get(name, b"") if since else None)
            for name, content in sorted(images.items())
        ]
        stream = SummedStream(manifest, list(sources))
        entry = archive_entry(stream.manifest, self.medium.name)
        self.catalog.begin_archive(entry)
        archiver = Archiver(
            stream, self.medium, self.catalog, self.flow, piece_bytes=self.piece_bytes, clock=lambda: self.now_ns
        )
        archiver.write(Position(), ignore)
        self.catalog.complete(entry.uuid)
        return manifest.archive

    def _manifest(self, number: int, *, since: bool) -> Manifest:
        at = self.catalog.archives()[-1] if since else None
        return Manifest(
            format=FORMAT,
            archive=f"{number:08x}-0000-4000-8000-{self.now_ns % 10**12:012d}",
            repository=REPOSITORY,
            made=iso(self.now_ns),
            kind="incremental" if since else "full",
            name=f"point-{number}",
            point=self._point(number),
            bookmark=None,
            since=self._point(number - 1) if since else None,
            parent=at.uuid if at is not None else None,
            volumes=(),
        )

    @staticmethod
    def _point(number: int) -> Point:
        at = TIME_NS + number * 10**9
        return Point(seqno=100 + number, time=iso(at), time_ns=at, bookmark=f"point-{number}")

    def files(self) -> list[Path]:
        """All tape files, by tape and number."""
        return sorted(path for path in self.path.glob("*/*") if path.suffix != ".part")


def recall(
    tapes: Sequence[Path],
    to: Path,
    wanted: str = "latest",
    *,
    volumes: Sequence[str] = (),
    resume: bool = False,
    options: Options = DEFAULT,
) -> Recalled:
    """From tapes alone."""
    return recall_from(
        GivenTapes([slot for path in tapes for slot in slots_of_path(path)]),
        to,
        wanted,
        volumes=volumes,
        resume=resume,
        options=options,
    )


def recall_from(
    given: GivenTapes,
    to: Path,
    wanted: str = "latest",
    *,
    volumes: Sequence[str] = (),
    resume: bool = False,
    options: Options = DEFAULT,
) -> Recalled:
    damage = Damage()
    known = look(given, damage, options.identities)
    found = plan(known, chosen(known, wanted))
    others = Known(given, known, damage, identities=options.identities).others(found)
    landing = Landing(to, [step.archive.uuid for step in found.steps], tuple(volumes), resume=resume)
    try:
        for flaw in damage.flaws:
            landing.damage.flaw(flaw)
        return Recall(found, given, landing, options, ignore, others).run()
    finally:
        landing.close()
        given.close()


def images_in(directory: Path) -> Images:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def right_or_named(done: Recalled, wanted: Images, to: Path) -> None:
    """What is lost is zeros; what is in doubt may be anything."""
    found = images_in(to)
    for name, content in wanted.items():
        expected = bytearray(content)
        for lost in (one for one in done.lost if one.volume == name):
            there = found[name][lost.offset_bytes : lost.end_bytes]
            expected[lost.offset_bytes : lost.end_bytes] = bytes(lost.length_bytes) if lost.zeros else there
        assert found[name] == expected, name
