"""What a soak believes of a harness, and what the ledger is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.soak.__main__ import verdict
from tests.soak.harnesses import HARNESSES, TOP
from tests.soak.ledger import entries

pytestmark = pytest.mark.unit

STATES = HARNESSES["crash_states"]


@pytest.mark.parametrize(
    ("said", "status", "counted"),
    [
        ('{"states": 7, "failures": 0}\n', 0, (7, 0)),
        ('so far so good\n{"states": 7, "failures": 2}\n', 1, (7, 2)),
        ('{"states": 7, "failures": 0}\n', -11, (7, 1)),  # it died after it had said so
        ('{"states": 7, "fail', -9, (0, 1)),
        ("", 1, (0, 1)),
    ],
)
def test_what_a_harness_says_is_not_believed_against_its_status(
    said: str, status: int, counted: tuple[int, int]
) -> None:
    assert verdict(STATES, said, status) == counted


@pytest.mark.parametrize("name", HARNESSES)
def test_a_harness_is_there(name: str) -> None:
    harness = HARNESSES[name]
    command = harness.command(Path("/built"), 5, 3)
    assert {"5", "3"} <= set(command)
    if harness.program:
        assert (TOP / f"tests/harness/harness_{harness.program}.c").exists()
    else:
        module = TOP / command[2].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()


def test_the_promises_name_each_harness_with_its_count() -> None:
    text = (TOP / "docs/promises.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \|.*\| (.*) \|$", text, re.MULTILINE)
    told = {name: count for names, count in rows for name in re.findall(r"`([a-z_*]+)`", names)}
    kinds = {name: re.sub(r"^(fuzz|logged)_.*", r"\1_*", name) for name in HARNESSES}
    assert told.keys() == set(kinds.values())
    counted = {name: f"{harness.in_tests:,}".replace(",", " ") for name, harness in HARNESSES.items()}
    wrong = [name for name, kind in kinds.items() if not re.search(rf"\b{counted[name]}\b", told[kind])]
    assert [name for name in wrong if name != "fault_points" and not name.startswith("fuzz_")] == []


def test_the_ledger_is_of_known_harnesses() -> None:
    assert {entry.harness for entry in entries()} <= set(HARNESSES)
