"""JSON from elsewhere: whatever is wrong with it is one error."""

from __future__ import annotations

import msgspec
import pytest

from vsnapfs.catalog import bodies
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import IntegrityError


class Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"name": 5}', b'{"name": "\xff"}', b'{"other": ' + b"[" * 100_000, b'{"other": ' * 100_000],
    ids=["empty", "half", "array", "type", "not UTF-8", "arrays without end", "objects without end"],
)
def test_what_is_wrong_is_one_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json(content, Named)
    with pytest.raises(IntegrityError, match="event @7 cannot be understood"):
        bodies.decode(content, bodies.BookmarkNamed, "bookmark", 7)


def test_members_that_are_not_known_are_ignored() -> None:
    assert from_json(b'{"name": "a", "other": 1}', Named) == Named("a")
