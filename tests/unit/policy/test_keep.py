"""Which bookmarks stay: each rule by example, and all of them against a plain model that is written the other way round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from vsnapfs.core.times import NS_PER_S, parse_iso
from vsnapfs.policy.keep import Candidate, Facts, Fate, decide, shrink, window_begin_ns
from vsnapfs.policy.retention import KeepRules, RetentionSettings

pytestmark = pytest.mark.unit

HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS
NOW = parse_iso("2026-11-26T12:00:00Z")


def settings(**keys: Any) -> RetentionSettings:
    return msgspec.convert({"protection_window": "1h", **keys}, RetentionSettings)


def at(time: str, name: str = "", seqno: int = 0, **fields: Any) -> Candidate:
    time_ns = parse_iso(time)
    seqno = seqno or time_ns // NS_PER_S
    return Candidate(name or time, seqno, time_ns, seqno, fields.pop("created_ns", time_ns), **fields)


def staying(candidates: Sequence[Candidate], chosen: RetentionSettings, facts: Facts | None = None) -> list[str]:
    facts = facts or Facts(NOW, 1 << 62)
    return [fate.candidate.name for fate in decide(candidates, facts, chosen) if fate.stays]


DAYS = [at(f"2026-11-{day:02}T{hour:02}:30:00Z") for day in range(1, 26) for hour in (1, 9, 23)]


def test_the_last() -> None:
    assert staying(DAYS, settings(keep_last=2)) == ["2026-11-25T09:30:00Z", "2026-11-25T23:30:00Z"]


def test_the_newest_of_each_day() -> None:
    assert staying(DAYS, settings(keep_daily=3)) == [f"2026-11-{day}T23:30:00Z" for day in (23, 24, 25)]


def test_days_without_a_bookmark_do_not_count() -> None:
    some = [candidate for candidate in DAYS if "-24T" not in candidate.name]
    assert staying(some, settings(keep_daily=2)) == ["2026-11-23T23:30:00Z", "2026-11-25T23:30:00Z"]


def test_days_begin_where_the_timezone_says() -> None:
    """23:30 UTC is the next day in Berlin, so the newest of a day is that of 09:30."""
    berlin = settings(keep_daily=2, timezone="Europe/Berlin")
    assert staying(DAYS, berlin) == ["2026-11-25T09:30:00Z", "2026-11-25T23:30:00Z"]


def test_the_hour_that_a_clock_repeats_is_two() -> None:
    repeated = [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")]
    assert len(staying(repeated, settings(keep_hourly=2, timezone="Europe/Berlin"))) == 2


def test_weeks_are_those_of_iso_8601() -> None:
    """2027-01-03 is a Sunday and belongs to the week of 2026-12-28."""
    candidates = [at("2026-12-27T01:00:00Z"), at("2026-12-29T01:00:00Z"), at("2027-01-03T01:00:00Z")]
    facts = Facts(parse_iso("2027-02-01"), 1 << 62)
    assert staying(candidates, settings(keep_weekly=2), facts) == ["2026-12-27T01:00:00Z", "2027-01-03T01:00:00Z"]


def test_months_and_years() -> None:
    candidates = [at(f"{year}-{month:02}-15T00:00:00Z") for year in (2024, 2025, 2026) for month in (1, 6, 11)]
    assert staying(candidates, settings(keep_monthly=2, keep_yearly=2)) == [
        "2025-11-15T00:00:00Z",
        "2026-06-15T00:00:00Z",
        "2026-11-15T00:00:00Z",
    ]


def test_within() -> None:
    assert staying(DAYS, settings(keep_within="36h")) == ["2026-11-25T01:30:00Z", *staying(DAYS, settings(keep_last=2))]


def test_without_a_rule_all_stay() -> None:
    assert len(staying(DAYS, settings())) == len(DAYS)


def test_names_have_rules_of_their_own() -> None:
    candidates = [
        at(f"2026-11-{day:02}T0{n}:00:00Z", f"{kind}-{day}") for day in (1, 2, 3) for n, kind in enumerate("ab")
    ]
    chosen = settings(names={"a-*": {"keep_last": 1}, "a*": {"keep_last": 3}})
    assert staying(candidates, chosen) == ["b-1", "b-2", "a-3", "b-3"]


def test_what_stays_for_certain() -> None:
    old = "2026-01-01T00:00:00Z"
    candidates = [
        at(old, "plain", 1),
        at(old, "held", 2, held=True),
        at(old, "held-still", 3, held=True, hold_until_ns=NOW + 1),
        at(old, "held-no-more", 4, held=True, hold_until_ns=NOW),
        at(old, "open", 5),
        at(old, "named-today", 6, created_ns=NOW - HOUR_NS),
        at(old, "named-yesterday", 7, created_ns=NOW - DAY_NS),
        at(old, "in-window", 8),
        at(old, "last", 9),
    ]
    chosen = settings(keep_last=1, minimum_age="1d", maximum_size="1K")
    fates = decide(candidates, Facts(NOW, 8, {5: "open in /mnt"}), chosen)
    assert {fate.candidate.name: fate.reasons for fate in fates} == {
        "plain": ("no rule keeps it",),
        "held": ("held",),
        "held-still": ("held until 2026-11-26T12:00:00.000000001Z",),
        "held-no-more": ("no rule keeps it",),
        "open": ("open in /mnt",),
        "named-today": ("minimum age",),
        "named-yesterday": ("no rule keeps it",),
        "in-window": ("protection window",),
        "last": ("protection window", "last 1"),
    }
    assert [fate.candidate.name for fate in shrink(fates, lambda _: False) if fate.stays] == [
        fate.candidate.name for fate in fates if fate.certain
    ]


def test_two_names_on_one_point_are_two_bookmarks() -> None:
    candidates = [at("2026-11-01T00:00:00Z", "first", 5), at("2026-11-01T00:00:00Z", "second", 5)]
    candidates[1] = candidates[1]._replace(created_seqno=6)
    assert staying(candidates, settings(keep_last=1)) == ["second"]


def test_the_oldest_go_until_the_rest_fits() -> None:
    fates = decide(DAYS, Facts(NOW, 1 << 62), settings(maximum_size="1K"))
    asked: list[int] = []

    def fits(left: Sequence[Fate]) -> bool:
        asked.append(sum(fate.stays for fate in left))
        return asked[-1] <= 10

    left = shrink(fates, fits)
    assert [fate.candidate for fate in left if fate.stays] == DAYS[-10:]
    assert left[0].reasons == ("maximum size",)
    assert len(asked) <= len(DAYS).bit_length()
    assert shrink(fates, lambda _: True) == fates
    assert not any(fate.stays for fate in shrink(fates, lambda _: False))


def test_the_window_begins_in_journal_time() -> None:
    assert window_begin_ns(NOW, settings()) == NOW - HOUR_NS
    assert window_begin_ns(5, settings()) == 0
    assert window_begin_ns(NOW, RetentionSettings()) == 0


# The model: one bookmark at a time, from what the documentation says, without a pass over all of them.

PERIODS = {
    "keep_hourly": "%Y%m%d%H%z",
    "keep_daily": "%Y%m%d",
    "keep_weekly": "%G-%V",
    "keep_monthly": "%Y%m",
    "keep_yearly": "%Y",
}


def model_keeps(one: Candidate, all_: list[Candidate], facts: Facts, chosen: RetentionSettings) -> bool:
    if one.held and not (one.hold_until_ns is not None and one.hold_until_ns <= facts.now_ns):
        return True
    if one.seqno in facts.in_use or one.seqno >= facts.window_seqno:
        return True
    if one.created_ns > facts.now_ns - chosen.minimum_age_ns:
        return True
    rules = model_rules(one, chosen)
    if not any((rules.keep_within, rules.keep_last, *(getattr(rules, name) for name in PERIODS))):
        return True
    peers = [other for other in all_ if model_rules(other, chosen) is rules]
    newer = [other for other in peers if (other.seqno, other.created_seqno) > (one.seqno, one.created_seqno)]
    if len(newer) < rules.keep_last:
        return True
    if rules.keep_within and one.time_ns >= facts.now_ns - rules.keep_within_ns:
        return True
    zone = UTC if chosen.timezone == "UTC" else ZoneInfo(chosen.timezone)

    def period(candidate: Candidate, form: str) -> str:
        seconds = timedelta(seconds=candidate.time_ns // NS_PER_S)
        return (datetime(1970, 1, 1, tzinfo=UTC) + seconds).astimezone(zone).strftime(form)

    for name, form in PERIODS.items():
        mine, theirs = period(one, form), {period(other, form) for other in newer}
        if mine not in theirs and len(theirs) < getattr(rules, name):
            return True
    return False


def model_rules(one: Candidate, chosen: RetentionSettings) -> KeepRules:
    for pattern, rules in chosen.names.items():
        if one.name.startswith(pattern.removesuffix("*")):
            return rules
    return chosen


def random_rules(rng: random.Random) -> dict[str, Any]:
    names = rng.sample(["keep_last", *PERIODS], rng.randrange(4))
    rules: dict[str, Any] = {name: rng.choice((1, 2, 3, 7, 24, 1000)) for name in names}
    if rng.random() < 0.3:
        rules["keep_within"] = rng.choice(("90min", "2d", "5w"))
    return rules


def random_case(rng: random.Random) -> tuple[list[Candidate], Facts, RetentionSettings]:
    spread = rng.choice((HOUR_NS // 4, 5 * HOUR_NS, 3 * DAY_NS))
    candidates = []
    seqno, time_ns = 0, NOW - 60 * spread - rng.randrange(DAY_NS)
    for number in range(rng.randrange(60)):
        step = rng.choice((0, 1, 1, 1, 5))
        seqno, time_ns = seqno + step, time_ns + (rng.randrange(spread) + 1 if step else 0)
        created_ns = rng.choice((time_ns, time_ns, NOW - rng.randrange(3 * DAY_NS)))
        hold = (rng.random() < 0.1, rng.choice((None, NOW, NOW + 1, NOW - DAY_NS)))
        name = f"{rng.choice('abc')}-{number}"
        candidates.append(
            Candidate(name, seqno, time_ns, 1000 + number, created_ns, hold[0], hold[1] if hold[0] else None)
        )
    chosen = settings(
        **random_rules(rng),
        timezone=rng.choice(("UTC", "Europe/Berlin", "Pacific/Auckland", "America/St_Johns")),
        minimum_age=rng.choice(("", "", "36h")),
        names={f"{letter}*": random_rules(rng) for letter in rng.sample("ab", rng.randrange(3))},
    )
    in_use = {candidate.seqno: "open" for candidate in candidates if rng.random() < 0.05}
    return candidates, Facts(NOW, seqno + 1 - rng.randrange(5), in_use), chosen


@pytest.mark.parametrize("block", range(5))
def test_a_plain_model_agrees_on_500_random_policies(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        candidates, facts, chosen = random_case(random.Random(seed))
        expected = [one.name for one in candidates if model_keeps(one, candidates, facts, chosen)]
        mixed = random.Random(seed).sample(candidates, len(candidates))
        assert staying(mixed, chosen, facts) == expected, f"seed {seed}"
