"""Fixtures of all tests, and the marks that say what a test needs of the machine.

``requires_root`` and ``requires_fuse`` skip on a developer's machine that lacks it; under ``CI=true`` they fail, so that nothing is
ever left out unnoticed.

What hypothesis draws is the same in each run, and a test is not failed for how long the machine took for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "vsnapfs", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vsnapfs")

ENABLE_IO_URING = Path("/sys/module/fuse/parameters/enable_uring")

NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "requires_root": (lambda: os.geteuid() == 0, "root"),
    "requires_fuse": (lambda: os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK), "root and /dev/fuse"),
    "requires_io_uring": (
        lambda: os.geteuid() == 0 and os.access(ENABLE_IO_URING, os.W_OK),
        "root and a kernel with FUSE over io_uring (Linux 6.14)",
    ),
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


@pytest.fixture(scope="module", params=["device", pytest.param("io_uring", marks=pytest.mark.requires_io_uring)])
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """How requests shall come from the kernel: the test runs once with each. The kernel offers io_uring meanwhile, and
    then as it did before. It is one switch for the whole machine: another run of the tests there waits."""
    if request.param == "device":
        yield request.param
        return
    with ENABLE_IO_URING.open("r+") as switch:
        fcntl.flock(switch, fcntl.LOCK_EX)
        before = ENABLE_IO_URING.read_text()
        ENABLE_IO_URING.write_text("Y")
        try:
            yield request.param
        finally:
            ENABLE_IO_URING.write_text(before)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A fresh directory in memory, where a sync costs nothing: for tests of bytes, not of durability."""
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path)
