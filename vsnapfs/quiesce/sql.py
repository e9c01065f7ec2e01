"""What the members that are databases ask of a connection, and what can come of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from vsnapfs.core.errors import QuiesceError, TimedOutError


class RefusedError(Exception):
    """The server's answer is an error. ``code``: by the server's own table."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


MARGIN_S = 0.25


def server_limit_s(left_s: float, s_max: float) -> float:
    """How long a server gets for a statement that we wait ``left_s`` for. It gives up sooner than we, so that it can say so.

    Raises: TimedOutError: nothing is left."""
    if left_s <= 0:
        raise TimedOutError("no time was left")
    return min(left_s - min(left_s / 4, MARGIN_S), s_max)


class LostError(Exception):
    """The connection is gone; nothing can be asked by it any more, and what it held is let go."""


class Session(Protocol):
    """A connection. One thread's at a time."""

    def ask(self, sql: str, until: float, *values: str, s_max: float = math.inf) -> list[tuple[str, ...]]:
        """Have one statement executed, with the values in their places. s_max: the server gives it up after so long.

        Returns: its rows; NULL is "". Raises: TimedOutError: the server has given the statement up, or we, at ``until``, a reading of
        time.monotonic(), the connection. RefusedError. LostError.
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
