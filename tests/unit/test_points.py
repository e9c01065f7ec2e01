"""Points: each form, told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import check_name
from vsnapfs.core.points import SEQNO_MAX, Ago, Instant, Latest, Named, PointSpec, Seqno, parse_point

S = 10**9


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("latest", Latest()),
        ("@0", Seqno(0)),
        ("@1234", Seqno(1234)),
        (f"@{SEQNO_MAX}", Seqno(SEQNO_MAX)),
        ("2026-11-23T10:15:00.5Z", Instant(1795428900 * S + S // 2)),
        ("-30s", Ago(30 * S)),
        ("-5min", Ago(300 * S)),
        ("-1h30min", Ago(5400 * S)),
        ("-2h", Ago(7200 * S)),
        ("-1d", Ago(86400 * S)),
        ("-1w", Ago(604800 * S)),
        ("monday", Named("monday")),
        ("5min", Named("5min")),
        ("20261123", Named("20261123")),
    ],
)
def test_each_form(text: str, spec: PointSpec) -> None:
    assert parse_point(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "@x",
        "@-1",
        "@1.5",
        "@\u0661",
        f"@{SEQNO_MAX + 1}",
        "@" + "9" * 5000,
        "-",
        "-5",
        "-5parsec",
        "a b",
        "a/b",
    ],
)
def test_what_is_no_point_gets_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="is not a point; write"):
        parse_point(text)


def test_a_day_that_is_in_no_calendar_is_refused() -> None:
    with pytest.raises(UsageError, match="'2026-02-30' is not a time: day is out of range"):
        parse_point("2026-02-30")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+:@-]{0,20}", fullmatch=True))
def test_a_name_that_a_bookmark_may_have_is_never_another_form(name: str) -> None:
    try:
        check_name(name, "bookmark")
    except UsageError:
        return
    assert parse_point(name) == Named(name)
