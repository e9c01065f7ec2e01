"""Damage costs exactly what check lists: what cannot be read is in its list, what is in its list cannot be read, all else
reads as it was written. Random damage of every kind, on repositories of every kind of content; seeds are printed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.base_moves import floor, move_bases
from tests.support.volumes import discard, files_of, put
from vsnapfs.binding import RecordKind
from vsnapfs.binding.compact import Wish, compact
from vsnapfs.core.errors import IntegrityError, PointGoneError, VsnapfsError
from vsnapfs.core.findings import Check
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.requests import Verify
from vsnapfs.repository.repository import Repository

ROUNDS = int(os.environ.get("VSNAPFS_TEST_DAMAGES", "150"))
SEED = int(os.environ.get("VSNAPFS_TEST_SEED", "1"))
SIZE = 192 << 10
BLOCK = 4096

Contents = dict[str, bytes]
"""POINT/VOLUME, and how it reads."""


class Made(NamedTuple):
    path: Path
    moved: bool
    files: dict[str, bytes]
    contents: Contents
    active: str


def write_some(repository: Repository, rng: random.Random, names: list[str]) -> None:
    """Whole blocks, pieces of blocks, runs of blocks some of which are zeros, zeros."""
    name = rng.choice(names)
    size = repository.volume(name).size_bytes
    at = rng.randrange(size)
    if rng.random() < 0.5:
        at = at // BLOCK * BLOCK
    length = min(rng.choice([17, 512, BLOCK, 3 * BLOCK, 9 * BLOCK + 100]), size - at)
    if rng.random() < 0.15:
        discard(repository, name, at, length)
        return
    content = bytearray(rng.randbytes(length))
    if length > 2 * BLOCK and rng.random() < 0.5:
        content[BLOCK : 2 * BLOCK + 50] = bytes(BLOCK + 50)
    put(repository, name, at, bytes(content))


def shown(repository: Repository) -> set[str]:
    """POINT/VOLUME of all that the repository has."""
    return {
        f"{bookmark.name}/{entry.name}"
        for bookmark in repository.bookmarks()
        for entry in repository._parts.entries(bookmark.seqno)
    }


def contents_of(repository: Repository, names: set[str]) -> Contents:
    """Those that read whole, and how."""
    found: Contents = {}
    for name in names:
        bookmark, volume = name.split("/")
        try:
            with repository.view(volume, repository.resolve(bookmark)) as view:
                found[name] = view.read(0, view.size_bytes)
        except VsnapfsError:
            continue
    return found


def happen(repository: Repository, rng: random.Random, names: list[str], number: int) -> None:
    """What comes after bookmark ``number`` beside writes."""
    if number % 3 == 2 and number < 22:
        repository.journal.seal()
    if number % 7 == 3:
        repository.volume_resize("thin", rng.choice([SIZE // 2 + 512, SIZE, SIZE + BLOCK]))
    if number == 15:
        repository.volume_remove("gone")
        names.remove("gone")
        repository.bookmark_add("past", at=repository.bookmark("b7").time)
    if number == 20:
        repository.bookmark_remove("b8")


def give_up_points(repository: Repository, number: int) -> None:
    """The bases of all volumes move, twice: blocks that were patches come into the image."""
    if number in (9, 13):
        for bookmark in repository.bookmarks()[:3]:
            repository.bookmark_remove(bookmark.name)
        floor(repository, repository.bookmarks()[0].seqno)
        assert move_bases(repository) == []


def compact_first(repository: Repository) -> None:
    """The first eight segments become one, with what bookmarks show; also those that are removed, since the removal may be lost."""
    window = repository.journal.segments()[8].first_seqno
    oldest = repository.bookmarks()[0].seqno
    named = {event.a for event in repository.journal.events() if event.kind == RecordKind.BOOKMARK_ADD}
    roots = sorted(seqno for seqno in named if oldest <= seqno < window)
    floor(repository, oldest)
    assert compact(repository.journal, Wish(0, 8, [*roots, window], [])) is not None
    assert repository.journal.superseded() == 0


def make(path: Path, seed: int, *, moves: bool, compacts: bool) -> Made:
    """Three volumes, one on a base, one that grows and shrinks, one that is removed; sealed segments and an open one.

    moves: bases are moved on the way. compacts: a part of the journal is compacted.
    """
    rng = random.Random(seed)
    Repository.create(path)
    image = path.with_name("image")
    image.write_bytes(rng.randbytes(5 * BLOCK) + bytes(6 * BLOCK) + rng.randbytes(SIZE - 11 * BLOCK - 512))
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("base", primary=image)
        repository.volume_add("thin", size_bytes=SIZE)
        repository.volume_add("gone", size_bytes=SIZE // 2)
        names = ["base", "thin", "gone"]
        for number in range(26):
            for _ in range(rng.randrange(1, 6)):
                write_some(repository, rng, names)
                if rng.random() < 0.3:
                    repository.journal.commit()
            repository.bookmark_add(f"b{number}")
            if moves:
                give_up_points(repository, number)
            happen(repository, rng, names, number)
            if compacts and number % 2 and number < 20:
                repository.journal.seal()
            if compacts and number == 22:
                compact_first(repository)
        if seed % 2:
            while repository.journal.merge_maps():
                pass
        contents = contents_of(repository, shown(repository))
        active = repository.journal.segments()[-1]
        assert not active.sealed
        assert active.last_seqno > active.first_seqno
    file = path / "journal" / f"{active.first_seqno:020d}.seg"
    if seed % 2 == 0:
        os.truncate(file, file.stat().st_size - BLOCK)  # as after a kill: without what a clean end adds
    return Made(path, moves, files_of(path), contents, file.name)


def put_back(made: Made) -> None:
    shutil.rmtree(made.path)
    for name, content in made.files.items():
        target = made.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name in ("journal", "base", "maps", "primary"):
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Made]]:
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    top = tmp_path_factory.mktemp("costs")
    if where is not None:
        top = where / f"vsnapfs-costs-{os.getpid()}"
        top.mkdir()
    try:
        yield [
            make_in(top, SEED + number, moves=moves, compacts=compacts)
            for number, (moves, compacts) in enumerate(
                [(False, False), (False, False), (True, False), (True, False), (False, True), (True, True)]
            )
        ]
    finally:
        shutil.rmtree(top)


def make_in(top: Path, seed: int, *, moves: bool, compacts: bool) -> Made:
    (top / str(seed)).mkdir()
    return make(top / str(seed) / "repository", seed, moves=moves, compacts=compacts)


def flip(path: Path, rng: random.Random, at: int | None = None) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content)) if at is None else at
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"bit in byte {at} of {path.name} ({len(content)} bytes)"


def segments(made: Made) -> list[Path]:
    return sorted((made.path / "journal").glob("*.seg"))


def one_bit(made: Made, rng: random.Random) -> str:
    return flip(rng.choice([*segments(made), *(made.path / "base").iterdir(), *(made.path / "maps").iterdir()]), rng)


def bits_of_one_segment(made: Made, rng: random.Random) -> str:
    path = rng.choice(segments(made))
    return ", ".join(flip(path, rng) for _ in range(rng.randrange(2, 6)))


def descriptor_and_footer(made: Made, rng: random.Random) -> str:
    """Two that together take away what either says."""
    path = rng.choice(segments(made)[:-1])
    content = path.read_bytes()
    descriptors = [at for at in range(0, len(content), BLOCK) if content[at : at + 4] == b"VSDB"]
    trailer = content[-BLOCK:]
    hit = [flip(path, rng, rng.choice(descriptors) + rng.randrange(BLOCK))]
    for section in rng.sample(range(5), rng.choice([1, 1, 2, 5])):
        start, length = (
            int.from_bytes(trailer[at : at + 8], "little") for at in (144 + 24 * section, 152 + 24 * section)
        )
        if length:
            hit.append(f"section {section}: " + flip(path, rng, start + rng.randrange(length)))
    if rng.random() < 0.3:
        hit.append(flip(path, rng))
    return ", ".join(hit)


def bits_anywhere(made: Made, rng: random.Random) -> str:
    return ", ".join(one_bit(made, rng) for _ in range(rng.randrange(2, 7)))


def a_block_of_zeros(made: Made, rng: random.Random) -> str:
    path = rng.choice([*segments(made), made.path / "base/00000001.img"])
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content)) // BLOCK * BLOCK
    content[at : at + BLOCK] = bytes(len(content[at : at + BLOCK]))
    path.write_bytes(content)
    return f"block {at} of {path.name} is zeros"


def cut_off(made: Made, rng: random.Random) -> str:
    path = rng.choice(segments(made))
    content = path.read_bytes()
    length = rng.randrange(len(content))
    path.write_bytes(content[:length])
    return f"{path.name} is cut at {length} of {len(content)}"


def missing(made: Made, rng: random.Random) -> str:
    path = rng.choice([*segments(made), *(made.path / "base").iterdir()])
    path.unlink()
    return f"{path.name} is missing"


def exchanged(made: Made, rng: random.Random) -> str:
    one, other = rng.sample(segments(made), 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return f"{one.name} and {other.name} are exchanged"


KINDS: list[Callable[[Made, random.Random], str]] = [
    one_bit,
    one_bit,
    bits_of_one_segment,
    descriptor_and_footer,
    descriptor_and_footer,
    bits_anywhere,
    a_block_of_zeros,
    cut_off,
    missing,
    exchanged,
]


def is_gone(repository: Repository, name: str) -> bool:
    """A name that came back with its removal lost, of a point that was given up since."""
    bookmark, volume = name.split("/")
    try:
        repository.view(volume, repository.resolve(bookmark)).close()
    except PointGoneError:
        return True
    except VsnapfsError:
        pass
    return False


def look(made: Made) -> tuple[set[str], Contents]:
    """All that was there or is shown now (a removed bookmark too, if its removal is lost), and what of it reads."""
    try:
        with Repository.open(made.path, owner=False, sound_part=True) as reader:
            reader.refresh()
            came_back = {name for name in shown(reader) - set(made.contents) if not is_gone(reader, name)}
            names = set(made.contents) | came_back
            return names, contents_of(reader, names)
    except IntegrityError:
        return set(made.contents), {}


def checked(made: Made) -> Check:
    return Client(made.path).call(Verify(read_data=True))


@pytest.mark.parametrize("kind", list(dict.fromkeys(KINDS)), ids=lambda kind: kind.__name__)
def test_costs_are_exact(repositories: list[Made], kind: Callable[[Made, random.Random], str]) -> None:
    for number in range(ROUNDS * KINDS.count(kind) // len(KINDS)):
        seed = SEED * 1_000_000 + number
        rng = random.Random(seed)
        made = repositories[number % len(repositories)]
        put_back(made)
        what = kind(made, rng)
        before = files_of(made.path)
        says = f"seed {seed}, repository {number % len(repositories)}: {what}"
        found = checked(made)
        names, reads = look(made)
        assert files_of(made.path) == before, f"{says}: something was written"
        wrong = {name for name in reads if reads[name] != made.contents.get(name, reads[name])}
        assert wrong == set(), f"{says}: wrong bytes"
        listed = {cost for damage in found.damages for cost in damage.costs}
        assert listed == names - set(reads), f"{says}: {found.damages}"
        # Holes, which nobody reads; a moved base as far as records still stand over it; an end that may be a torn one.
        unknowable = ".img" in what or made.active in what or (made.moved and ".idx" in what)
        assert found.damages or (unknowable and not listed), f"{says}: not found"


def test_nothing_is_listed_of_a_sound_repository(repositories: list[Made]) -> None:
    for made in repositories:
        put_back(made)
        assert checked(made).damages == []
        assert look(made) == (set(made.contents), made.contents)
