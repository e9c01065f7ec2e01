"""A point back from a pool of tapes, beside tar of the same pieces.

tar only copies. A recall compares the checksum of every 64 KiB, and reads all back from the disk and takes a digest of it; the same is
asked of tar with sha256sum of what it has extracted.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

from benchmarks.claims import Claims
from benchmarks.places import Plan
from benchmarks.samples import rate_of, take_turns
from benchmarks.servers import vsnapfs

VOLUMES = 4
"""Of ``volume_bytes`` each."""
PATTERN_BYTES = 1 << 20
POINT = "written"


def measure(plan: Plan) -> None:
    """Print rates of recalls to images, in memory and on disk, and into a repository."""
    total_bytes = VOLUMES * plan.volume_bytes
    repository, pool = plan.memory / "repository", plan.memory / "pool"
    _archived(repository, pool, plan.volume_bytes)
    claims = Claims(f"A recall of {total_bytes >> 20} MiB from a pool in memory, a second")
    for place, directory in (("memory", plan.memory), ("disk", plan.disk)):
        to = directory / "back"
        candidates = {
            "recall": lambda to=to: _recall(repository, pool, to),
            "recall --no-verify": lambda to=to: _recall(repository, pool, to, "--no-verify"),
            "tar": lambda to=to: _tar(pool, to),
            "tar, sha256sum": lambda to=to: _tar(pool, to, verify=True),
        }
        taken = take_turns({name: rate_of(run, total_bytes) for name, run in candidates.items()}, plan.runs)
        claims.rate(f"recall, to {place}", taken, "recall", "tar, sha256sum", unit="B/s", asked=None)
        claims.rate(f"recall --no-verify, to {place}", taken, "recall --no-verify", "tar", unit="B/s", asked=None)
    into = plan.disk / "into"
    seconds = take_turns({"into": rate_of(lambda: _into(repository, pool, into), total_bytes)}, 1)["into"]
    claims.figure("recall --into a repository on disk", f"{seconds.median / 1e6:.0f} MB/s")
    claims.show("each ends in a sync of what it wrote")


def _archived(repository: Path, pool: Path, volume_bytes: int) -> None:
    """Bytes that do not compress."""
    vsnapfs(repository, "init")
    pool.mkdir()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(f'\n[media.pool]\nkind = "pool"\npath = "{pool}"\ncapacity = "1T"\n')
    dice = random.Random(29)
    images = [repository.parent / f"image{number}.img" for number in range(VOLUMES)]
    for path in images:
        with path.open("wb") as file:
            for _ in range(0, volume_bytes, PATTERN_BYTES):
                file.write(dice.randbytes(PATTERN_BYTES))
    vsnapfs(repository, "import", *(f"{image.stem}={image}" for image in images), "--bookmark", POINT)
    for path in images:
        path.unlink()
    vsnapfs(repository, "archive", POINT, "--to", "pool")


def _recall(repository: Path, pool: Path, to: Path, *options: str) -> None:
    shutil.rmtree(to, ignore_errors=True)
    vsnapfs(repository, "recall", POINT, "--from", pool, "--to", to, *options)


def _into(repository: Path, pool: Path, into: Path) -> None:
    vsnapfs(into, "init")
    vsnapfs(repository, "recall", POINT, "--from", pool, "--into", into, "--bookmark", "back")


def _tar(pool: Path, to: Path, *, verify: bool = False) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    pieces = [word for piece in sorted(pool.glob("*/*.tar")) for word in ("-f", piece)]
    subprocess.run(["tar", "-C", to, "-x", "-M", *pieces], check=True)
    subprocess.run(["sync", "-f", to], check=True)
    if verify:
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=to / POINT, check=True)
