"""A plan in the text of the settings: what people wrote stays, and what is new stands where it means what it says."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from vsnapfs.core.errors import UsageError
from vsnapfs.policy.edited import edited

pytestmark = pytest.mark.unit

RETENTION: dict[str, str | int] = {"protection_window": "7d", "keep_daily": 14}
PLANNED = {"every": "1h"}


def changed(text: str) -> dict[str, Any]:
    return tomllib.loads(edited(text, RETENTION, "1h"))


def test_of_nothing() -> None:
    assert changed("") == {"retention": RETENTION, "schedule": {"planned": PLANNED}}


def test_new_keys_stand_under_the_header() -> None:
    """Behind a table that is commented out they would belong to it when it is not any more."""
    text = '[retention]  # ours\n# keep_last = 0\n\n# [retention.names."n-*"]\n# keep_daily = 30\n'
    made = edited(text, RETENTION, "1h")
    assert made.startswith('[retention]  # ours\nprotection_window = "7d"\nkeep_daily = 14\n# keep_last = 0\n')
    found = tomllib.loads(made.replace("# [", "[").replace("# keep_daily", "keep_daily"))
    assert found["retention"] == RETENTION | {"names": {"n-*": {"keep_daily": 30}}}


def test_known_keys_stay_where_they_are() -> None:
    made = edited("[retention]\nkeep_daily = 3  # a few\nkeep_yearly = 9  # by law\n", RETENTION, "1h")
    assert 'protection_window = "7d"\nkeep_daily = 14  # a few\nkeep_yearly = 9  # by law\n' in made


@pytest.mark.parametrize(
    "text",
    [
        "retention.keep_daily = 3\n",
        '[retention.names."n-*"]\nkeep_last = 3\n[mount]\n',
        "[retention]\r\nkeep_daily = 1\r\n",
    ],
    ids=["dotted", "of names alone", "lines of DOS"],
)
def test_other_ways_to_write_it(text: str) -> None:
    before, found = tomllib.loads(text), changed(text)
    assert found["retention"] == before["retention"] | RETENTION
    assert found["schedule"] == {"planned": PLANNED}


def test_the_planned_schedule_has_one_of_both() -> None:
    found = changed('[schedule.planned]\ncron = "0 2 * * *"\napp = "db"\n\n[schedule.ours]\ncron = "0 3 * * *"\n')
    assert found["schedule"] == {"planned": PLANNED | {"app": "db"}, "ours": {"cron": "0 3 * * *"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("retention = {keep_daily = 3}\n", r"\[retention\]"),
        ('[schedule]\nplanned = {every = "1d"}\n', r"\[schedule.planned\]"),
        ("[retention\n", "cannot be read"),
    ],
)
def test_what_cannot_be_changed(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        edited(text, RETENTION, "1h")
