"""A volume that nobody wrote to looks the same to whoever compares it with what was there before: backup programs read nothing of it.

They compare inode, size, mtime and ctime; all of that, and the block count, is the same under every bookmark between two writes, for
every process that shows it, and after a restart, a removal of what is derived, and a prune.
"""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mount.conftest import MIB, Shown
from tests.support.volumes import discard, put
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


def live(repository: Repository) -> list[str]:
    return [volume.name for volume in repository.volumes()]


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
            repository.volume_resize(name, rng.randrange(1, 9) * 65536 + 512 * rng.randrange(2))
        case 6:
            image.write_bytes(rng.randbytes(size))
            repository.import_images({name: image}, bookmark=f"import-{rng.randrange(1 << 40)}")


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
        before: dict[str, Look] = {}
        with Shown(repository, tmp_path / "mnt", live=True) as shown:
            for number in range(BOOKMARKS):
                changed = [name for name in ("thin", "image") if rng.random() < 0.5]
                for name in changed:
                    for _ in range(rng.randrange(1, 4)):
                        change(repository, name, rng, tmp_path / "other")
                if rng.random() < 0.3:
                    repository.journal.seal()
                repository.bookmark_add(f"b{number}")
                now = {name: look(shown / f"snaps/b{number}" / name) for name in live(repository)}
                for name in now:
                    assert (now[name] != before.get(name)) == (name in changed or not number), (name, number)
                    if name in changed and number:
                        assert now[name].ino != before[name].ino
                        assert now[name].mtime_ns > before[name].mtime_ns
                before = now
            expected = looks(shown / "snaps")
        kept = check_everywhere(tmp_path, repository, expected)
        repository.prune()
        assert len(repository.bookmarks()) < BOOKMARKS
        pruned = {key: value for key, value in kept.items() if key.split("/")[0] in {b.name for b in repository.bookmarks()}}
        check_everywhere(tmp_path, repository, pruned)
        stack.pop_all().close()
        for derived in [path / "catalog.db", *(path / "maps").iterdir()]:
            derived.unlink()
        with Repository.open(path, owner=True) as again:
            check_everywhere(tmp_path, again, pruned)


def check_everywhere(ground: Path, repository: Repository, expected: dict[str, Look]) -> dict[str, Look]:
    mountpoint = ground / "mnt"
    for owner in (True, False):
        with ExitStack() as stack:
            source = repository if owner else stack.enter_context(Repository.open(repository.path, owner=False))
            shown = stack.enter_context(Shown(source, mountpoint, live=owner))
            found = looks(shown / "snaps")
            assert found.keys() == expected.keys()
            for key, value in found.items():
                assert value == expected[key], key
    return expected
