"""What ``[retention]`` may say, and what follows for the server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vsnapfs.core.times import NS_PER_S
from vsnapfs.policy.retention import RetentionSettings

pytestmark = pytest.mark.unit


def settings(**keys: Any) -> RetentionSettings:
    return msgspec.convert(keys, RetentionSettings)


def test_nothing_said_drops_nothing() -> None:
    chosen = RetentionSettings()
    assert (chosen.protection_window_ns, chosen.maximum_size_bytes, chosen.minimum_age_ns) == (None, None, 0)
    assert (chosen.bounded, chosen.prune_every_ns) == (False, None)


def test_a_window_alone_promises_and_drops_nothing_by_itself() -> None:
    chosen = settings(protection_window="7d")
    assert (chosen.bounded, chosen.prune_every_ns) == (False, None)


@pytest.mark.parametrize(
    "keys", [{"keep_last": 1}, {"maximum_size": "1G"}, {"keep_within": "1d"}, {"names": {"a*": {"keep_yearly": 1}}}]
)
def test_any_rule_has_the_server_prune_each_hour(keys: dict[str, Any]) -> None:
    chosen = settings(protection_window="7d", **keys)
    assert chosen.prune_every_ns == 3600 * NS_PER_S
    assert settings(protection_window="7d", prune="off", **keys).prune_every_ns is None
    assert settings(protection_window="7d", prune="5min", **keys).prune_every_ns == 300 * NS_PER_S


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"keep_daily": 7}, "protection_window: it has to be said"),
        ({"names": {"a*": {"keep_daily": 7}}}, "protection_window: it has to be said"),
        ({"protection_window": "0s"}, "protection_window: 0s is no time"),
        ({"prune": "0s"}, "prune: 0s is no time"),
        ({"prune": "sometimes"}, "prune: 'sometimes'"),
        ({"keep_within": "7"}, "keep_within: '7'"),
        ({"minimum_age": "x"}, "minimum_age: 'x'"),
        ({"maximum_size": "x"}, "maximum_size: 'x'"),
        ({"timezone": "Mars"}, "timezone: this machine does not know 'Mars'"),
        ({"timezone": "../UTC"}, "timezone: this machine does not know"),
        ({"names": {"a*": {"timezone": "UTC"}}}, "unknown field `timezone`"),
        ({"keep_last": -1}, ">= 0"),
    ],
)
def test_what_cannot_be(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said.replace("(", r"\(")):
        settings(**keys)
