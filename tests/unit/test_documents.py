"""The documents say everything that exists: commands, options, verbs, members of objects, settings; and their links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from vsnapfs.cli.main import vsnapfs
from vsnapfs.core import errors, model
from vsnapfs.core.events import KINDS, Event
from vsnapfs.core.rights import RIGHTS
from vsnapfs.daemon.api import VERBS
from vsnapfs.policy.events import EventsSettings
from vsnapfs.policy.profiles import CommandSettings, FsfreezeSettings, MariaDBSettings, PostgreSQLSettings, Profile
from vsnapfs.policy.retention import RetentionSettings
from vsnapfs.policy.schedule import Schedule
from vsnapfs.repository.settings import CheckSettings, ControlSettings, JournalSettings, MountSettings

pytestmark = pytest.mark.unit

TOP = Path(__file__).parents[2]
DOCUMENTS = [TOP / "README.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").glob("*.md"))]
COMMAND = (TOP / "docs" / "command.md").read_text(encoding="utf-8")
OBJECTS = [
    model.Point,
    model.Volume,
    model.VolumeAt,
    model.Bookmark,
    model.VolumeDiff,
    model.Status,
    model.MountData,
    model.Check,
    model.Damage,
    model.Gap,
    model.AnchorProof,
    model.Anchor,
    model.Scrub,
    model.Fate,
    model.Reach,
    model.Prune,
    model.Compaction,
    model.Space,
    model.ChangedAfter,
    model.VolumeRate,
    model.Rates,
    model.Plan,
    Event,
    model.MemberOutcome,
    model.Quiesce,
    model.ScheduleState,
]


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


@pytest.mark.parametrize("name", [name for name, _ in commands(vsnapfs)])
def test_every_command_is_described(name: str) -> None:
    assert re.search(rf"^\| `{name}[ `]", COMMAND, re.MULTILINE)


def test_every_option_is_described() -> None:
    missing = [
        f"{name} {option}"
        for name, command in commands(vsnapfs)
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for option in param.opts
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", COMMAND)
    ]
    assert missing == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_described_with_its_request(verb: str) -> None:
    row = re.search(rf"^\|[^|]*`{verb}`[^|]*\|(.*)\|$", COMMAND, re.MULTILINE)
    assert row
    fields = [field.name for field in msgspec.structs.fields(VERBS[verb].request)]
    assert [name for name in fields if f"`{name}`" not in row[1]] == []


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_every_member_of_an_object_is_described(kind: type[msgspec.Struct]) -> None:
    chapter = COMMAND.split("\n## Objects\n")[1].split("\n## ")[0]
    assert [field.name for field in msgspec.structs.fields(kind) if f"`{field.name}`" not in chapter] == []


def test_every_exit_status_is_described() -> None:
    statuses = {0, errors.VsnapfsError.exit_status} | {cls.exit_status for cls in errors.VsnapfsError.__subclasses__()}
    assert [status for status in sorted(statuses) if f"\n| {status} |" not in COMMAND] == []


def test_every_setting_is_described() -> None:
    text = (TOP / "docs" / "settings.md").read_text(encoding="utf-8")
    kinds = (
        JournalSettings, MountSettings, CheckSettings, ControlSettings, RetentionSettings, EventsSettings,
        Profile, FsfreezeSettings, CommandSettings, PostgreSQLSettings, MariaDBSettings, Schedule,
    )  # fmt: skip
    fields = [field for kind in kinds for field in msgspec.structs.fields(kind)]
    assert [field.name for field in fields if f"`{field.name}`" not in text] == []


def test_every_right_is_described_with_the_commands_behind_it() -> None:
    text = (TOP / "docs" / "security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE))
    assert set(rows) == set(RIGHTS)
    words = {
        "repair": "check --repair",
        "resolve": "points by any form",
        "bookmark_space": "`bookmark list --space`",
        "prune_preview": "`prune --dry-run`",
    }
    for verb in VERBS.values():
        noun, _, what = verb.name.partition("_")
        wanted = words.get(verb.name, f"`{noun} {what}`" if what and noun == "bookmark" else what or noun)
        assert wanted in rows[verb.request.right], verb.name


def test_every_kind_of_event_is_described_with_its_severity() -> None:
    text = (TOP / "docs" / "events.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    assert rows == {kind: told.severity for kind, told in KINDS.items()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    here = [link for link in links if "://" not in link]
    assert [link for link in here if not (document.parent / link).exists()] == []
