"""Each target: every input that is kept, and a while of fuzzing.

``VSNAPFS_FUZZ_SECONDS`` says how long, a target (default 20), ``VSNAPFS_FUZZ_SEED`` which mutations (1). A failure prints
its input; it belongs into ``found/`` with the fix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.__main__ import failure_text
from tests.fuzz.targets import C_TARGETS, FOUND, SEEDS, TARGETS, built, fuzz, inputs_of, replay

SECONDS = int(os.environ.get("VSNAPFS_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("VSNAPFS_FUZZ_SEED", "1"))

pytestmark = [pytest.mark.native, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with built(list(C_TARGETS)) as out:
        yield out


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str, programs: Path) -> None:
    done = replay(target, programs)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("pair", range((len(TARGETS) + 1) // 2))
def test_fuzz(pair: int, programs: Path, tmp_path: Path) -> None:
    """Two targets at a time, each on a core of its own."""
    from concurrent.futures import ThreadPoolExecutor

    names = TARGETS[2 * pair : 2 * pair + 2]
    with ThreadPoolExecutor(len(names)) as pool:
        running = [
            pool.submit(fuzz, name, programs, tmp_path / name, seed=SEED, seconds=SECONDS)
            for name in names
        ]  # fmt: skip
        outcomes = [one.result() for one in running]
    for outcome in outcomes:
        print(outcome.run)
    failed = [failure_text(outcome) for outcome in outcomes if outcome.run.failures]
    assert not failed, "\n".join(failed)
    assert all(outcome.run.executions > 0 and outcome.run.edges > 0 for outcome in outcomes)


def test_kept_inputs_belong_to_targets() -> None:
    for top in (SEEDS, FOUND):
        assert {path.name for path in top.iterdir()} <= set(TARGETS)
    assert all(inputs_of(target) for target in TARGETS)
