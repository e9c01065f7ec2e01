"""A tree of a repository that is made up."""

from __future__ import annotations

import pytest

from tests.unit.tree.fakes import FakeRepository
from vsnapfs.tree.tree import Tree


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository()


@pytest.fixture
def tree(repository: FakeRepository) -> Tree:
    return Tree(repository, live=True)
