"""Arguments of commands: points that begin with a dash, sizes, and names that the shell completes.

``-5min`` is a point and looks like an option. So before click parses, options and arguments are sorted apart as getopt
does it, and a dash with a digit begins an argument: no option of ours is a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from vsnapfs.cli.session import Session
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.core.units import parse_size


def sort_apart(words: Sequence[str], value_options: Collection[str]) -> list[str]:
    """Options first, then ``--``, then arguments, each in their order.

    Args: value_options: options, such as ``--at`` and ``-o``, that take the next word as their value.
    """
    options: list[str] = []
    arguments: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            arguments += words[at + 1 :]
            break
        if not word.startswith("-") or word == "-" or word[1].isdigit():
            arguments.append(word)
            at += 1
        else:
            length = 2 if _takes_next(word, value_options) else 1
            options += words[at : at + length]
            at += length
    return [*options, "--", *arguments]


def _takes_next(word: str, value_options: Collection[str]) -> bool:
    """True if the option's value is the next word. A cluster such as ``-fo`` takes it by its last letter."""
    if word.startswith("--"):
        return word in value_options
    taking = [index for index, letter in enumerate(word[1:], 1) if f"-{letter}" in value_options]
    return bool(taking) and taking[0] == len(word) - 1


class MountPath(click.Path):
    """A mount point, completed as a path and not looked at: a worker that looked would wait for its own answer."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


class PointsCommand(click.Command):
    """A command whose arguments may begin with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a word that is being completed may be half an option
            return super().parse_args(ctx, args)
        options = [param for param in self.params if isinstance(param, click.Option)]
        taking = {name for param in options if not (param.is_flag or param.count) for name in param.opts}
        return super().parse_args(ctx, sort_apart(args, taking))


class Name(click.ParamType):  # type: ignore[type-arg]
    """A text that the shell completes from names the repository has."""

    name = "name"

    def __init__(self, known: Callable[[Session], list[str]]) -> None:
        self._known = known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            names = self._known(ctx.ensure_object(Session))
        except (VsnapfsError, OSError):
            return []  # no repository, no names; the shell is no place to complain
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Size(click.ParamType):  # type: ignore[type-arg]
    """A size such as 10G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else parse_size(value)


def _volumes(session: Session) -> list[str]:
    from vsnapfs.daemon.requests import VolumeList

    return [volume.name for volume in session.client().call(VolumeList()).volumes]


def _bookmarks(session: Session) -> list[str]:
    from vsnapfs.daemon.requests import BookmarkList

    return [bookmark.name for bookmark in session.client().call(BookmarkList()).bookmarks]


def _branches(session: Session) -> list[str]:
    from vsnapfs.daemon.requests import BranchList

    return [branch.name for branch in session.client().call(BranchList()).branches]


def _sources(session: Session) -> list[str]:
    from vsnapfs.core.branch import SOURCE_PREFIX

    return [*_points(session), *(f"{SOURCE_PREFIX}{name}" for name in _branches(session))]


def _points(session: Session) -> list[str]:
    return [*_bookmarks(session), "latest"]


VOLUME = Name(_volumes)
BOOKMARK = Name(_bookmarks)
POINT = Name(_points)
BRANCH = Name(_branches)
SOURCE = Name(_sources)
"""A point or a branch."""
SIZE = Size()
CONSISTENCY = click.Choice(["crash", "filesystem", "application"])
