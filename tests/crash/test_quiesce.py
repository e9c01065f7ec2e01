"""Nothing stays frozen, and no bookmark claims more than it has, whatever a member does and whoever is killed.

VSNAPFS_QUIESCES says how many are chosen by chance, beside those here; ``python -m tests.crash.quiesce`` goes on.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.quiesce import Case, ground_of, judge, play, play_case

QUIESCES = int(os.environ.get("VSNAPFS_QUIESCES", "5"))

pytestmark = [
    pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 20 * QUIESCES)
]  # fmt: skip

WITH_A_SERVER = [
    Case("nothing", ""),
    Case("hang", "last-freeze"),
    Case("stop", "last-freeze"),
    Case("kill", "last-freeze", "freezer"),
    Case("kill", "last-freeze", "guard"),
    Case("kill", "last-freeze", "freezer and asker"),
    Case("kill", "first-thaw", "freezer"),
    Case("kill", "last-freeze", "command"),
    Case("hang", "last-freeze", fallback=True),
]
WITHOUT = [
    Case("nothing", ""),
    Case("stubborn", "last-freeze"),
    Case("flood", "last-freeze", fallback=True),
    Case("fork", "last-freeze"),
    Case("fail", "first-thaw"),
    Case("hang", "last-thaw"),
    Case("kill", "last-freeze", "asker"),
    Case("kill", "last-freeze", "freezer and asker"),
    Case("kill", "last-thaw", "guard"),
]
"""What no run leaves out."""


@pytest.mark.parametrize("served", [True, False], ids=["served", "alone"])
def test_every_way_and_every_victim(tmp_path: Path, served: bool) -> None:
    with ground_of(tmp_path, served=served) as ground:
        for number, case in enumerate(WITH_A_SERVER if served else WITHOUT):
            judge(ground, case, play_case(ground, case, f"b{number}", random.Random(number)))


def test_any_of_them(tmp_path: Path) -> None:
    assert play(1, QUIESCES, tmp_path).total() == QUIESCES
