"""Headers: read again as they were written, and nothing else than an error of ours from anything else."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress

import pytest

from vsnapfs.archive.extents import Extents
from vsnapfs.archive.tar import (
    Continuation,
    MemberHead,
    continuation_head,
    parse_sums,
    plain_head,
    read_head,
    sparse_head,
    sums_bytes,
    sums_line,
)
from vsnapfs.core.errors import IntegrityError

pytestmark = pytest.mark.unit

GIB = 1 << 30
TIME_S = 1_700_000_000


def reader(content: bytes) -> Callable[[int], bytes]:
    file = io.BytesIO(content)

    def read(length_bytes: int) -> bytes:
        found = file.read(length_bytes)
        if len(found) != length_bytes:
            raise IntegrityError("it ends")
        return found

    return read


@pytest.mark.parametrize("name", ["monday/db0", f"@77/{'v' * 127}", f"{'b' * 127}/{'v' * 127}.extents"])
@pytest.mark.parametrize("size_bytes", [0, 1, 512, 8 * GIB - 1, 8 * GIB, 5 << 40])
def test_a_plain_head_is_read_as_it_was_written(name: str, size_bytes: int) -> None:
    content = plain_head(name, size_bytes, TIME_S)
    assert len(content) % 512 == 0
    assert read_head(reader(content)) == MemberHead(name, size_bytes, size_bytes, None, len(content), TIME_S)


@pytest.mark.parametrize(
    ("real_bytes", "spans"),
    [
        (0, []),
        (512, [(0, 512)]),
        (1 << 40, []),
        (40 * GIB, [(0, 9 * GIB), (20 * GIB, 4096)]),
        (64 << 20, [(block * 8192, 4096) for block in range(5000)]),
    ],
)
def test_a_sparse_head_is_read_as_it_was_written(real_bytes: int, spans: list[tuple[int, int]]) -> None:
    extents = Extents(spans)
    content = sparse_head("monday/db0", real_bytes, extents, TIME_S)
    head = read_head(reader(content))
    assert head == MemberHead("monday/db0", extents.stored_bytes, real_bytes, extents, len(content), TIME_S)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:  # Python's, which also reads the map
        member = tar.next()
        assert member is not None
        assert member.name == "monday/db0"
        if extents.stored_bytes < 8 * GIB:  # of longer ones it takes the stored size for the real one
            assert member.size == real_bytes


def test_a_continuation_is_read_as_it_was_written() -> None:
    continued = Continuation("monday/" + "v" * 127, 9 * GIB, 4096)
    assert read_head(reader(continuation_head(continued, 12345, TIME_S))) == continued


def test_the_end_is_told() -> None:
    assert read_head(reader(bytes(1024))) is None


@pytest.mark.parametrize("seed", range(60))
def test_anything_else_is_an_error_of_ours(seed: int) -> None:
    dice = random.Random(seed)
    heads = [
        plain_head("monday/" + "v" * 120, 9 * GIB, TIME_S),
        sparse_head("monday/db0", 1 << 30, Extents([(block * 8192, 4096) for block in range(100)]), TIME_S),
        continuation_head(Continuation("monday/db0", 4096, 0), 3, TIME_S),
    ]
    content = bytearray(dice.choice(heads))
    for _ in range(dice.choice((1, 1, 3, 20))):
        content[dice.randrange(len(content))] = dice.randrange(256)
    if dice.random() < 0.3:
        del content[dice.randrange(len(content)) :]
    with suppress(IntegrityError):
        read_head(reader(bytes(content)))


def with_checksum(block: bytes, at: int, text: bytes) -> bytes:
    """A header with something else in it, and a checksum that fits."""
    changed = bytearray(block)
    changed[at : at + len(text)] = text
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)


@pytest.mark.parametrize(
    ("at", "text"),
    [(156, b"2"), (156, b"5"), (156, b"L"), (124, b"77777777777\0")],
    ids=["a link", "a directory", "a long name", "pax records of 8 GiB"],
)
def test_what_we_do_not_write_is_refused(at: int, text: bytes) -> None:
    content = sparse_head("monday/db0", 4096, Extents([(0, 4096)]), TIME_S)
    with pytest.raises(IntegrityError):
        read_head(reader(with_checksum(content[:512], at, text) + content[512:]))


def test_sums_are_read_as_they_were_written() -> None:
    wanted = {"MANIFEST.json": "0a" * 32, "db0": "ff" * 32}
    text = "".join(sums_line(digest, name) for name, digest in wanted.items()).encode()
    assert parse_sums(text) == wanted
    assert len(text) == sums_bytes(wanted)
    for wrong in (b"0a  x\n", b"zz" * 32 + b"  x\n", b"0a" * 32 + b" x\n", b"\xff\n"):
        with pytest.raises(IntegrityError, match="is no line of SHA256SUMS"):
            parse_sums(wrong)
