"""Make the seeds of the fuzzers of files: ``python -m tests.fuzz.make_seeds``.

They are pieces of the sample repository of the format (tests/format/golden), as inputs that image.h describes, and small inputs
of the other targets, put together here. Kept in ``seeds/``: run again only for another format or another input.
"""

from __future__ import annotations

import shutil
import struct
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.support.format_reader import BLOCK, crc32c

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
GOLDEN = HERE.parent / "format/golden/v1.tar.xz"
SHORT, FILE, SEAL = 0x2000, 0x4000, 0x8000


def encode(files: Iterable[bytes]) -> bytes:
    """An input that stands for these files: see image.h."""
    out = b""
    for number, content in enumerate(files):
        for at in range(0, len(content), BLOCK):
            block = content[at : at + BLOCK]
            head = FILE if at == 0 and number else 0
            if len(block) < BLOCK:
                kept, head = block, head | SHORT
            elif crc32c(block[:-4]) == int.from_bytes(block[-4:], "little"):
                kept, head = block[:-4].rstrip(b"\0"), head | SEAL
            else:
                kept = block.rstrip(b"\0")
            out += struct.pack("<H", head | len(kept)) + kept
    return out


def put(target: str, name: str, content: bytes) -> None:
    directory = SEEDS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


def data_end(segment: bytes) -> int:
    return int.from_bytes(segment[-BLOCK + 64 : -BLOCK + 72], "little")


def segment_seeds(segments: list[bytes]) -> None:
    first, second = segments[0], segments[1]
    unsealed = first[: data_end(first)]
    put("segment", "sealed", encode([first]))
    put("segment", "unsealed", encode([unsealed]))
    put("segment", "torn", encode([unsealed[:-BLOCK]]))
    put("segment", "zeros-ahead", encode([unsealed + bytes(2 * BLOCK)]))
    put("segment", "two-sealed", encode([first, second]))
    put("segment", "sealed-and-unsealed", encode([first, second[: data_end(second)]]))
    damaged = bytearray(unsealed)
    damaged[3 * BLOCK + 4] ^= 1
    put("segment", "payload-damaged", encode([bytes(damaged)]))
    damaged[2 * BLOCK + 60] ^= 1
    put("segment", "damaged-in-the-middle", encode([bytes(damaged)]))


def main() -> None:
    shutil.rmtree(SEEDS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(GOLDEN) as archive:
            archive.extractall(scratch, filter="data")
        repository = Path(scratch) / "v1"
        segment_seeds([path.read_bytes() for path in sorted((repository / "journal").glob("*.seg"))])


if __name__ == "__main__":
    main()
