"""What the global options say, and what each command does with it: ask the repository, show the answer.

-r/--repo, --json and --debug may stand before or after the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vsnapfs.core.errors import UsageError

if TYPE_CHECKING:
    from vsnapfs.daemon.client import Client
    from vsnapfs.daemon.requests import Request

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Session:
    """One run of the command."""

    def __init__(self, *, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.debug = debug
        self._repository: Path | None = None

    def choose_repository(self, path: str) -> None:
        if not path:
            raise UsageError("the repository's path is empty", hint="give -r REPO or set VSNAPFS_REPO")
        self._repository = Path(os.path.abspath(path))

    @property
    def repository(self) -> Path:
        """Absolute. Raises: UsageError: none was given."""
        if self._repository is None:
            raise UsageError("no repository was named", hint="give -r REPO or set VSNAPFS_REPO")
        return self._repository

    @property
    def arguments(self) -> list[str]:
        """The global options again, for another run of the command."""
        chosen = [("--json", self.json), ("--debug", self.debug)]
        return ["--repo", str(self.repository), *(option for option, wanted in chosen if wanted)]

    def client(self) -> Client:
        from vsnapfs.daemon.client import connect

        return connect(self.repository)

    def ask(self, request: Request[R]) -> R:
        """The repository's answer, with a progress bar on a terminal while it works."""
        from vsnapfs.cli.progress import shown

        with shown(wanted=not self.json) as report:
            return self.client().call(request, report)

    def show(self, answer: Any, lines: Iterable[str]) -> None:
        """Print ``answer`` as one JSON object with --json, else ``lines``."""
        if self.json:
            import msgspec

            lines = [msgspec.json.encode(answer).decode()]
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _choose(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.ensure_object(Session).choose_repository(path)


def _set_json(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    ctx.ensure_object(Session).json |= wanted


def _set_debug(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    ctx.ensure_object(Session).debug |= wanted


def global_options(*, envvar: str | None = None) -> Callable[[F], F]:
    """The options that stand before or after the command. envvar: only for those before, so that it never wins."""

    def decorate(function: F) -> F:
        repository = click.option(
            "-r",
            "--repo",
            metavar="REPO",
            envvar=envvar,
            expose_value=False,
            callback=_choose,
            type=click.Path(),
            help="The repository; default: VSNAPFS_REPO.",
        )
        json = click.option(
            "--json", is_flag=True, expose_value=False, callback=_set_json, help="Print one JSON object."
        )
        debug = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show where an error comes from."
        )
        return repository(json(debug(function)))

    return decorate


pass_session = click.make_pass_decorator(Session, ensure=True)
