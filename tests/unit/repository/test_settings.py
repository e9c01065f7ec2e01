"""vsnapfs.toml: what may stand in it, and what the error says of everything else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support.volumes import put
from vsnapfs.core.errors import UsageError
from vsnapfs.policy.archiving import ArchivePolicy
from vsnapfs.policy.media import PoolSettings
from vsnapfs.policy.profiles import CommandSettings, FsfreezeSettings, Profile
from vsnapfs.policy.schedule import Schedule
from vsnapfs.policy.verification import Verification
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.settings import DEFAULT_TEXT, Settings, parse

FIRST = '[[quiesce.ok.members]]\nkind="fsfreeze"\nname="f"\nmountpoint="/a"\n'
COMMAND = """[[quiesce.db.members]]
kind = "command"
name = "c"
prepare = ["p"]
freeze = ["f", "1"]
thaw = ["t"]
consistency = "filesystem"
"""
MEMBER = '[[quiesce.db.members]]\nkind="fsfreeze"\nname="f"\nmountpoint="/a"\n'
OTHER = MEMBER.replace('"f"', '"g"').replace('"/a"', '"/a/"')


def test_the_file_that_init_writes_means_the_defaults(path: Path) -> None:
    assert (path / "vsnapfs.toml").read_text() == DEFAULT_TEXT
    assert parse(DEFAULT_TEXT.encode(), "x") == Settings()
    (path / "vsnapfs.toml").unlink()
    with Repository.open(path, owner=False) as repository:
        assert repository.settings == Settings()


def test_the_file_that_init_writes_shows_every_key() -> None:
    shown = "\n".join(line.removeprefix("# ") for line in DEFAULT_TEXT.splitlines()[1:])
    sections = {name: sorted(keys) for name, keys in tomllib.loads(shown).items()}
    keys = ["allow_other", "data", "gid", "kernel_verify", "points", "scratch", "transport", "uid"]
    control = ["admin", "bookmark", "delete", "read", "socket"]
    check = ["anchor_key", "scrub"]
    journal = ["ack", "on_journal_failure", "reserve", "segment_size"]
    rules = [f"keep_{what}" for what in ("daily", "hourly", "last", "monthly", "weekly", "within", "yearly")]
    retention = [*rules, "maximum_size", "minimum_age", "names", "protection_window", "prune", "timezone"]
    events = ["command", "kinds", "timeout"]
    assert sections == {
        "journal": journal,
        "mount": keys,
        "check": check,
        "control": control,
        "retention": retention,
        "quiesce": ["NAME"],
        "events": events,
        "schedule": ["NAME"],
        "verify": ["NAME"],
        "media": ["NAME"],
        "archive": ["NAME"],
    }
    assert set(tomllib.loads(shown)["media"]["NAME"]) == {"kind", *PoolSettings.__struct_fields__}
    assert set(tomllib.loads(shown)["schedule"]["NAME"]) == {*Schedule.__struct_fields__} - {"cron"}
    assert set(tomllib.loads(shown)["verify"]["NAME"]) == {*Verification.__struct_fields__} - {"cron"}
    assert set(tomllib.loads(shown)["archive"]["NAME"]) == {*ArchivePolicy.__struct_fields__}
    profile = tomllib.loads(shown)["quiesce"]["NAME"]
    assert sorted(profile) == sorted(Profile.__struct_fields__)
    wanted = {"fsfreeze": FsfreezeSettings, "command": CommandSettings}
    assert [set(member) for member in profile["members"]] == [
        {"kind", *kind.__struct_fields__} for kind in wanted.values()
    ]
    parse(shown.replace('protection_window = ""', 'protection_window = "7d"').encode(), "x")


def test_every_key() -> None:
    settings = parse(
        b'[journal]\nsegment_size = "1.5M"\nack = "journal"\n[mount]\nallow_other = true\nuid = 7\ngid = 8\n', "x"
    )
    assert settings.journal.segment_bytes == 3 << 19
    assert settings.journal.ack == "journal"
    assert (settings.mount.allow_other, settings.mount.uid, settings.mount.gid) == (True, 7, 8)


def test_who_reads_the_data() -> None:
    settings = parse(
        b'[mount]\ndata = "auto"\nkernel_verify = false\nscratch = "/x"\n'
        b'[mount.points]\n"nightly-*" = "kernel"\n"*" = "verify"\n',
        "x",
    )
    assert (settings.mount.data, settings.mount.kernel_verify, settings.mount.scratch) == ("auto", False, "/x")
    assert list(settings.mount.points.items()) == [("nightly-*", "kernel"), ("*", "verify")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[journal]\n\nsegmentsize = "1M"\n', ["line 3", "'segmentsize'", "[journal]", "did you mean segment_size?"]),
        ("[mount]\nquota = 1\n", ["line 2", "'quota'", "allow_other, uid, gid, transport, data"]),
        ("# a\n[jurnal]\nack = 1\n", ["line 2", "'jurnal'", "did you mean journal?"]),
        ("acknowledge = 1\n", ["line 1", "'acknowledge'", "journal, mount"]),
        ('[journal]\nack = "never"\n', ["line 2", "journal.ack", "never"]),
        ('[journal]\nack = 1\n[mount]\nallow_other = "yes"\n', ["line 2", "journal.ack"]),
        ('[mount]\n"allow_other" = "yes"\n', ["line 2", "mount.allow_other"]),
        ('[journal]\nsegment_size = "64X"\n', ["line 2", "segment_size", "64X"]),
        ('[journal]\nack = "both"\nsegment_size = "1K"\n', ["line 3", "64 KiB to 16 GiB", "1K"]),
        ('[journal]\nsegment_size = "1T"\n', ["line 2", "1T"]),
        ("[journal]\nsegment_size = 64\n", ["line 2", "journal.segment_size"]),
        ("[mount]\nuid = -1\n", ["line 2", "mount.uid"]),
        ('[mount]\ndata = "fast"\n', ["line 2", "mount.data", "fast"]),
        ('[mount]\nuid = 1\nscratch = "tmp"\n', ["line 3", "mount.scratch", "not an absolute path"]),
        ('[mount]\nuid = 1\n[mount.points]\n"n-*" = "fast"\n', ["line 4", "mount.points.n-*", "fast"]),
        ('[check]\nscrub = "often"\n', ["line 2", "check.scrub", "often"]),
        ('[check]\nscrub = "0s"\n', ["line 2", "check.scrub", "no time"]),
        ('[check]\nanchor_key = "key"\n', ["line 2", "check.anchor_key", "not an absolute path"]),
        ('[control]\nsocket = "vsnapfs.sock"\n', ["line 2", "control.socket", "absolute path"]),
        ('[control]\nsocket = "/run/"\n', ["line 2", "control.socket"]),
        ('[control]\nsocket = "/run/x"\nread = "alice"\n', ["line 3", "control.read", "array"]),
        ('[control]\nsocket = "/run/x"\nread = ["a", 7]\n', ["line 3", "control.read", "str"]),
        ('[control]\nsocket = "/run/x"\nread = ["@"]\n', ["line 3", "control.read", "neither"]),
        ('[control]\ndelete = ["alice"]\n', ["line 2", "control.delete", "give `socket` too"]),
        ('[control]\nwrite = ["alice"]\n', ["line 2", "unknown key 'write' in [control]"]),
        ("[retention]\nkeep_daily = 7\n", ["line 1", "retention.protection_window", "has to be said"]),
        ('[retention]\nprotection_window = "0s"\n', ["line 2", "retention.protection_window", "no time"]),
        ('[retention]\ntimezone = "Mars"\n', ["line 2", "retention.timezone", "'Mars'"]),
        ("[retention]\nkeep_dayly = 1\n", ["line 2", "'keep_dayly'", "did you mean keep_daily?"]),
        (
            '[retention]\nprotection_window = "1d"\n[retention.names."n-*"]\nkeep_daily = 1\nkeep_within = "x"\n',
            ["line 5", "retention.names.n-*.keep_within", "'x'"],
        ),
        (
            '[retention]\n[retention.names."n-*"]\nkeep_daily = -1\n',
            ["line 3", "retention.names.n-*.keep_daily", ">= 0"],
        ),
        (
            '[retention.names."n-*"]\nprune = "1h"\n',
            ["line 2", "'prune'", "[retention.names.n-*]", "known are keep_last"],
        ),
        ('[events]\ncommand = "tell"\n', ["line 2", "events.command", "array"]),
        ('[events]\ncommand = [""]\n', ["line 2", "events.command", "no name"]),
        ('[events]\nkinds = ["gap_begun", "gap_begin"]\n', ["line 2", "events.kinds", "gap_begin"]),
        ("[schedule.a]\n", ["line 1", "schedule.a: ", "either `every` or `cron`"]),
        ('[schedule.a]\nevery = "1h"\n[schedule.b]\nevery = "x"\n', ["line 4", "schedule.b.every", "'x'"]),
        ('[schedule.a]\nevery = "1h"\njitter = "2h"\n', ["line 3", "schedule.a.jitter", "not less than 1h"]),
        ('[schedule.a]\ncron = "0 25 * * *"\n', ["line 2", "schedule.a.cron", "Bad hour"]),
        ('[schedule.a]\ncron = "0 2 * * *"\ntimezone = "Bonn"\n', ["line 3", "schedule.a.timezone", "'Bonn'"]),
        ('[schedule.a]\nevery = "1h"\nname = "x"\n', ["line 3", "unknown key 'name' in [schedule.a]"]),
        ('[schedule.a]\nevery = "1h"\nbookmark = "x"\n', ["line 3", "schedule.a.bookmark", "no {time}"]),
        ('[schedule.a]\nevery = "1h"\nquiesce = "db"\n', ["line 1", "schedule: a: there is no profile [quiesce.db]"]),
        ('[schedule.a]\nevery = "1h"\nbookmark = "/{time}"\n', ["line 1", "schedule: a: ", "not a bookmark name"]),
        ('[schedule."a b"]\nevery = "1h"\n', ["line 1", "schedule: ", "not a schedule name"]),
        ("[verify.a]\nmount = false\ncheck = false\n", ["line 1", "verify.a: ", "nothing would be proved"]),
        ('[verify.a]\nevery = "1h"\ncron = "0 2 * * *"\n', ["line 1", "verify.a: ", "either `every` or `cron`"]),
        ('[verify.a]\nevery = "0.1s"\n', ["line 2", "verify.a.every", "less than a second"]),
        ('[verify.a]\nbookmarks = "all"\n', ["line 2", "verify.a.bookmarks", "'all'"]),
        ('[verify.a]\ncommand = [""]\n', ["line 2", "verify.a.command", "no name"]),
        ('[verify.a]\ntimeout = "2d"\n', ["line 2", "verify.a.timeout", "to 1d"]),
        ('[verify.a]\nquota = "0"\n', ["line 2", "verify.a.quota", "nothing could be written"]),
        ('[verify.a]\nvolumes = ["x/y"]\n', ["line 1", "verify: a: ", "not a volume name"]),
        ('[verify."a b"]\nmount = true\n', ["line 1", "verify: ", "not a profile name"]),
        ('[events]\ntimeout = "1h"\n', ["line 2", "events.timeout", "600s"]),
        ('[events]\ntimeout = "soon"\n', ["line 2", "events.timeout", "soon"]),
        ("[events]\nhook = []\n", ["line 2", "unknown key 'hook' in [events]"]),
        ("[quiesce.db]\n", ["line 1", "quiesce.db: ", "`members`"]),
        ("[quiesce.db]\nmembers = []\n", ["line 2", "quiesce.db.members", "1 to 16"]),
        ("[quiesce.db]\nmembers = 3\n", ["line 2", "quiesce.db.members", "array"]),
        (f'{FIRST}[quiesce.db]\ndeadlin = "1s"\n{MEMBER}', ["line 6", "[quiesce.db]", "did you mean deadline?"]),
        (f'{FIRST}[quiesce.db]\ndeadline = "61s"\n{MEMBER}', ["line 6", "quiesce.db.deadline", "0.1s to 60s"]),
        (f'{FIRST}[quiesce.db]\ndeadline = "0s"\n{MEMBER}', ["line 6", "quiesce.db.deadline", "0.1s to 60s"]),
        (f'{FIRST}[quiesce.db]\ndeadline = "soon"\n{MEMBER}', ["line 6", "quiesce.db.deadline", "soon"]),
        (f'{FIRST}[quiesce.db]\nfallback = "copy"\n{MEMBER}', ["line 6", "quiesce.db.fallback", "copy"]),
        (f"{FIRST}[quiesce.db]\n{MEMBER}{MEMBER}", ["line 6", "quiesce.db.members", "two have the name 'f'"]),
        ("[events]\n[a.b]\n[a.b]\n", ["Cannot declare [a.b] twice", "line 3"]),
        (f"{FIRST}[quiesce.db]\n{MEMBER}{OTHER}", ["line 6", "quiesce.db.members", "two have the mountpoint '/a'"]),
        (
            f'{FIRST}[quiesce.db]\n{MEMBER}\n[[quiesce.db.members]]\nmount = "/x"\n',
            ["line 11", "a `kind` must be given", "fsfreeze", "command"],
        ),
        (
            f'{FIRST}[quiesce.db]\n{MEMBER}\n[[quiesce.db.members]]\nname = "x"\nkind = "fsfreze"\n',
            ["line 13", "quiesce.db.members.kind", "did you mean fsfreeze?"],
        ),
        (
            f'{FIRST}[quiesce.db]\n{MEMBER}\n[[quiesce.db.members]]\nkind = "fsfreeze"\nname = "x"\nmountpint = "/"\n',
            ["line 14", "[[quiesce.db.members]]", "did you mean mountpoint?"],
        ),
        (
            f'{FIRST}[quiesce.db]\n{MEMBER}\n[[quiesce.db.members]]\nkind = "fsfreeze"\nname = "x"\n',
            ["line 11", "quiesce.db.members: ", "`mountpoint`"],
        ),
        ('[quiesce.a]\nmembers = [{kind = "fsfreeze", name = "x", mountpoint = "y"}]\n', ["line 2", "not an absolute"]),
        (
            '[[quiesce.a.members]]\nkind = "command"\nname = "x"\nfreeze = []\nthaw = ["t"]\n',
            ["line 4", "quiesce.a.members.freeze", "a program at least"],
        ),
        (
            '[[quiesce.a.members]]\nkind = "command"\nname = "x"\nfreeze = ["f", 1]\nthaw = ["t"]\n',
            ["line 4", "quiesce.a.members.freeze", "str"],
        ),
        (
            '[[quiesce.a.members]]\nkind = "command"\nname = "x"\nfreeze = ["f"]\nthaw = ["\\u0000"]\n',
            ["line 5", "quiesce.a.members.thaw", "NUL"],
        ),
        (
            '[[quiesce.a.members]]\nkind = "fsfreeze"\nname = "-"\nmountpoint = "/"\n',
            ["line 1", "'-' is not a member name"],
        ),
        ('[quiesce."a b"]\n' + MEMBER.replace("db", '"a b"'), ["line 1", "quiesce: ", "not a profile name"]),
        ("journal.ack = 2\n", ["line 1", "journal.ack"]),
        ("journal = 1\n", ["line 1", "journal"]),
        ("[journal]\nack = \n", ["line 2"]),
        ("[journal]\n[journal]\n", ["line 2"]),
    ],
)
def test_errors_name_the_place(text: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text.encode(), "/r/vsnapfs.toml")
    message = str(caught.value)
    assert message.startswith("/r/vsnapfs.toml")
    assert "\n" not in message
    for part in said:
        assert part in message, message


def test_a_profile() -> None:
    settings = parse((FIRST + '[quiesce.db]\ndeadline = "1.5s"\nfallback = "crash"\n' + MEMBER + COMMAND).encode(), "x")
    assert settings.quiesce["ok"] == Profile(members=(FsfreezeSettings(name="f", mountpoint="/a"),))
    assert settings.quiesce["ok"].deadline_s == 10
    profile = settings.quiesce["db"]
    assert (profile.deadline_s, profile.fallback) == (1.5, "crash")
    command = CommandSettings(name="c", freeze=("f", "1"), thaw=("t",), prepare=("p",), consistency="filesystem")
    assert profile.members == (FsfreezeSettings(name="f", mountpoint="/a"), command)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UsageError, match="byte 2"):
        parse(b"a \xff", "x")


def test_the_segment_size_is_heeded(path: Path) -> None:
    (path / "vsnapfs.toml").write_text('[journal]\nsegment_size = "64K"\n')
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db0", size_bytes=1 << 20)
        for _ in range(4):
            put(repository, "db0", 0, b"x" * 70_000)
            repository.journal.commit()
        assert repository.journal.facts().segments >= 4


def test_nesting_without_end() -> None:
    with pytest.raises(UsageError, match="nested too deeply"):
        parse(b"a = " + b"[" * 5000, "x")


def test_a_number_without_end() -> None:
    with pytest.raises(UsageError, match="too many digits"):
        parse(b"[journal]\nsegment_size = " + b"9" * 5000, "x")
