"""Random lives of a repository: volumes that come with and without a base, grow, shrink and go; bookmarks of now and of the past; prunes
by other settings each time; starts in between. Every bookmark that stands shows what it showed when it was made.

VSNAPFS_PRUNED_HISTORIES says how many; VSNAPFS_PRUNED_SEED is the first seed.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.format_repository import read_repository
from tests.support.volumes import content_at
from vsnapfs.core.errors import PointGoneError
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.stateful, pytest.mark.timeout(600)]

HISTORIES = int(os.environ.get("VSNAPFS_PRUNED_HISTORIES", "6"))
SEED = int(os.environ.get("VSNAPFS_PRUNED_SEED", "1"))
BLOCK = 4096
SIZES = [64 * BLOCK, 100 * BLOCK + 512, 17 * BLOCK, 256 * BLOCK]
STEPS = 40


class Life:
    """One repository, and what its bookmarks have to show."""

    def __init__(self, path: Path, images: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.path = path
        self.images = images
        self.made = 0
        self.shown: dict[str, dict[str, str]] = {}
        Repository.create(path)
        self.repository = self._opened()

    def _opened(self) -> Repository:
        rng = self.rng
        rules = rng.sample(["keep_last = 3", "keep_last = 1", 'keep_within = "200ms"', "keep_hourly = 2"], 1)
        if rng.random() < 0.3:
            rules.append('[retention.names."*7"]\nkeep_last = 5')
        window = rng.choice(["1ms", "20ms", "300ms", "1h"])
        text = f'[journal]\nsegment_size = "{rng.choice(["64K", "128K"])}"\nreserve = "0"\n[retention]\n'
        text += f'prune = "off"\nprotection_window = "{window}"\n' + "\n".join(rules)
        (self.path / "vsnapfs.toml").write_text(text + "\n")
        return Repository.open(self.path, owner=True)

    def reopen(self) -> None:
        self.repository.close()
        self.repository = self._opened()

    def names(self) -> list[str]:
        return [volume.name for volume in self.repository.volumes()]

    def write(self) -> None:
        for _ in range(self.rng.randrange(1, 40)):
            volume = self.rng.choice(self.repository.volumes())
            length = self.rng.choice([512, BLOCK, 3 * BLOCK, 1000])
            offset = self.rng.randrange(max(1, volume.size_bytes - length))
            if self.rng.random() < 0.2:
                self.repository.journal.zero(volume.id, offset, min(length * 5, volume.size_bytes - offset))
            else:
                self.repository.journal.write(volume.id, offset, self.rng.randbytes(length))

    def add(self) -> None:
        name = self.rng.choice([name for name in ("a", "b", "c", "d") if name not in self.names()] or [""])
        if not name:
            return
        size = self.rng.choice(SIZES)
        if self.rng.random() < 0.5:
            self.repository.volume_add(name, size_bytes=size)
            return
        image = self.images / f"{name}-{self.made}-{self.rng.randrange(10**9)}"
        content = bytearray(size)
        for _ in range(size // BLOCK // 2):
            at = self.rng.randrange(size // BLOCK) * BLOCK
            content[at : at + 512] = self.rng.randbytes(512)
        image.write_bytes(content)
        self.repository.volume_add(name, primary=image)

    def resize(self) -> None:
        self.repository.volume_resize(self.rng.choice(self.names()), self.rng.choice(SIZES))

    def remove(self) -> None:
        if len(self.names()) > 1:
            self.repository.volume_remove(self.rng.choice(self.names()))

    def bookmark(self) -> None:
        self.made += 1
        name = f"n{self.made}"
        self.repository.bookmark_add(name)
        self.shown[name] = self.show(name)

    def bookmark_of_past(self) -> None:
        """Of any instant that can be opened, or of none: then it is refused and nothing else."""
        facts = self.repository.journal.facts()
        seqno = self.rng.randrange(facts.first_seqno, facts.committed_seqno + 1)
        try:
            expected = self.show(f"@{seqno}")
        except PointGoneError:
            with pytest.raises(PointGoneError):
                self.repository.bookmark_add("refused", at=f"@{seqno}")
            return
        self.made += 1
        self.repository.bookmark_add(f"n{self.made}", at=f"@{seqno}")
        self.shown[f"n{self.made}"] = expected

    def hold(self) -> None:
        standing = self.repository.bookmarks()
        if standing:
            change = self.rng.choice([self.repository.bookmark_hold, self.repository.bookmark_release])
            change(self.rng.choice(standing).name)

    def forget(self) -> None:
        free = [bookmark.name for bookmark in self.repository.bookmarks() if not bookmark.held]
        if free:
            self.repository.bookmark_remove(self.rng.choice(free))

    def prune(self) -> None:
        self.repository.journal.commit()
        preview = self.repository.prune_preview()
        result = self.repository.prune()
        assert result.bookmarks == preview.bookmarks
        assert (result.problems, result.changed, result.after) == ([], [], preview.after)
        assert result.freed_bytes == preview.predicted_bytes
        stay = {fate.bookmark for fate in result.bookmarks if fate.stays}
        assert {bookmark.name for bookmark in self.repository.bookmarks()} == stay

    def show(self, point: str) -> dict[str, str]:
        volumes = self.repository.volumes(self.repository.resolve(point))
        return {
            volume.name: hashlib.sha256(content_at(self.repository, volume.name, point)).hexdigest()
            for volume in volumes
        }

    def look(self) -> None:
        for bookmark in self.repository.bookmarks():
            assert self.show(bookmark.name) == self.shown[bookmark.name], bookmark.name

    def step(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self.write, 12),
            (self.bookmark, 8),
            (self.prune, 6),
            (self.bookmark_of_past, 3),
            (self.resize, 2),
            (self.add, 2),
            (self.remove, 1),
            (self.hold, 2),
            (self.forget, 2),
            (self.reopen, 2),
        ]
        if not self.names():
            self.add()
        else:
            self.rng.choices([step for step, _ in steps], [weight for _, weight in steps])[0]()
        self.repository.journal.commit()


@pytest.mark.parametrize("seed", range(SEED, SEED + HISTORIES))
def test_bookmarks_show_what_they_showed(memory_path: Path, seed: int) -> None:
    life = Life(memory_path / "repository", memory_path, seed)
    try:
        for number in range(STEPS):
            life.step()
            if number % 5 == 4:
                life.look()
        life.prune()
        life.reopen()
        life.look()
        assert life.repository.check(read_data=True).damages == []
    finally:
        life.repository.close()
    assert_plain_words_say_the_same(life)


def assert_plain_words_say_the_same(life: Life) -> None:
    """Who knows native/FORMAT.md alone finds the same bookmarks, and the same in them."""
    plain = read_repository(life.path)
    bookmarks = plain.bookmarks()
    assert bookmarks.keys() <= life.shown.keys()
    for name, seqno in bookmarks.items():
        assert plain.can_open(seqno)
        volumes = plain.volumes(seqno).values()
        assert {v.name: hashlib.sha256(v.content).hexdigest() for v in volumes} == life.shown[name], name
