"""Somebody at the terminal, who is asked to do something with their hands."""

from __future__ import annotations

from collections.abc import Callable

from vsnapfs.core.errors import NotFoundError, TimedOutError

TERMINAL = "/dev/tty"


def asker() -> Callable[[str], None] | None:
    """Says a line on the terminal and waits for return, whatever standard input is; None: there is no terminal."""
    try:
        with open(TERMINAL, "rb"):
            return _ask
    except OSError:
        return None


def _ask(line: str) -> None:
    """Raises: NotFoundError: the terminal has gone. TimedOutError: it was closed in place of an answer."""
    try:
        with open(TERMINAL, "r+b", buffering=0) as terminal:
            terminal.write(f"vsnapfs: {line}, then press return: ".encode())
            answer = terminal.readline()
    except OSError as error:
        raise NotFoundError(f"nobody is there to {line}") from error
    if not answer:
        raise TimedOutError(f"nobody answered; please {line}, and run this again")
