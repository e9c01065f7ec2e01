"""Make a sample repository: ``python -m tests.format.make_golden NAME``, one of ``SAMPLES``.

Run once for each released format, never again for the same: what it made is kept for ever beside this file, and every later version must
open it (test_golden.py). Small on purpose; the first segment of v1 is the worked example of native/FORMAT.md.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.processes import must
from vsnapfs import Repository
from vsnapfs.binding import Branch
from vsnapfs.repository import branches

GOLDEN = Path(__file__).parent / "golden"
MIB = 1 << 20


def _write(repository: Repository, name: str, offset_bytes: int, content: bytes) -> None:
    repository.journal.write(repository.volume(name).id, offset_bytes, content)


def _v1(path: Path, image: Path) -> None:
    """Eight sealed segments (so that there is a merged map) and an unsealed one."""
    with Repository.open(path, owner=True) as repository:
        _fill(repository, image)


def _fill(repository: Repository, image: Path) -> None:
    repository.volume_add("db0", size_bytes=16384)
    _write(repository, "db0", 4100, b"hello")
    _write(repository, "db0", 8192, bytes(4096) + b"\xaa" * 4096)
    repository.bookmark_add("first", note="worked example")
    repository.journal.seal()
    repository.volume_add("old", primary=image)
    repository.bookmark_add("with-base", consistency="application", application="none")
    for round_ in range(7):
        _write(repository, "old", round_ * 10_000, bytes([round_ + 1]) * 9_000)
        repository.journal.zero(repository.volume("db0").id, round_ * 700, 300)
        repository.bookmark_add(f"round-{round_}")
        repository.journal.seal()
    repository.journal.merge_maps()
    repository.volume_resize("db0", 8192)
    repository.volume_resize("db0", 20480)
    repository.bookmark_hold("round-3", "keep")
    repository.bookmark_remove("round-4")
    repository.bookmark_add("then", at="first")
    repository.bookmark_add("last")


KEEPING = """\
[retention]
prune = "off"
protection_window = "1ms"
keep_last = 1
[retention.names."*0"]
"""
"""All bookmarks whose names end so, and the last of the others."""


def _v1_pruned(path: Path, image: Path) -> None:
    """Written to and pruned three times: bases that were moved and have patches, a segment that stands for eight, others that stand for
    one, some that are as they were, and an unsealed one."""
    rng = random.Random(1)
    (path / "vsnapfs.toml").write_text(KEEPING)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("thin", size_bytes=30 * 4096)
        repository.volume_add("old", primary=image)
        repository.volume_add("gone", size_bytes=8192)
        _write(repository, "gone", 100, b"gone" * 100)
    for number in range(30):
        with Repository.open(path, owner=True) as repository:
            _some_writes(repository, rng)
            if number == 4:
                repository.volume_resize("thin", 27 * 4096 + 512)
                repository.volume_remove("gone")
            repository.bookmark_add(f"b{number}")
            if number % 2:
                repository.journal.seal()
        if number == 20:
            with Repository.open(path, owner=True) as repository:
                repository.bookmark_remove("b0")
        if number in (12, 20, 26):
            must(path, "prune")


def _some_writes(repository: Repository, rng: random.Random) -> None:
    """Parts of blocks and whole ones, zeros, and what is written over again."""
    for name in ("thin", "old"):
        id_, last_block = repository.volume(name).id, repository.volume(name).size_bytes // 4096 - 1
        for _ in range(3):
            _write(repository, name, rng.randrange(last_block) * 4096, bytes([rng.randrange(1, 256)]) * 4096)
        for _ in range(2):
            _write(repository, name, rng.randrange(last_block * 4096), bytes([rng.randrange(1, 256)]) * 700)
        repository.journal.zero(id_, rng.randrange(last_block) * 4096, 5000)


def _v1_branches(path: Path, image: Path) -> None:
    """A branch that was written to before and after another was made of it, and one that nobody has written to: whole blocks and parts,
    zeros, the end of a volume that is no block's, and a log that was written anew."""
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("thin", size_bytes=20 * 4096 + 512)
        repository.volume_add("old", primary=image)
        _write(repository, "thin", 3000, b"below" * 3000)
        repository.bookmark_add("a")
        repository.branch_add("x", "a", quota_bytes=MIB, note="why")
        with _opened(repository, "x") as branch:
            thin, old = (repository.volume(name).id for name in ("thin", "old"))
            branch.write(thin, 4096, b"x" * 9000)
            branch.write(thin, 20 * 4096 + 500, b"the end")
            branch.write(old, 40 * 4096, b"y" * 4096 + bytes(8192) + b"z" * 4096)
            branch.zero(thin, 5000, 8000)
            for number in range(2000):
                branch.write(thin, (10 + number % 3) * 4096, number.to_bytes(2, "little") * 2048)
                if number % 100 == 99:
                    branch.sync()
        repository.branch_add("y", "branch:x")
        with _opened(repository, "x") as branch:
            branch.zero(old, 0, 41 * 4096)
        with _opened(repository, "y") as branch:
            branch.write(thin, 10 * 4096 + 1, b"of the child")
        repository.branch_add("z", "a")


def _opened(repository: Repository, name: str) -> AbstractContextManager[Branch]:
    return branches.opened(repository._parts, branches.find(repository._parts, name))


SAMPLES: dict[str, Callable[[Path, Path], None]] = {"v1": _v1, "v1-branches": _v1_branches, "v1-pruned": _v1_pruned}
"""What is done to an empty repository, with an image of a disk."""


def contents(repository: Repository) -> dict[str, str]:
    """SHA-256 of every volume at every bookmark, by ``BOOKMARK/VOLUME``; and of every branch, by ``branch:NAME/VOLUME``."""
    found = {}
    for bookmark in repository.bookmarks():
        point = repository.resolve(bookmark.name)
        for volume in repository.volumes(point):
            with repository.view(volume.name, point) as view:
                content = view.read(0, view.size_bytes)
            found[f"{bookmark.name}/{volume.name}"] = hashlib.sha256(content).hexdigest()
    for name, held in branch_contents(repository).items():
        found |= {f"branch:{name}/{volume}": hashlib.sha256(content).hexdigest() for volume, content in held.items()}
    return found


def branch_contents(repository: Repository) -> dict[str, dict[str, bytes]]:
    """What each volume of each branch holds, by their names."""
    found = {}
    for told in repository.branches():
        with _opened(repository, told.name) as branch:
            found[told.name] = {each.name: branch.read(each.id, 0, each.size_bytes) for each in told.volumes}
    return found


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        image, path = Path(scratch) / "old.img", Path(scratch) / name
        image.write_bytes(bytes(MIB // 8) + b"base" * 4096 + bytes(MIB // 8))
        Repository.create(path)
        SAMPLES[name](path, image)
        with Repository.open(path, owner=False) as repository:
            expected = contents(repository)
        shutil.rmtree(path / "primary")
        with tarfile.open(GOLDEN / f"{name}.tar.xz", "w:xz") as archive:
            archive.add(path, name)
    (GOLDEN / f"{name}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
