"""``serve`` and ``mount``: with a keeper, as its worker, or alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from vsnapfs.cli.session import Session

if TYPE_CHECKING:
    from vsnapfs.daemon.holding import Holding

F = TypeVar("F", bound=Callable[..., Any])
Keeper = Literal["process", "systemd", "none"]
Work = Callable[["Holding", Callable[[], None]], None]
"""Serve with a holding; the second is to be called when the mount answers."""


def keeper_options(function: F) -> F:
    """``--keeper``, and ``--worker``, which a keeper gives to its workers."""
    keeper = click.option(
        "--keeper",
        type=click.Choice(["process", "systemd", "none"]),
        default="process",
        show_default=True,
        help="Who goes on with the mount when the process that serves it dies.",
    )
    return keeper(click.option("--worker", hidden=True)(function))


def run(
    session: Session,
    work: Work,
    announce: Callable[[], None],
    keeper: Keeper,
    worker: str | None,
    *,
    again: Sequence[str],
    live: bool,
    background: bool,
) -> int:
    """Serve until it has ended. Returns: the exit status.

    Args: again: the command's words, for a worker. live: for the owner of the repository. background: nobody reads what is
    printed.
    """
    from vsnapfs.daemon.background import let_go
    from vsnapfs.daemon.holding import KeeperHolding, given_from, holding_of
    from vsnapfs.daemon.keeper import keep
    from vsnapfs.daemon.logs import set_up

    given = None if worker is None else given_from(worker)
    quiet = background or (given is not None and given.background)
    if quiet:
        set_up("syslog")
    if given is not None:
        work(KeeperHolding(given), let_go if quiet else _nothing)
    elif keeper == "process":
        return keep(session.repository, [*session.arguments, *again], announce, live=live, background=background)
    else:
        work(holding_of(keeper, session.repository, live=live), announce)
    return 0


def _nothing() -> None:
    """The keeper has been told by the line."""
