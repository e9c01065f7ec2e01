"""What the global options say, and what each command does with it: ask the repository, show the answer.

-r/--repo, --socket, --json and --debug may stand before or after the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vsnapfs.core.errors import UsageError
from vsnapfs.repository.layout import FEDERATED

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
        self._repositories: list[Path] = []
        self._socket: Path | None = None
        self._said: set[str] = set()
        """Which of the two was given on the command line, and not by the environment."""

    def choose_repository(self, path: str, *, said: bool = True) -> None:
        if not path:
            raise UsageError("the repository's path is empty", hint="give -r REPO or set VSNAPFS_REPO")
        if said and "repository" not in self._said:
            self._repositories.clear()  # what the environment says
            self._said.add("repository")
        self._repositories.append(Path(os.path.abspath(path)))

    def choose_socket(self, path: str, *, said: bool = True) -> None:
        if not path:
            raise UsageError("the socket's path is empty", hint="give --socket PATH or set VSNAPFS_SOCKET")
        self._socket = Path(os.path.abspath(path))
        self._said |= {"socket"} if said else set()

    @property
    def repository(self) -> Path:
        """Absolute. Raises: UsageError: none was given, or several."""
        first, *others = self.repositories
        if set(others) - {first}:
            raise UsageError(
                f"{len(set(self.repositories))} repositories were named",
                hint="only `bookmark add` takes -r more than once",
            )
        return first

    @property
    def repositories(self) -> list[Path]:
        """Absolute, in the order of the command line. Raises: UsageError: none was given."""
        if not self._repositories:
            for_all = "give -r REPO or set VSNAPFS_REPO"
            hint = for_all if self._socket is None else f"a socket does not do for this: {for_all}"
            raise UsageError("no repository was named", hint=hint)
        return list(self._repositories)

    @property
    def repositories_said(self) -> list[Path]:
        """Those of the command line, for who can do with several. Raises: UsageError: a socket beside several."""
        if "repository" not in self._said:
            return []
        if "socket" in self._said and len(self._repositories) > 1:
            raise UsageError("--socket is the way to one repository", hint="leave it out, or give one -r")
        return list(self._repositories)

    @property
    def arguments(self) -> list[str]:
        """The global options again, for another run of the command."""
        chosen = [("--json", self.json), ("--debug", self.debug)]
        return ["--repo", str(self.repository), *(option for option, wanted in chosen if wanted)]

    def client(self) -> Client:
        """By a socket, if one was named; the command line wins over the environment."""
        from vsnapfs.daemon.client import connect, connect_socket

        if self._said == {"repository", "socket"}:
            raise UsageError("-r and --socket both say whom to ask", hint="give one of them")
        chosen = self._socket_chosen()
        return connect(self.repository) if chosen is None else connect_socket(chosen)

    def _socket_chosen(self) -> Path | None:
        return None if "repository" in self._said else self._socket

    def ask(self, request: Request[R]) -> R:
        """The repository's answer, with a progress bar on a terminal while it works."""
        from vsnapfs.cli.progress import shown

        self._settle(request)
        with shown(wanted=not self.json) as report:
            return self.client().call(request, report)

    def ask_again(self, request: Request[R]) -> R:
        """The same of what may be done twice: if a worker dies over it, the next one is asked."""
        from vsnapfs.daemon.again import call_again

        self._settle(request)
        return call_again(self.client(), request)

    def _settle(self, request: Request[Any]) -> None:
        if self._may_be_unsettled():
            from vsnapfs.daemon.api import verb_of

            if verb_of(request).place == "owner":
                self.settle()

    def settle(self) -> None:
        """Without a server it is the command's to ask what became of bookmarks over several repositories, before it changes
        anything."""
        if self._may_be_unsettled():
            from vsnapfs.daemon.settling import settle_unserved

            settle_unserved(self.repository)

    def _may_be_unsettled(self) -> bool:
        return self._socket_chosen() is None and os.path.isdir(self.repository / FEDERATED)

    def show(self, answer: Any, lines: Iterable[str]) -> None:
        """Print ``answer`` as one JSON object with --json, else ``lines``."""
        if self.json:
            import json

            import msgspec

            try:
                lines = [msgspec.json.encode(answer).decode()]
            except UnicodeEncodeError:  # a path that is no UTF-8: its odd bytes as lone surrogates, as Python has them
                lines = [json.dumps(msgspec.to_builtins(answer), separators=(",", ":"))]
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _is_said(ctx: click.Context, param: click.Parameter) -> bool:
    """Given on the command line, not by the environment."""
    assert param.name is not None
    return ctx.get_parameter_source(param.name) == click.core.ParameterSource.COMMANDLINE


class _RepositoryPath(click.Path):
    """The environment names one, which may have a colon in its path."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


def _choose(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> None:
    for path in paths:
        ctx.ensure_object(Session).choose_repository(path, said=_is_said(ctx, param))


def _choose_socket(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.ensure_object(Session).choose_socket(path, said=_is_said(ctx, param))


def _set_json(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    ctx.ensure_object(Session).json |= wanted


def _set_debug(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    ctx.ensure_object(Session).debug |= wanted


def global_options(*, env: bool = False) -> Callable[[F], F]:
    """The options that stand before or after the command. env: also from the environment; only for those before, so that
    it never wins."""

    def decorate(function: F) -> F:
        repository = click.option(
            "-r",
            "--repo",
            metavar="REPO",
            envvar="VSNAPFS_REPO" if env else None,
            expose_value=False,
            callback=_choose,
            multiple=True,
            type=_RepositoryPath(),
            help="The repository; default: VSNAPFS_REPO. More than once: see bookmark add.",
        )
        socket = click.option(
            "--socket",
            metavar="PATH",
            envvar="VSNAPFS_SOCKET" if env else None,
            expose_value=False,
            callback=_choose_socket,
            type=click.Path(),
            help="Ask the server that listens there, in place of -r; default: VSNAPFS_SOCKET.",
        )
        json = click.option(
            "--json", is_flag=True, expose_value=False, callback=_set_json, help="Print one JSON object."
        )
        debug = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show where an error comes from."
        )
        return repository(socket(json(debug(function))))

    return decorate


pass_session = click.make_pass_decorator(Session, ensure=True)
