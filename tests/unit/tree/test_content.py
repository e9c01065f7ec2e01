"""The cache of files that Python serves."""

from __future__ import annotations

import json

import pytest

from vsnapfs.core.model import Extent
from vsnapfs.tree.content import ContentCache, json_text

pytestmark = pytest.mark.unit


class Maker:
    """Makes content and counts how often."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return self.content


def test_content_is_made_once_while_it_is_kept() -> None:
    cache, maker = ContentCache(100), Maker(b"x" * 10)
    assert [cache.get("a", maker) for _ in range(3)] == [b"x" * 10] * 3
    assert maker.made == 1


def test_the_least_recently_used_goes_first() -> None:
    cache, a, b, c = ContentCache(20), Maker(b"a" * 10), Maker(b"b" * 10), Maker(b"c" * 10)
    for name, maker in (("a", a), ("b", b), ("a", a), ("c", c), ("a", a), ("b", b)):
        cache.get(name, maker)
    assert (a.made, b.made, c.made) == (1, 2, 1)


def test_content_above_the_bound_is_kept_until_the_next() -> None:
    cache, large, small = ContentCache(20), Maker(b"l" * 100), Maker(b"s")
    cache.get("large", large)
    cache.get("large", large)
    assert large.made == 1
    cache.get("small", small)
    cache.get("large", large)
    assert large.made == 2


def test_a_failure_is_not_kept() -> None:
    cache = ContentCache(20)

    def fail() -> bytes:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        cache.get("a", fail)
    assert cache.get("a", Maker(b"yes")) == b"yes"


def test_json_is_indented_and_ends_in_a_newline() -> None:
    text = json_text(Extent(offset_bytes=0, length_bytes=1, zero=True))
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 5
    assert json.loads(text) == {"offset_bytes": 0, "length_bytes": 1, "zero": True}
