"""A point onto tapes, beside tar and dd of the same bytes in a plain file.

tar and dd only copy. An archive compares the checksum of every block that it reads, takes a digest of each volume and one of each
piece, and a checksum of every 64 KiB of what it writes.
"""

from __future__ import annotations

import os
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
RATE_ASKED = 400e6
"""An LTO-9 drive's, bytes a second."""


def measure(plan: Plan) -> None:
    """Print rates of archives to a pool in memory and on disk."""
    images = _images(plan)
    total_bytes = VOLUMES * plan.volume_bytes
    repository = plan.memory / "repository"
    vsnapfs(repository, "init")
    _with_media(repository, plan)
    vsnapfs(repository, "import", *(f"{image.stem}={image}" for image in images), "--bookmark", "written")
    claims = Claims(f"An archive of {total_bytes >> 20} MiB, read from memory, a second")
    for place, directory in (("memory", plan.memory), ("disk", plan.disk)):
        candidates = {
            "archive": lambda place=place: _archive(repository, place, plan),
            "archive --compress": lambda place=place: _archive(repository, place, plan, "--compress"),
            "tar": lambda directory=directory: _tar(images, directory / "images.tar"),
            "dd": lambda directory=directory: _dd(images, directory / "copies"),
        }
        taken = take_turns({name: rate_of(run, total_bytes) for name, run in candidates.items()}, plan.runs)
        for name in ("archive", "archive --compress"):
            for other in ("tar", "dd"):
                claims.rate(f"{name}, to {place}", taken, name, other, unit="B/s", asked=None)
        rate = taken["archive"].median
        asked = f">= {RATE_ASKED / 1e6:.0f} MB/s, if tar is" if taken["tar"].median >= RATE_ASKED else ""
        claims.figure(f"archive, to {place}", f"{rate / 1e6:.0f} MB/s", asked)
    claims.show("tar and dd end in a sync of what they wrote, as an archive does after each piece")


def _images(plan: Plan) -> list[Path]:
    """Bytes that do not compress, in plain files."""
    dice = random.Random(23)
    found = [plan.memory / f"image{number}.img" for number in range(VOLUMES)]
    for path in found:
        with path.open("wb") as file:
            for _ in range(0, plan.volume_bytes, PATTERN_BYTES):
                file.write(dice.randbytes(PATTERN_BYTES))
    return found


def _with_media(repository: Path, plan: Plan) -> None:
    with (repository / "vsnapfs.toml").open("a") as settings:
        for place, directory in (("memory", plan.memory), ("disk", plan.disk)):
            settings.write(f'\n[media.{place}]\nkind = "pool"\npath = "{directory / "pool"}"\ncapacity = "1T"\n')


def _archive(repository: Path, place: str, plan: Plan, *options: str) -> None:
    pool = (plan.memory if place == "memory" else plan.disk) / "pool"
    shutil.rmtree(pool, ignore_errors=True)
    pool.mkdir()
    (repository / "tapes.db").unlink(missing_ok=True)
    vsnapfs(repository, "archive", "written", "--to", place, *options)


def _tar(images: list[Path], archive: Path) -> None:
    archive.unlink(missing_ok=True)
    subprocess.run(["tar", "-cf", archive, "-C", images[0].parent, *(image.name for image in images)], check=True)
    _sync(archive)


def _dd(images: list[Path], directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for image in images:
        words = [f"if={image}", f"of={directory / image.name}", "bs=1M", "conv=fsync", "status=none"]
        subprocess.run(["dd", *words], check=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
