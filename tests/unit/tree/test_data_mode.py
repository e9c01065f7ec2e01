"""Who reads a volume at a point: rules for names, and what an open may take for it."""

from __future__ import annotations

import pytest

from vsnapfs.core.model import DataMode
from vsnapfs.tree.data_mode import ASKED, AUTO, DataRules, limits

pytestmark = pytest.mark.unit

RULES = DataRules(mode="auto", points={"nightly-*": "kernel", "nightly-2*": "verify", "[!n]*": "verify"})


@pytest.mark.parametrize(
    ("bookmark", "mode"),
    [
        (None, "auto"),
        ("nightly-1", "kernel"),
        ("nightly-21", "kernel"),  # the first that fits
        ("Nightly-1", "verify"),  # letters are told apart
        ("noon", "auto"),
        ("before-upgrade", "verify"),
    ],
)
def test_the_first_pattern_that_fits_counts(bookmark: str | None, mode: DataMode) -> None:
    assert RULES.wanted(bookmark) == mode


def test_nothing_is_asked_of_the_kernel_by_default() -> None:
    assert DataRules().wanted("any") == "verify"
    assert not DataRules(points={"a": "verify"}).asks_kernel
    assert DataRules(points={"a": "auto"}).asks_kernel
    assert DataRules(mode="kernel").asks_kernel


def test_limits() -> None:
    assert limits("verify", capable=True) is None
    assert limits("kernel", capable=False) is limits("auto", capable=False) is None
    assert limits("kernel", capable=True) == ASKED
    assert limits("auto", capable=True) == AUTO
    assert AUTO.milliseconds < ASKED.milliseconds < 15_000, "every request is answered within 15 s"


def test_what_is_said_of_verification() -> None:
    said = [
        DataRules(kernel_verify=checked).verified(reader)
        for checked in (True, False)
        for reader in ("verify", "kernel")
    ]
    assert said == ["checksums", "at-open", "checksums", "no"]
