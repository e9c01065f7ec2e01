"""``[archive.NAME]``: what can be said, and what is refused with its line and key."""

from __future__ import annotations

import pytest

from vsnapfs.core.errors import UsageError
from vsnapfs.repository.settings import parse

pytestmark = pytest.mark.unit

MEDIUM = '[media.vault]\nkind = "pool"\npath = "/srv/tapes"\ncapacity = "1G"\n'
LEAST = MEDIUM + '[archive.p]\nbookmarks = "daily-*"\nto = "vault"\n'


def test_the_least() -> None:
    policy = parse(LEAST.encode(), "x").archive["p"]
    assert policy.patterns == ("daily-*",)
    assert policy.said == "all of daily-* to vault"
    assert (policy.protect_ns, policy.within_ns, policy.timing, policy.rate_bytes) == (0, None, None, None)


def test_all_of_it() -> None:
    text = MEDIUM + (
        '[archive.p]\nbookmarks = ["a*", "b"]\nto = "vault"\nwhich = "last"\nper = "month"\nwithin = "90d"\nvolumes = ["db"]\n'
        'full = 10\ncron = "0 22 * * *"\ntimezone = "Europe/Berlin"\nprotect = "14d"\nverify = true\ncompress = true\nrate = "100M"\n'
    )
    policy = parse(text.encode(), "x").archive["p"]
    assert policy.said == "last of each month of a* b to vault, cron 0 22 * * *"
    assert (policy.fits("abc"), policy.fits("b"), policy.fits("bc")) == (True, True, False)
    assert (policy.full, policy.rate_bytes, policy.protect_ns // 10**9) == (10, 100 << 20, 14 * 24 * 3600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('bookmarks = ""', "line 6: archive.p.bookmarks: there is no pattern"),
        ("bookmarks = []", "line 6: archive.p.bookmarks: there is no pattern"),
        ('bookmarks = ["a", ""]', "line 6: archive.p.bookmarks: there is no pattern"),
        ("bookmarks = 1", "line 6: archive.p.bookmarks: "),
        ('to = "vaults"', "archive: p: there is no medium [media.vaults]"),
        ('which = "each"', "line 8: archive.p.which: "),
        ('which = "first"', "archive.p.per: the first of what? One of hour, day, week, month, year"),
        ('per = "week"', 'line 8: archive.p.per: say which of each week, with which = "first" or "last"'),
        ('which = "last"\nper = "decade"', "line 9: archive.p.per: "),
        ("nth = 0", "line 8: archive.p.nth: "),
        ("nth = 4", "line 8: archive.p.nth: bookmarks that go are not counted; give `protect`"),
        ('nth = 4\nprotect = "9d"\nwhich = "last"\nper = "week"', "archive.p.nth: it counts all bookmarks"),
        ('full = "decade"', "line 8: archive.p.full: 'decade' is neither a number nor one of always, once, hour"),
        ("full = 1", 'line 8: archive.p.full: every n-th is from 2 on, not 1; each is "always"'),
        ("full = true", "line 8: archive.p.full: "),
        ("full = 1.5", "line 8: archive.p.full: "),
        ('protect = "soon"', "line 8: archive.p.protect: "),
        ('protect = "0d"', "line 8: archive.p.protect: 0d is no time"),
        ("protect = true", "line 8: archive.p.protect: "),
        (
            'protect = "8d"\nwithin = "7d"',
            "line 8: archive.p.protect: what is older than `within`, 7d, is not wanted any more",
        ),
        ('within = "x"', "line 8: archive.p.within: "),
        ('rate = "0"', "line 8: archive.p.rate: nothing would ever be written"),
        ('rate = "much"', "line 8: archive.p.rate: "),
        ('cron = "at night"', "line 8: archive.p.cron: 'at night' is never due"),
        ('cron = "0 2 30 2 *"', "line 8: archive.p.cron: "),
        ('cron = "0 2 * * *"\ntimezone = "Mars"', "line 9: archive.p.timezone: 'Mars' is not known"),
        ('volumes = ["a/b"]', "archive: p: 'a/b' is not a volume name"),
        ('bookmark = "x"', "line 8: unknown key 'bookmark' in [archive.p]; did you mean bookmarks?"),
        ('every = "1d"', "line 8: unknown key 'every' in [archive.p]"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    key = text.split(" ", maxsplit=1)[0]
    lines = [line for line in LEAST.splitlines() if not line.startswith(f"{key} =")]
    place = next((n for n, line in enumerate(LEAST.splitlines()) if line.startswith(f"{key} =")), len(lines))
    lines[place:place] = text.splitlines()
    with pytest.raises(UsageError) as refusal:
        parse("\n".join(lines).encode(), "vsnapfs.toml")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_name_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="is not a policy name"):
        parse(LEAST.replace("[archive.p]", '[archive."a b"]').encode(), "x")


@pytest.mark.parametrize("key", ["bookmarks", "to"])
def test_what_has_to_be_said(key: str) -> None:
    lines = [line for line in LEAST.splitlines() if not line.startswith(f"{key} =")]
    with pytest.raises(UsageError, match=key):
        parse("\n".join(lines).encode(), "x")


def test_what_cannot_be_read_back_is_not_verified() -> None:
    medium = '[media.vault]\nkind = "command"\ncommand = ["cat"]\n'
    wanted = '[archive.p]\nbookmarks = "daily-*"\nto = "vault"\nverify = true\n'
    with pytest.raises(UsageError, match=r"archive: p: verify: \[media.vault\] has no `read`"):
        parse((medium + wanted).encode(), "x")
    assert parse((medium + 'read = ["cat"]\n' + wanted).encode(), "x").archive["p"].verify
