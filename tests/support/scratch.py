"""What tests write to branches: at random by a seed, with a plain copy beside that says what has to be there; or past a mount."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.files import opened, pread_all, punch, pwrite_all
from vsnapfs.binding.branch import Branch
from vsnapfs.repository import branches
from vsnapfs.repository.repository import Repository

BLOCK_BYTES = 4096
WRITE_BYTES_MAX = 65536


def count(variable: str, default: int) -> int:
    """How many, as the environment has it, or else as CI does it."""
    return int(os.environ.get(variable, default))


class Scratch:
    """A volume at ``path``, and what it has to hold. Threads: one."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.content = bytearray(content)

    def change(self, rng: random.Random, times: int) -> None:
        """Write and punch so many pieces, some of them not aligned, and sync."""
        with opened(self.path, os.O_RDWR) as fd:
            for _ in range(times):
                length = rng.choice([BLOCK_BYTES, rng.randint(1, WRITE_BYTES_MAX)])
                offset = rng.randrange(len(self.content) - length)
                if rng.random() < 0.5:
                    offset -= offset % BLOCK_BYTES
                if rng.random() < 0.2:
                    punch(fd, offset, length)
                    self.content[offset : offset + length] = bytes(length)
                else:
                    piece = rng.randbytes(length)
                    pwrite_all(fd, piece, offset)
                    self.content[offset : offset + length] = piece
            os.fsync(fd)

    def assert_whole(self) -> None:
        """Read past the cache, so that what is compared comes from the branch."""
        with opened(self.path) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert pread_all(fd, len(self.content) + 1) == self.content, self.path


@contextmanager
def branch_opened(repository: Repository, name: str) -> Iterator[Branch]:
    """A branch as its repository has it open."""
    parts = repository._parts
    with branches.opened(parts, branches.find(parts, name)) as branch:
        yield branch


def branch_write(repository: Repository, name: str, block: int, letter: bytes) -> None:
    """Fill a block of volume 1."""
    with branch_opened(repository, name) as branch:
        branch.write(1, block * BLOCK_BYTES, letter * BLOCK_BYTES)
