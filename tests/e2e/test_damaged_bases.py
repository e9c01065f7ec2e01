"""A base image, its index, or a sealed segment is damaged, short, stale or gone: exit status 6, the place, and what it costs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.support.processes import must, run
from vsnapfs.repository.repository import Repository

INTEGRITY = 6
BLOCK = 4096
IMAGE = random.Random(1).randbytes(8 * BLOCK) + bytes(4 * BLOCK)

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root]


@pytest.fixture
def based(tmp_path: Path) -> Path:
    """A repository with the volume ``db``, which begins with an image, its bookmark ``start``, and a thin volume."""
    path, image = tmp_path / "based", tmp_path / "db.img"
    image.write_bytes(IMAGE)
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", primary=image)
        repository.volume_add("thin", size_bytes=1 << 20)
        repository.bookmark_add("start")
    return path


def base_files(repository: Path) -> tuple[Path, Path]:
    """Image and index."""
    return repository / "base/00000001.img", repository / "base/00000001.idx"


def flip(path: Path, at: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


def assert_found(repository: Path, file: str, *, costs: bool) -> None:
    """Check ends with 6 and names the file; the volume cannot be exported, or can; the other one can."""
    found = run(repository, "check", "--read-data", "--json")
    assert found.returncode == INTEGRITY, found
    damages = json.loads(found.stdout)["damages"]
    assert file in {damage["file"] for damage in damages}
    assert ("start/db" in {cost for damage in damages for cost in damage["costs"]}) == costs
    target = repository.with_name("exported")
    exported = run(repository, "export", "start", "db", "--to", target, "--force")
    assert exported.returncode == (INTEGRITY if costs else 0), exported
    if costs:
        assert len(exported.stderr.splitlines()) == 1
    else:
        assert target.read_bytes() == IMAGE
    must(repository, "export", "start", "thin", "--to", target, "--force")


def test_a_block_of_the_image(based: Path) -> None:
    image, _ = base_files(based)
    flip(image, 3 * BLOCK + 5)
    assert_found(based, "base/00000001.img", costs=True)


@pytest.mark.parametrize("at", [8, 2000, BLOCK + 4 * 3], ids=["version", "reserved", "a checksum"])
def test_a_byte_of_the_index(based: Path, at: int) -> None:
    _, index = base_files(based)
    flip(index, at)
    assert_found(based, "base/00000001.idx" if at < BLOCK else "base/00000001.img", costs=True)


def test_a_checksum_of_a_hole_costs_nothing(based: Path) -> None:
    _, index = base_files(based)
    flip(index, BLOCK + 4 * 9)
    assert_found(based, "base/00000001.idx", costs=False)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "index"])
def test_one_of_both_files_is_gone(based: Path, which: int) -> None:
    """The volume does not read as zeros."""
    gone = base_files(based)[which]
    gone.unlink()
    assert_found(based, f"base/{gone.name}", costs=True)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "index"])
def test_one_of_both_files_is_cut(based: Path, which: int) -> None:
    cut = base_files(based)[which]
    cut.write_bytes(cut.read_bytes()[: 5 * BLOCK + 1 if which == 0 else BLOCK + 7])
    assert_found(based, f"base/{cut.name}", costs=True)
