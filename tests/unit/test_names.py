"""Names: the rule at every door, and near names for those who mistype."""

from __future__ import annotations

import errno

import pytest

from vsnapfs.core.errors import NameTooLongError, UsageError
from vsnapfs.core.names import NameKind, check_name, near


@pytest.mark.parametrize("name", ["a", "0", "A.b_c+d:e@f-g", "x" * 127, "10:15", "nightly-2026-11-23", "MANIFEST.json"])
def test_good_bookmark_names(name: str) -> None:
    assert check_name(name, "bookmark") == name


@pytest.mark.parametrize("kind", ["volume", "bookmark", "profile", "member"])
@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", ".a", "@1", "a/b", "a b", "a\n", "a\0", "ä", "a..b", "a,b", "a\udcff", "\ud800"]
)
def test_bad_names_get_the_rule(name: str, kind: NameKind) -> None:
    with pytest.raises(UsageError, match="a name is 1 to 127 of") as caught:
        check_name(name, kind)
    assert caught.value.errno == errno.EINVAL
    assert "\n" not in str(caught.value)


def test_a_long_name_is_too_long() -> None:
    with pytest.raises(NameTooLongError, match="128 characters is too long"):
        check_name("x" * 128, "volume")


@pytest.mark.parametrize("name", ["latest", "2026-11-23", "2026-11-23T10:15", "2026-99-99"])
def test_a_bookmark_cannot_be_named_like_another_point(name: str) -> None:
    with pytest.raises(UsageError, match="reads as another form of point"):
        check_name(name, "bookmark")
    assert check_name(name, "volume") == name


def test_a_volume_cannot_hide_the_manifest() -> None:
    with pytest.raises(UsageError, match="describes each point"):
        check_name("MANIFEST.json", "volume")


def test_near_names_best_first_whatever_their_case() -> None:
    assert near("mundy", ["Monday", "Sunday", "db0"]) == ["Sunday", "Monday"]
    assert near("DB1", ["db0"]) == ["db0"]
    assert near("quite-different", ["db0"]) == []
