"""A sparse image carried away by tar: what has to be read of it.

tar asks for the data alone, but the kernel reads ahead of it, into the holes. So it counts in how many pieces they lie.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from benchmarks import table
from benchmarks.claims import Claims
from benchmarks.places import Plan
from benchmarks.servers import vsnapfs, vsnapfs_at, vsnapfs_json
from benchmarks.trace import Write, apply

IMAGE_BYTES = 10 << 30
HELD_BYTES = 10 << 20
PIECES = (1, 10, 160)
WRITE_BYTES = 64 << 10
SERVED_BYTES_MAX = 20 << 20


def measure(plan: Plan) -> None:
    """Print how much of an image of holes is served to tar, by the server's own count."""
    repository, mountpoint = plan.memory / "repository", plan.memory / "mount"
    vsnapfs(repository, "init")
    for pieces in PIECES:
        vsnapfs(repository, "volume", "add", _volume(pieces), "--size", str(IMAGE_BYTES))
    claims = Claims(f"tar -S of a {IMAGE_BYTES >> 30} GiB image that holds {table.mebibytes(HELD_BYTES)}")
    with vsnapfs_at(repository, mountpoint, "serve"):
        for pieces in PIECES:
            apply(mountpoint / "live" / _volume(pieces), _writes(pieces))
        vsnapfs(repository, "bookmark", "add", "written")
        for pieces in PIECES:
            before = _served_bytes(repository)
            _archive(mountpoint / "snaps" / "written" / _volume(pieces), plan.memory / "image.tar")
            served_bytes = _served_bytes(repository) - before
            shown, asked = table.mebibytes(served_bytes), f"< {table.mebibytes(SERVED_BYTES_MAX)}"
            claims.figure(f"in {pieces} piece{'s' if pieces > 1 else ''}: served", shown, asked)
    claims.show("served: answers to READ, as the server counts them")


def _volume(pieces: int) -> str:
    return f"pieces-{pieces}"


def _writes(pieces: int) -> list[Write]:
    """The data, in pieces of one size at random places."""
    dice = random.Random(17)
    piece_bytes = HELD_BYTES // pieces
    starts = dice.sample(range(0, IMAGE_BYTES - piece_bytes, 2 * HELD_BYTES), pieces)
    return [
        Write(start + at, dice.randbytes(WRITE_BYTES)) for start in starts for at in range(0, piece_bytes, WRITE_BYTES)
    ]


def _served_bytes(repository: Path) -> int:
    return int(vsnapfs_json(repository, "status")["requests"].get("read", {}).get("bytes", 0))


def _archive(file: Path, archive: Path) -> None:
    """Raises: RuntimeError: the archive holds less than the data."""
    subprocess.run(["tar", "-S", "-cf", archive, "-C", file.parent, file.name], check=True)
    if archive.stat().st_size < HELD_BYTES:
        raise RuntimeError(f"tar made {archive.stat().st_size} bytes of {file}, which holds {HELD_BYTES}")
