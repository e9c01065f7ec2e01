"""A volume that nobody wrote to looks the same to whoever compares it with what was there before: backup programs read nothing of it.

They compare inode, size, mtime and ctime; all of that, and the block count, is the same under every bookmark between two writes, for
every process that shows it, and after a restart, a removal of what is derived, and a prune.
"""

from __future__ import annotations

import os
import random
import tarfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mount.conftest import MIB, Shown
from tests.support.devices import sh
from tests.support.volumes import discard, put
from tests.support.waiting import eventually
from vsnapfs.core.times import parse_iso
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

SEED = int(os.environ.get("VSNAPFS_UNCHANGED_SEED", "7"))
BOOKMARKS = int(os.environ.get("VSNAPFS_UNCHANGED_BOOKMARKS", "24"))
SETTINGS = """
[journal]
segment_size = "256K"
[retention]
protection_window = "1ms"
keep_last = 6
prune = "off"
"""


class Look(NamedTuple):
    """What ``stat`` says of a file, but for the device."""

    ino: int
    size_bytes: int
    blocks: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int


def look(path: Path) -> Look:
    st = os.stat(path)
    return Look(st.st_ino, st.st_size, st.st_blocks, st.st_mtime_ns, st.st_ctime_ns, st.st_mode, st.st_nlink)


def looks(snaps: Path) -> dict[str, Look]:
    """Of every file and directory below ``snaps``, and what its directory says of its number."""
    found = {}
    for name in sorted(os.listdir(snaps)):
        if name == "latest":
            continue
        found[name] = look(snaps / name)
        for entry in os.scandir(snaps / name):
            found[f"{name}/{entry.name}"] = look(Path(entry.path))
            assert entry.inode() == found[f"{name}/{entry.name}"].ino
    return found


def change(repository: Repository, name: str, rng: random.Random, image: Path) -> None:
    """One record of a volume, or some: a write, zeros, all of it zeros, another size, an import."""
    size = repository.volume(name).size_bytes
    match rng.randrange(7):
        case 0 | 1 | 2:
            put(repository, name, rng.randrange(size // 512 - 8) * 512, rng.randbytes(512 * rng.randrange(1, 9)))
        case 3:
            discard(repository, name, rng.randrange(size // 8192) * 4096, 4096)
        case 4:
            discard(repository, name, 0, size)
        case 5:
            sizes = {rng.randrange(1, 9) * 65536 + 512 * rng.randrange(2) for _ in range(4)} - {size}
            repository.volume_resize(name, min(sizes, default=size + 512))
        case 6:
            image.write_bytes(rng.randbytes(size))
            repository.import_images({name: image}, bookmark=f"import-{rng.randrange(1 << 40)}")


def grow(repository: Repository, shown: Shown, rng: random.Random, image: Path) -> None:
    """Bookmarks, and before each what changes some of the volumes: those, and no other, have another inode and a later mtime then."""
    before: dict[str, Look] = {}
    for number in range(BOOKMARKS):
        changed = [name for name in ("thin", "image") if number == 0 or rng.random() < 0.5]
        for name in changed:
            for _ in range(rng.randrange(1, 4)):
                change(repository, name, rng, image)
        if rng.random() < 0.3:
            repository.journal.seal()
        repository.bookmark_add(f"b{number}")
        now = {volume.name: look(shown / f"snaps/b{number}" / volume.name) for volume in repository.volumes()}
        for name, seen in before.items():
            if name in changed:
                assert now[name].ino != seen.ino
                assert now[name].mtime_ns > seen.mtime_ns
            else:
                assert now[name] == seen
        before = now


def test_under_all_bookmarks_for_all_who_show_it(tmp_path: Path) -> None:
    print(f"VSNAPFS_UNCHANGED_SEED={SEED}")
    rng = random.Random(SEED)
    path, image = tmp_path / "repository", tmp_path / "image"
    image.write_bytes(rng.randbytes(MIB // 2))
    Repository.create(path)
    (path / "vsnapfs.toml").write_text(SETTINGS)
    with ExitStack() as stack:
        repository = stack.enter_context(Repository.open(path, owner=True))
        repository.volume_add("thin", size_bytes=MIB)
        repository.volume_add("image", primary=image)
        repository.volume_add("still", size_bytes=MIB)
        (tmp_path / "mnt").mkdir()
        with Shown(repository, tmp_path / "mnt", live=True) as shown:
            grow(repository, shown, rng, tmp_path / "other")
            expected = looks(shown / "snaps")
        check_everywhere(tmp_path, repository, expected)
        repository.prune()
        left = {bookmark.name for bookmark in repository.bookmarks()}
        assert 0 < len(left) < BOOKMARKS
        pruned = {path: seen for path, seen in expected.items() if path.partition("/")[0] in left}
        check_everywhere(tmp_path, repository, pruned)
        stack.pop_all().close()
        for derived in [path / "catalog.db", *(path / "maps").iterdir()]:
            derived.unlink()
        with Repository.open(path, owner=True) as again:
            check_everywhere(tmp_path, again, pruned)


def check_everywhere(ground: Path, repository: Repository, expected: dict[str, Look]) -> None:
    """For its server, and for a mount without one."""
    for owner in (True, False):
        with ExitStack() as stack:
            source = repository if owner else stack.enter_context(Repository.open(repository.path, owner=False))
            shown = stack.enter_context(Shown(source, ground / "mnt", live=owner))
            assert looks(shown / "snaps") == expected


@pytest.fixture
def two(served: Shown) -> Shown:
    """Bookmarks ``a`` and ``b``, between which ``db`` was written to, and ``logs`` was not."""
    for name in ("db", "logs"):
        put(served.repository, name, 0, name.encode() * 9000)
    served.repository.bookmark_add("a")
    put(served.repository, "db", 4096, b"changed")
    served.repository.bookmark_add("b")
    return served


@pytest.mark.parametrize("copy", [["cp", "-a"], ["rsync", "-aH"]], ids=["cp", "rsync"])
def test_a_copy_of_two_bookmarks_has_it_once(two: Shown, tmp_path: Path, copy: list[str]) -> None:
    sh(*copy, two / "snaps/a", two / "snaps/b", tmp_path)
    assert (tmp_path / "a/logs").samefile(tmp_path / "b/logs")
    assert not (tmp_path / "a/db").samefile(tmp_path / "b/db")
    assert_same(two, tmp_path)


def test_an_archive_of_two_bookmarks_has_it_once(two: Shown, tmp_path: Path) -> None:
    archive = tmp_path / "two.tar"
    sh("tar", "-cSf", archive, "-C", two.path, "snaps")
    with tarfile.open(archive) as listed:
        assert [member.name for member in listed if member.islnk()] == ["snaps/b/logs"]
    sh("tar", "-xSf", archive, "-C", tmp_path)
    assert_same(two, tmp_path / "snaps")


def test_du_counts_it_once(two: Shown) -> None:
    seen = looks(two / "snaps")
    assert seen["a/logs"] == seen["b/logs"]
    once = {each.ino: each.blocks for each in seen.values()}
    assert sh("du", "--summarize", "--block-size=512", two / "snaps").split()[0] == str(sum(once.values()))


def assert_same(shown: Shown, copy: Path) -> None:
    for bookmark in ("a", "b"):
        for name in os.listdir(shown / "snaps" / bookmark):
            assert (copy / bookmark / name).read_bytes() == (shown / "snaps" / bookmark / name).read_bytes()


def test_a_verdict_makes_the_manifest_new_and_nothing_else(two: Shown) -> None:
    """It is in there; who goes by times and sizes has to see that."""
    before, manifest = looks(two / "snaps"), two / "snaps/a/MANIFEST.json"
    seqno = two.repository.bookmark("a").seqno
    for reason in ("bad", "sad"):
        two.repository.verdict_give(seqno, good=False, reason=reason)
        given_ns = parse_iso(two.repository.bookmark("a").verdicts[-1].time)
        eventually(partial(is_of, manifest, given_ns), "it is seen")
        assert {path for path, seen in looks(two / "snaps").items() if seen != before[path]} == {"a/MANIFEST.json"}


def is_of(path: Path, time_ns: int) -> bool:
    return look(path).mtime_ns == time_ns
