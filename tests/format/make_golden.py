"""Make the sample repository of a format version: ``python -m tests.format.make_golden``.

Run once for each released format, never again for the same: what it made is kept for ever beside this file, and every later version must
open it (test_golden.py). Small on purpose; the first segment is the worked example of native/FORMAT.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from vsnapfs import Repository

GOLDEN = Path(__file__).parent / "golden"
VERSION = "v1"
MIB = 1 << 20


def _write(repository: Repository, name: str, offset_bytes: int, content: bytes) -> None:
    repository.journal.write(repository.volume(name).id, offset_bytes, content)


def _fill(repository: Repository, image: Path) -> None:
    """Eight sealed segments (so that there is a merged map) and an unsealed one."""
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


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        image, path = Path(scratch) / "old.img", Path(scratch) / VERSION
        image.write_bytes(bytes(MIB // 8) + b"base" * 4096 + bytes(MIB // 8))
        Repository.create(path)
        with Repository.open(path, owner=True) as repository:
            _fill(repository, image)
            expected = contents(repository)
        shutil.rmtree(path / "primary")
        with tarfile.open(GOLDEN / f"{VERSION}.tar.xz", "w:xz") as archive:
            archive.add(path, VERSION)
    (GOLDEN / f"{VERSION}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
