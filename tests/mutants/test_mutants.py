"""Our own code with a promise taken out: each mutant fits the source, and some are tried, others every day."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime

import pytest

from tests.mutants.__main__ import in_turn, survivors
from tests.mutants.mutants import Mutant, mutants, tree
from tests.soak.harnesses import HARNESSES, TOP

COUNT = int(os.environ.get("VSNAPFS_MUTANTS", "20"))
MUTANTS = mutants()


@pytest.mark.unit
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits(mutant: Mutant) -> None:
    """On the source as it is, and what shall kill it is there."""
    command = ["patch", "-p1", "--dry-run", "--force", "--silent", "--fuzz=1"]
    fitted = subprocess.run(command, cwd=TOP, input=mutant.patch, text=True, capture_output=True, check=False)
    assert fitted.returncode == 0, fitted.stdout
    if mutant.kind == "harness":
        assert mutant.killer in HARNESSES
    elif mutant.kind == "native":
        assert (TOP / f"tests/native/{mutant.killer}.c").exists()
    else:
        assert (TOP / mutant.killer.partition("::")[0]).exists()


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_mutants_are_killed() -> None:
    """COUNT of them, beginning at another one every day, so that all have their turn."""
    start = datetime.now(UTC).toordinal() * COUNT
    with tree() as copy:
        assert survivors(copy, in_turn(COUNT, start)) == []
