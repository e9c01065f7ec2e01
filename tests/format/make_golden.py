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
from pathlib import Path

from tests.support.processes import must
from vsnapfs import Repository

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


SAMPLES: dict[str, Callable[[Path, Path], None]] = {"v1": _v1, "v1-pruned": _v1_pruned}
"""What is done to an empty repository, with an image of a disk."""


def contents(repository: Repository) -> dict[str, str]:
    """SHA-256 of every volume at every bookmark, by ``BOOKMARK/VOLUME``."""
    found = {}
    for bookmark in repository.bookmarks():
        point = repository.resolve(bookmark.name)
        for volume in repository.volumes(point):
            with repository.view(volume.name, point) as view:
                content = view.read(0, view.size_bytes)
            found[f"{bookmark.name}/{volume.name}"] = hashlib.sha256(content).hexdigest()
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
