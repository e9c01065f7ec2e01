"""Records of each test apart, nothing left at its end; histories of filesystems."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.attach.ground import KINDS, History, history_of
from tests.support.attaching import left_behind, loops_on
from tests.support.processes import unmount
from tests.support.waiting import nothing_left


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Records of this test alone; at its end there is nothing left, whatever it did."""
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield tmp_path
    try:
        nothing_left(lambda: left_behind(tmp_path))
    finally:
        for directory in [path for path in left_behind(tmp_path) if os.path.isdir(path)]:
            unmount(Path(directory))
        taken_off(tmp_path)


@pytest.fixture(params=KINDS)
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    with history_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """One for all tests that change nothing in it."""
    place = tmp_path_factory.mktemp("history")
    with history_of("ext4", place) as made:
        yield made
        assert taken_off(place) == []


def taken_off(place: Path) -> list[str]:
    """Loop devices on files below a directory, which are not there any more; there should have been none."""
    left = loops_on(place)
    for device in left:
        subprocess.run(["losetup", "--detach", f"/dev/{device}"], check=False)
    return left
