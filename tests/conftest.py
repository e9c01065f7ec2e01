"""Fixtures of all tests, and the marks that say what a test needs of the machine.

``requires_root`` and ``requires_fuse`` skip on a developer's machine that lacks it; under ``CI=true`` they fail, so that nothing is
ever left out unnoticed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "requires_root": (lambda: os.geteuid() == 0, "root"),
    "requires_fuse": (lambda: os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK), "root and /dev/fuse"),
}


def pytest_configure(config: pytest.Config) -> None:
    for mark, (_, what) in NEEDS.items():
        config.addinivalue_line("markers", f"{mark}: needs {what}; skipped without it, failed without it under CI=true")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, (present, what) in NEEDS.items():
        if item.get_closest_marker(mark) is None or present():
            continue
        if os.environ.get("CI") == "true":
            pytest.fail(f"needs {what}, and CI must not leave it out", pytrace=False)
        pytest.skip(f"needs {what}")


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A fresh directory in memory, where a sync costs nothing: for tests of bytes, not of durability."""
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path)
