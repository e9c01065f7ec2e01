"""A prune of a repository that lacks a base: what is over it would be taken for what is over zeros."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.pruned import SIZE_BYTES, grow, opened, sums
from tests.support.volumes import discard, put
from vsnapfs.core.errors import IntegrityError
from vsnapfs.repository.repository import Repository


def test_nothing_is_dropped(path: Path, memory_path: Path) -> None:
    """Of two volumes: one that the oldest point has, so that its base would be moved; and one that came later, of which the journal alone
    would be rewritten, without the zeros that were put over what its base has."""
    rng = random.Random(24)
    images = {name: memory_path / f"{name}.img" for name in ("db0", "later")}
    for image in images.values():
        image.write_bytes(rng.randbytes(SIZE_BYTES))
    with opened(path, 'protection_window = "1ms"\nkeep_last = 2') as repository:
        repository.volume_add("db0", primary=images["db0"])
        grow(repository, rng, ["oldest"], 10)
        repository.bookmark_hold("oldest")
        repository.volume_add("later", primary=images["later"])
        discard(repository, "later", 0, 8192)
        put(repository, "later", 20480, b"y" * 4096)
        grow(repository, rng, [f"b{number}" for number in range(20)], 40)
        before = sums(repository)
        ids = {name: repository.volume(name).id for name in images}
    for id_ in ids.values():
        files = [path / f"base/{id_:08x}{suffix}" for suffix in (".img", ".idx")]
        for file in files:
            file.rename(memory_path / file.name)
        with Repository.open(path, owner=True) as repository:
            for prune in (repository.prune_preview, repository.prune):
                with pytest.raises(IntegrityError, match=rf"base/{id_:08x}\.img is missing"):
                    prune()
        for file in files:
            (memory_path / file.name).rename(file)
    with Repository.open(path, owner=True) as repository:
        assert sums(repository) == before
        kept = {fate.bookmark for fate in repository.prune().bookmarks if fate.stays}
        assert len(kept) == 3
        assert sums(repository) == {place: digest for place, digest in before.items() if place[0] in kept}
