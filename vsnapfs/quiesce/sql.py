"""What the members that are databases ask of a connection, and what can come of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from vsnapfs.core.errors import QuiesceError, TimedOutError


class RefusedError(Exception):
    """The server's answer is an error. ``code``: by the server's own table."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


class LostError(Exception):
    """The connection is gone; nothing can be asked by it any more, and what it held is let go."""


class Session(Protocol):
    """A connection. One thread's at a time."""

    def ask(self, sql: str, until: float, *values: str) -> list[tuple[str, ...]]:
        """Have one statement executed, with the values in their places.

        Returns: its rows; NULL is "". Raises: TimedOutError: not by ``until``, a reading of time.monotonic(): the server has given the
        statement up, or we the connection. RefusedError. LostError.
        """

    def close(self) -> None:
        """Waits for nothing. Any number of times."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Errors of a session become those that a member may raise, in one line that begins with what was tried."""
    try:
        yield
    except RefusedError as error:
        raise QuiesceError(f"{what}: {error}") from error
    except LostError as error:
        raise QuiesceError(f"{what}: the connection is lost: {error}") from error
    except TimedOutError as error:
        raise TimedOutError(f"{what}: {error}") from error
