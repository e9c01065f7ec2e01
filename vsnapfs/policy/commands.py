"""Commands that settings name: the words of one, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence

from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration


def check_command(words: Sequence[str]) -> None:
    """A program and its arguments; empty: none is run. Raises: ValueError: that cannot be run."""
    if words and not words[0]:
        raise ValueError("command: the program has no name")
    if any("\0" in word for word in words):
        raise ValueError("command: a word has a zero byte")


def timeout_seconds(text: str) -> float:
    """Raises: ValueError: no duration."""
    try:
        return parse_duration(text) / NS_PER_S
    except UsageError as error:
        raise ValueError(f"timeout: {error}") from error
