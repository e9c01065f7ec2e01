"""Points that begin with a dash, whatever stands around them; names for the shell."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.cli.arguments import BOOKMARK, POINT, VOLUME, PointsCommand, sort_apart
from vsnapfs.cli.session import Session
from vsnapfs.daemon.client import connect, create
from vsnapfs.daemon.requests import BookmarkAdd, VolumeAdd

pytestmark = pytest.mark.unit

TAKING = {"--at", "--to", "-o"}


@pytest.mark.parametrize(
    ("words", "options", "arguments"),
    [
        ("", "", ""),
        ("a b", "", "a b"),
        ("-5min latest", "", "-5min latest"),
        ("latest -5min", "", "latest -5min"),
        ("-1h30min -5min db0 --json", "--json", "-1h30min -5min db0"),
        ("--json -5min", "--json", "-5min"),
        ("name --at -5min", "--at -5min", "name"),
        ("--at=-5min name", "--at=-5min", "name"),
        ("-o ro,x-a -5min", "-o ro,x-a", "-5min"),
        ("-fo ro -5min", "-fo ro", "-5min"),
        ("-oro -5min", "-oro", "-5min"),
        ("-5min db0 --to -", "--to -", "-5min db0"),
        ("- a", "", "- a"),
        ("--force -- -f --at x", "--force", "-f --at x"),
        ("--at -- x", "--at --", "x"),
        ("a --at", "--at", "a"),
        ("-5parsec", "", "-5parsec"),
        ("--5min", "--5min", ""),
    ],
)
def test_options_and_arguments_are_sorted_apart(words: str, options: str, arguments: str) -> None:
    assert sort_apart(words.split(), TAKING) == [*options.split(), "--", *arguments.split()]


@given(st.lists(st.sampled_from(["a", "-5min", "--at", "-o", "--json", "-f", "-fo", "-", "--", "--to=x", ""])))
def test_no_word_is_lost_but_one_separator(words: list[str]) -> None:
    sorted_apart = sort_apart(words, TAKING)
    assert sorted(sorted_apart) in (sorted([*words, "--"]), sorted(words))


def test_a_command_takes_them() -> None:
    @click.command(cls=PointsCommand)
    @click.argument("a", type=POINT)
    @click.argument("b", type=POINT)
    @click.option("--at")
    @click.option("-v", "--verbose", is_flag=True)
    def command(**given: object) -> object:
        return given

    args = ["-5min", "-v", "--at", "-1h", "-1d"]
    assert command.main(args, standalone_mode=False) == {"a": "-5min", "b": "-1d", "at": "-1h", "verbose": True}


@pytest.fixture
def session(memory_path: Path) -> Session:
    create(memory_path / "repository")
    client = connect(memory_path / "repository")
    for name in ("db0", "logs"):
        client.call(VolumeAdd(name=name, size_bytes=4096))
    for name in ("monday", "morning", "tuesday"):
        client.call(BookmarkAdd(name=name))
    session = Session()
    session.choose_repository(str(memory_path / "repository"))
    return session


def completed(session: Session, kind: click.ParamType, incomplete: str) -> list[str]:  # type: ignore[type-arg]
    context = click.Context(click.Command("x"), obj=session)
    items: list[CompletionItem] = kind.shell_complete(context, click.Argument(["x"]), incomplete)
    return [item.value for item in items]


def test_the_shell_completes_names(session: Session) -> None:
    assert completed(session, BOOKMARK, "mo") == ["monday", "morning"]
    assert completed(session, VOLUME, "") == ["db0", "logs"]
    assert completed(session, POINT, "l") == ["latest"]


def test_without_a_repository_nothing_is_completed(tmp_path: Path) -> None:
    nowhere = Session()
    assert completed(nowhere, BOOKMARK, "") == []
    nowhere.choose_repository(str(tmp_path / "nix"))
    assert completed(nowhere, POINT, "") == []
