"""Writing to and reading from volumes of an open repository, as a splitter and a reader do."""

from __future__ import annotations

from pathlib import Path

from vsnapfs.core.model import Bookmark
from vsnapfs.repository.repository import Repository

WRITE_BYTES = 1 << 20


def put(repository: Repository, name: str, offset_bytes: int, content: bytes) -> None:
    """Journal a write, in pieces that a record can hold."""
    volume = repository.volume(name).id
    for at in range(0, len(content), WRITE_BYTES):
        repository.journal.write(volume, offset_bytes + at, content[at : at + WRITE_BYTES])


def discard(repository: Repository, name: str, offset_bytes: int, length_bytes: int) -> None:
    repository.journal.zero(repository.volume(name).id, offset_bytes, length_bytes)


def mark(repository: Repository, name: str, offset_bytes: int, content: bytes, bookmark: str) -> Bookmark:
    """A write, and a bookmark on it."""
    put(repository, name, offset_bytes, content)
    return repository.bookmark_add(bookmark)


def content_at(repository: Repository, name: str, point: str) -> bytes:
    """All of a volume at a point."""
    with repository.view(name, repository.resolve(point)) as view:
        return view.read(0, view.size_bytes)


def files_of(path: Path) -> dict[str, bytes]:
    """Every file below a directory with its content, and every directory with nothing."""
    found = sorted(path.rglob("*"))
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else b"" for p in found}


def flip_bit(path: Path, needle: bytes) -> int:
    """Damage a file where some bytes stand, which do so once. Returns where."""
    content = bytearray(path.read_bytes())
    assert content.count(needle) == 1
    at = content.index(needle)
    content[at] ^= 1
    path.write_bytes(content)
    return at
