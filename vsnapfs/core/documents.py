"""JSON that came from elsewhere, and one error for whatever is wrong with it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def from_json(content: bytes | msgspec.Raw, shape: type[T]) -> T:
    """The document, of that shape. Raises: msgspec.DecodeError: it is not; also for bytes that are not UTF-8 and for nesting without end,
    for which the decoder has errors of its own."""
    try:
        return msgspec.json.decode(content, type=shape)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
