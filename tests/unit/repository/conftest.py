"""A fresh repository in memory for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vsnapfs.repository.repository import Repository


@pytest.fixture
def path(memory_path: Path) -> Path:
    """Where an empty repository is."""
    path = memory_path / "repository"
    Repository.create(path)
    return path


@pytest.fixture
def repository(path: Path) -> Iterator[Repository]:
    """That repository, open for changes."""
    with Repository.open(path, owner=True) as repository:
        yield repository
