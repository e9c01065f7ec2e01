"""Events: a closed list of kinds, and details that are bounded and always JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vsnapfs.core.events import DETAIL_BYTES_MAX, EVENT_KINDS, KINDS, event, text_of
from vsnapfs.core.names import NAME_LENGTH_MAX

pytestmark = pytest.mark.unit


def test_each_kind_has_its_words() -> None:
    assert tuple(KINDS) == EVENT_KINDS
    texts = [told.text for told in KINDS.values()]
    assert len(set(texts)) == len(texts)
    assert text_of("served") == "serving"
    assert text_of("nobody knows") == "nobody knows"


def test_what_it_says() -> None:
    made = event(7, 1_500_000_000_123_456_789, "gap_begun", "", {"reason": "full"})
    assert msgspec.to_builtins(made) == {
        "id": 7,
        "time": "2017-07-14T02:40:00.123456789Z",
        "time_ns": 1_500_000_000_123_456_789,
        "kind": "gap_begun",
        "severity": "error",
        "subject": "",
        "text": "a gap: writes are not journalled",
        "detail": {"reason": "full"},
    }


def test_details_are_json_whatever_they_were() -> None:
    made = event(1, 0, "served", "n" * 1000, {"path": Path("/a"), "odd": "\udcff", "deep": [[[[[[1]]]]]], "set": {3}})
    assert len(made.subject) >= NAME_LENGTH_MAX
    assert len(made.subject) <= 500
    assert msgspec.json.decode(msgspec.json.encode(made))["detail"] == {
        "path": "/a",
        "odd": "\\udcff",
        "deep": [[["[[[1]]]"]]],
        "set": "{3}",
    }


def test_details_are_bounded() -> None:
    long = event(1, 0, "damage_found", "", {"costs": ["x" * 100_000] * 100_000, "what": "y" * 100_000, "n": 1})
    assert len(msgspec.json.encode(long.detail)) <= DETAIL_BYTES_MAX
    assert long.detail == {"what": "y" * 500, "n": 1, "cut": True}
    many = event(1, 0, "damage_found", "", {f"{number}": number for number in range(100)})
    assert len(many.detail) == 20
