"""A sparse image carried away by tar: what has to be read of it."""

from __future__ import annotations

import random
import subprocess

from benchmarks import table
from benchmarks.claims import Claims
from benchmarks.places import Plan
from benchmarks.servers import vsnapfs, vsnapfs_at, vsnapfs_json
from benchmarks.trace import Write, apply

VOLUME, BOOKMARK = "volume", "written"
IMAGE_BYTES = 10 << 30
PIECE_BYTES = 64 << 10
PIECES = 160
SERVED_BYTES_MAX = 20 << 20


def measure(plan: Plan) -> None:
    """Print how much of an image of holes is served to tar, by the server's own count."""
    repository, mountpoint = plan.memory / "repository", plan.memory / "mount"
    vsnapfs(repository, "init")
    vsnapfs(repository, "volume", "add", VOLUME, "--size", str(IMAGE_BYTES))
    dice = random.Random(17)
    with vsnapfs_at(repository, mountpoint, "serve"):
        places = dice.sample(range(IMAGE_BYTES // PIECE_BYTES), PIECES)
        apply(
            mountpoint / "live" / VOLUME, [Write(place * PIECE_BYTES, dice.randbytes(PIECE_BYTES)) for place in places]
        )
        vsnapfs(repository, "bookmark", "add", BOOKMARK)

        def served_bytes() -> int:
            return int(vsnapfs_json(repository, "status")["requests"].get("READ", {}).get("bytes", 0))

        before = served_bytes()
        archive = plan.memory / "image.tar"
        subprocess.run(["tar", "-S", "-cf", archive, "-C", mountpoint / "snaps" / BOOKMARK, VOLUME], check=True)
        served = served_bytes() - before
    holds = table.mebibytes(PIECES * PIECE_BYTES)
    claims = Claims(f"tar -S of a {IMAGE_BYTES >> 30} GiB image that holds {holds}")
    claims.figure("bytes served", table.mebibytes(served), f"< {table.mebibytes(SERVED_BYTES_MAX)}")
    claims.figure("size of the archive", table.mebibytes(archive.stat().st_size))
    claims.show("served: answers to READ, as the server counts them")
