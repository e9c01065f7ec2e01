"""A repository, and its server as a real process. What is not itself tested is made through the Python API, which is quicker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, serving
from tests.support.processes import Mounted
from vsnapfs.repository.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A new repository with the thin volume ``db`` of 4 MiB."""
    path = tmp_path / "repository"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=4 * MIB)
    return path


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Mounted]:
    """Its server. Ends with the test, which it has to do cleanly."""
    with serving(repository, tmp_path / "mount") as server:
        yield server


@pytest.fixture
def mount(server: Mounted) -> Path:
    """Where it is mounted."""
    return server.mountpoint
