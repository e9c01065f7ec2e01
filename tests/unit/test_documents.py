"""The documents say everything that exists: commands, options, verbs, members of objects, settings; and their links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from vsnapfs.cli.main import vsnapfs
from vsnapfs.core import branch, errors, findings, hunt, keeping, model, replay, state, tapes
from vsnapfs.core.events import KINDS, Event
from vsnapfs.core.rights import RIGHTS
from vsnapfs.daemon.api import VERBS
from vsnapfs.policy.archiving import ArchivePolicy
from vsnapfs.policy.media import CommandSettings as CommandMedium
from vsnapfs.policy.media import DriveSettings, Medium, PoolSettings
from vsnapfs.policy.profiles import CommandSettings, FsfreezeSettings, MariaDBSettings, PostgreSQLSettings, Profile
from vsnapfs.policy.schedule import Schedule
from vsnapfs.policy.verification import Verification
from vsnapfs.repository.settings import Settings, parse

pytestmark = pytest.mark.unit

TOP = Path(__file__).parents[2]
DOCUMENTS = [TOP / "README.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").glob("*.md"))]
COMMAND = (TOP / "docs" / "command.md").read_text(encoding="utf-8")
SETTINGS = (TOP / "docs" / "settings.md").read_text(encoding="utf-8")
OBJECTS = [
    kind
    for module in (model, state, keeping, findings, branch, hunt, replay, tapes)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]
OF_MANY_NAMES = ("quiesce", "schedule", "verify", "media", "archive")
SECTIONS: dict[str, type[msgspec.Struct]] = {
    **{f"[{field.name}]": field.type for field in msgspec.structs.fields(Settings) if field.name not in OF_MANY_NAMES},
    "[quiesce.NAME]": Profile,
    "[schedule.NAME]": Schedule,
    "[verify.NAME]": Verification,
    "[media.NAME]": Medium,
    "[archive.NAME]": ArchivePolicy,
    "fsfreeze": FsfreezeSettings,
    "postgresql": PostgreSQLSettings,
    "mariadb": MariaDBSettings,
    "command": CommandSettings,
    "pool": PoolSettings,
    "drive": DriveSettings,
}  # fmt: skip
"""What the table of settings calls them: sections, and kinds of members and media."""
OF_EVERY_KIND = {"name", *Medium.__struct_fields__}
"""Keys that the table has once, for the section."""
ELSEWHERE = '[quiesce.{}]\nmembers = [{{ kind = "fsfreeze", name = "f", mountpoint = "/f" }}]\n'
"""A profile that an example only names."""
SAID_OTHERWISE = {
    ("[mount]", "uid"),
    ("[mount]", "gid"),
    ("mariadb", "option_file"),
    ("mariadb", "socket"),
    ("mariadb", "user"),
}
"""Defaults that no value can say."""


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


@pytest.mark.parametrize("kind", [*OBJECTS, Event], ids=lambda kind: kind.__name__)
def test_every_member_of_an_object_is_described(kind: type[msgspec.Struct]) -> None:
    """In the paragraph that begins with its name, if it has one."""
    chapter = COMMAND.split("\n## Objects\n")[1].split("\n## ")[0]
    own = [paragraph for paragraph in chapter.split("\n\n") if f"**{kind.__name__}**" in paragraph]
    text = own[0] if own else COMMAND
    assert [name for name in kind.__struct_fields__ if f"`{name}`" not in text and f'"{name}"' not in text] == []


def test_every_exit_status_is_described() -> None:
    statuses = {0, errors.VsnapfsError.exit_status} | {cls.exit_status for cls in errors.VsnapfsError.__subclasses__()}
    assert [status for status in sorted(statuses) if f"\n| {status} |" not in COMMAND] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_that_are_shown_can_be_used(document: Path) -> None:
    for shown in re.findall(r"^```toml\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        named = {
            name for name in re.findall(r'^quiesce = "(.+)"', shown, re.MULTILINE) if f"quiesce.{name}]" not in shown
        }
        parse((shown + "".join(ELSEWHERE.format(name) for name in named)).encode(), document.name)


def told_settings() -> dict[tuple[str, str], str]:
    """(section or kind of member, key) -> its default, as the table says it."""
    told: dict[tuple[str, str], str] = {}
    rows = re.findall(r"^\| (`\[.*?|… of kind .*?) \| (.*?) \| ", SETTINGS, re.MULTILINE)
    for names, defaults in rows:
        section, *keys = re.findall(r"`(.*?)`", names)
        each = defaults.split(", ")
        told |= {(section, key): each[i if len(each) > 1 else 0].strip("`") for i, key in enumerate(keys)}
    return told


def toml(value: object) -> str:
    """A default, as the settings write it."""
    if value is None or value is msgspec.NODEFAULT or value == {}:
        return "none"
    if value == ():
        return "[]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def test_every_setting_is_described_with_its_default() -> None:
    told = told_settings()
    apart = {("[mount]", "points"): "[mount.points]", ("[retention]", "names"): '[retention.names."PATTERN"]'}
    told_by_kind = ("[[quiesce.NAME.members]]", "name"), ("[[quiesce.NAME.members]]", "kind"), ("[media.NAME]", "kind")
    wanted = dict.fromkeys(told_by_kind, "none")
    pairs: list[tuple[str, type[msgspec.Struct]]] = [*SECTIONS.items(), ("command", CommandMedium)]
    for section, kind in pairs:
        for field in msgspec.structs.fields(kind):
            if section.startswith("[") or field.name not in OF_EVERY_KIND:
                wanted[apart.get((section, field.name), section), field.name] = toml(field.default)
    assert told.keys() == wanted.keys()
    differ = [place for place, default in told.items() if default != wanted[place] and place not in SAID_OTHERWISE]
    assert differ == []


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


def headings(document: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    here = [(document.parent / file if file else document, heading) for file, heading in links if "://" not in file]
    assert [file for file, _ in here if not file.exists()] == []
    assert [(file.name, heading) for file, heading in here if heading and heading not in headings(file)] == []
