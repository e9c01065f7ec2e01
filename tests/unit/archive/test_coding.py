"""Compression and encryption: there and back, by our reader and by the programs that others have; and what cannot be read."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsnapfs.archive import coding
from vsnapfs.archive.coding import Blocks, Coding, decoded, encoded, require
from vsnapfs.archive.feed import Block, kept
from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError

pytestmark = pytest.mark.unit

CONTENT = random.Random(4).randbytes(1 << 20) + bytes(3 << 20) + random.Random(5).randbytes(1 << 19)


class Key:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "key"
        subprocess.run(["age-keygen", "-o", str(self.path)], check=True, capture_output=True)
        done = subprocess.run(["age-keygen", "-y", str(self.path)], check=True, capture_output=True, text=True)
        self.recipient = done.stdout.strip()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("key"))


@pytest.fixture(params=["plain", "zstd", "age", "both"])
def chosen(request: pytest.FixtureRequest, key: Key) -> Coding:
    return Coding(
        "zstd" if request.param in ("zstd", "both") else None,
        (key.recipient,) if request.param in ("age", "both") else (),
    )


def blocks(content: bytes, freed: list[int]) -> Blocks:
    for at in range(0, len(content), 300_000):
        yield Block(memoryview(content)[at : at + 300_000], lambda at=at: freed.append(at))  # type: ignore[misc]


def stored(content: bytes, chosen: Coding) -> bytes:
    freed: list[int] = []
    found = bytearray()
    for block in encoded(blocks(content, freed), chosen):
        found += block.memory
        block.free()
    assert sorted(freed) == list(range(0, len(content), 300_000))
    return bytes(found)


def read(content: bytes, chosen: Coding, *keys: Key) -> bytes:
    chunks = (content[at : at + 70_000] for at in range(0, len(content), 70_000))
    return b"".join(map(bytes, decoded(chunks, chosen.compression, chosen.encryption, [each.path for each in keys])))


@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["nothing", "one byte", "much"])
def test_there_and_back(chosen: Coding, key: Key, content: bytes) -> None:
    assert read(stored(content, chosen), chosen, key) == content


def test_programs_of_others_read_it(chosen: Coding, key: Key, tmp_path: Path) -> None:
    path = tmp_path / f"piece.{chosen.extension}"
    path.write_bytes(stored(CONTENT, chosen))
    words = {
        "tar": "cat",
        "tar.zst": "zstd -dc",
        "tar.age": f"age -d -i {key.path}",
        "tar.zst.age": f"age -d -i {key.path} | zstd -dc",
    }
    done = subprocess.run(f"cat {path} | {words[chosen.extension]}", shell=True, check=True, capture_output=True)
    assert done.stdout == CONTENT


def test_what_is_damaged_is_an_error(chosen: Coding, key: Key) -> None:
    if chosen == Coding():
        return
    content = bytearray(stored(CONTENT, chosen))
    content[len(content) // 2] ^= 1
    with pytest.raises(IntegrityError, match="a piece cannot be dec"):
        read(bytes(content), chosen, key)


def test_another_key_is_told(key: Key, tmp_path: Path) -> None:
    chosen = Coding(None, (key.recipient,))
    content = stored(CONTENT, chosen)
    with pytest.raises(UsageError, match="no identity matched"):
        read(content, chosen, Key(tmp_path))
    with pytest.raises(UsageError, match="the piece is encrypted; give the file of a private key"):
        read(content, chosen)


def test_a_recipient_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="age refuses to encrypt: malformed recipient"):
        require(Coding(None, ("age1nobody",)))


def test_age_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, key: Key) -> None:
    monkeypatch.setattr(coding, "AGE", "age-that-is-not-there")
    with pytest.raises(NotFoundError, match="the program age-that-is-not-there is not installed"):
        require(Coding(None, (key.recipient,)))


def test_what_fails_while_it_is_read_is_raised(chosen: Coding) -> None:
    def failing() -> Iterator[Block]:
        yield kept(CONTENT)
        raise IntegrityError("the volume is damaged")

    def blocks_of() -> Blocks:
        yield from failing()

    with pytest.raises(IntegrityError, match="the volume is damaged"):
        for _ in encoded(blocks_of(), chosen):
            pass


def test_what_is_given_up_leaves_nothing(chosen: Coding) -> None:
    def endless() -> Blocks:
        while True:
            yield kept(CONTENT)

    found = encoded(endless(), chosen)
    next(found)
    found.close()
