"""The command in this process, on a repository in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vsnapfs.cli.main import run


class Done(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The one object on standard output."""
        assert self.status == 0, self
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def repository(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new repository, named by the environment."""
    path = memory_path / "repository"
    monkeypatch.setenv("VSNAPFS_REPO", str(path))
    assert run(["init"]) == 0
    return path


@pytest.fixture
def vsnapfs(repository: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """vsnapfs("bookmark", "add", "monday") runs that."""

    def command(*words: str | Path) -> Done:
        capfd.readouterr()
        status = run([str(word) for word in words])
        return Done(status, *capfd.readouterr())

    return command
