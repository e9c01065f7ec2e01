"""The table of verbs: complete, and each row agrees with its request."""

from __future__ import annotations

import inspect
from typing import get_args

import msgspec
import pytest

from vsnapfs.core.errors import NotFoundError
from vsnapfs.daemon import requests
from vsnapfs.daemon.api import VERBS, Verb, verb_named, verb_of
from vsnapfs.daemon.requests import Request

pytestmark = pytest.mark.unit


def test_every_request_has_one_verb() -> None:
    defined = {value for value in vars(requests).values() if inspect.isclass(value) and issubclass(value, Request)}
    assert {verb.request for verb in VERBS.values()} == defined - {Request}
    assert len(VERBS) == len(defined) - 1


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_the_result_of_the_row_is_the_one_the_request_names(verb: Verb) -> None:
    (base,) = verb.request.__orig_bases__  # type: ignore[attr-defined]
    assert get_args(base) == (verb.result,)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_unknown_members_are_refused(verb: Verb) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `colour`"):
        msgspec.json.decode(b'{"colour": 1}', type=verb.request)


def test_a_verb_is_found_by_name_and_by_request() -> None:
    assert verb_of(requests.BookmarkList()) is verb_named("bookmark_list")


def test_an_unknown_verb_gets_near_names() -> None:
    with pytest.raises(NotFoundError) as caught:
        verb_named("bookmark_ad")
    assert caught.value.near[0] == "bookmark_add"
