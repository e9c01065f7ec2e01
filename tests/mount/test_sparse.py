"""Sparse images through the tools that people carry them away with: what comes back is what was there, and holes stay cheap."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.devices import sh
from tests.support.files import data_ranges, opened, pread_all, pwrite_all
from tests.support.processes import Mounted, make_repository, must

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ZEROS = bytes(MIB)


@dataclass
class Sparse:
    """An image as its pieces of data, which do not touch: offset to bytes."""

    size_bytes: int
    pieces: dict[int, bytes] = field(default_factory=dict)

    @property
    def data_bytes(self) -> int:
        return sum(map(len, self.pieces.values()))

    def sha256(self) -> str:
        """Of the whole image, zeros included."""
        digest, at = hashlib.sha256(), 0
        for offset, content in [*sorted(self.pieces.items()), (self.size_bytes, b"")]:
            while at < offset:
                digest.update(ZEROS[: min(MIB, offset - at)])
                at += min(MIB, offset - at)
            digest.update(content)
            at += len(content)
        return digest.hexdigest()


def scattered(size_bytes: int, count: int, piece_bytes: int) -> Sparse:
    """Pieces of data spread over an image, each at any byte of its own part of it."""
    rng = random.Random(17)
    part = size_bytes // count
    image = Sparse(size_bytes)
    for number in range(count):
        offset = number * part + rng.randrange(part - piece_bytes - 8 * KIB)
        image.pieces[offset] = bytes(1 + byte % 255 for byte in rng.randbytes(piece_bytes))
    return image


IMAGES = {
    "empty": Sparse(64 * MIB),
    "full": Sparse(16 * MIB, {0: random.Random(1).randbytes(16 * MIB)}),
    "last": Sparse(64 * MIB, {64 * MIB - 4 * KIB: b"\x07" * 4 * KIB}),
    "pieces": scattered(32 * MIB, 64, 50_000),
    "large": scattered(10 * GIB, 160, 64 * KIB),
}
SMALL = ("empty", "full", "last", "pieces")


@pytest.fixture(scope="module")
def snaps(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Path]:
    """The mounted snaps/, with one bookmark, ``b``, of all the images."""
    path = tmp_path_factory.mktemp("sparse")
    repository = make_repository(path / "repository", **{name: image.size_bytes for name, image in IMAGES.items()})
    (repository / "vsnapfs.toml").write_text(f'[mount]\ntransport = "{transport}"\n')
    with Mounted(repository, path / "mount") as server:
        for name, image in IMAGES.items():
            with opened(server.mountpoint / "live" / name, os.O_RDWR) as fd:
                for offset, content in image.pieces.items():
                    for at in range(0, len(content), MIB):
                        pwrite_all(fd, content[at : at + MIB], offset + at)
        must(repository, "bookmark", "add", "b")
        yield server.mountpoint / "snaps"
    shutil.rmtree(path)


def assert_restored(path: Path, image: Sparse, *, sparse: bool = True) -> None:
    """A restored file is the image: by its SHA-256, or, where that would take long, its data in place and holes everywhere else."""
    assert path.stat().st_size == image.size_bytes
    if image.size_bytes <= 64 * MIB:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == image.sha256()
    else:
        assert_same_data(path, image)
    if sparse:
        blocks = sum(len(content) // 4096 + 2 for content in image.pieces.values())
        assert path.stat().st_blocks * 512 <= blocks * 4096


def assert_same_data(path: Path, image: Sparse) -> None:
    """Every byte of the file's data ranges is the image's, and no data of the image is outside them."""
    seen = 0
    with opened(path) as fd:
        for start, length in data_ranges(fd):
            expected = bytearray(length)
            for offset, content in image.pieces.items():
                if start <= offset and offset + len(content) <= start + length:
                    expected[offset - start : offset - start + len(content)] = content
                    seen += len(content)
            assert pread_all(fd, length, start) == expected
    assert seen == image.data_bytes


def tar(source: Path, target: Path, *options: str) -> int:
    """Through an archive, as a backup does it. Returns the archive's size in bytes."""
    archive = target / "archive.tar"
    sh("tar", *options, "-C", source.parent, "-cf", archive, source.name)
    sh("tar", *options, "-C", target, "-xf", archive)
    size_bytes = archive.stat().st_size
    archive.unlink()
    return size_bytes


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_shown(snaps: Path, name: str) -> None:
    """`du` within 1 % of what the image holds; lseek and reads tell the same of it."""
    image, path = IMAGES[name], snaps / "b" / name
    shown = int(sh("du", "--block-size=1", path).split()[0])
    assert abs(shown - image.data_bytes) <= max(512, image.data_bytes // 100)
    assert int(sh("du", "--apparent-size", "--block-size=1", path).split()[0]) == image.size_bytes
    assert_same_data(path, image)


@pytest.mark.parametrize("name", IMAGES)
def test_tar_sparse(snaps: Path, tmp_path: Path, name: str) -> None:
    archive_bytes = tar(snaps / "b" / name, tmp_path, "--sparse")
    assert_restored(tmp_path / name, IMAGES[name])
    assert archive_bytes <= IMAGES[name].data_bytes * 1.05 + 20 * KIB


@pytest.mark.parametrize("name", SMALL)
def test_tar(snaps: Path, tmp_path: Path, name: str) -> None:
    tar(snaps / "b" / name, tmp_path)
    assert_restored(tmp_path / name, IMAGES[name], sparse=False)


@pytest.mark.parametrize("name", IMAGES)
def test_cp(snaps: Path, tmp_path: Path, name: str) -> None:
    sh("cp", "--sparse=always", snaps / "b" / name, tmp_path / name)
    assert_restored(tmp_path / name, IMAGES[name])


def dd(source: Path, target: Path) -> None:
    sh("dd", f"if={source}", f"of={target}", "bs=64K", "conv=sparse", "status=none")
    os.truncate(target, source.stat().st_size)


def rsync(source: Path, target: Path) -> None:
    sh("rsync", "--sparse", source, target)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("copy", [dd, rsync])
def test_tools_that_read_everything(snaps: Path, tmp_path: Path, name: str, copy: Callable[[Path, Path], None]) -> None:
    copy(snaps / "b" / name, tmp_path / name)
    assert_restored(tmp_path / name, IMAGES[name], sparse=False)


def test_a_whole_bookmark_in_one_archive(snaps: Path, tmp_path: Path) -> None:
    """The directory as it stands, its manifest included, extracted somewhere else."""
    sh("tar", "--sparse", "-C", snaps, "-cf", tmp_path / "all.tar", "b")
    sh("tar", "--sparse", "-C", tmp_path, "-xf", tmp_path / "all.tar")
    for name, image in IMAGES.items():
        assert_restored(tmp_path / "b" / name, image)
    assert (tmp_path / "b/MANIFEST.json").read_bytes() == (snaps / "b/MANIFEST.json").read_bytes()
