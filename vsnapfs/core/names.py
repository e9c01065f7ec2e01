"""Names of volumes, bookmarks and branches: one rule, checked at every door; and names that look like a name.

A name becomes a directory entry of the mount, a line of a script, a member of a tar archive: so there is no ``/``, no
space, no leading dash or dot, and nothing that has to be quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from vsnapfs.core.errors import NameTooLongError, UsageError
from vsnapfs.core.points import NAME, is_reserved

NAME_LENGTH_MAX = 127
RULE = "a name is 1 to 127 of A-Z a-z 0-9 . _ + : @ -, begins with a letter or digit and has no '..'"
MANIFEST = "MANIFEST.json"
"""Stands in every directory of volumes, so no volume can have that name."""

NameKind = Literal["volume", "bookmark", "profile", "member", "schedule", "branch", "medium", "tape", "policy"]


def check_name(name: str, kind: NameKind) -> str:
    """Return ``name`` if a ``kind`` may have it.

    Raises: NameTooLongError: over 127 bytes. UsageError: breaks the rule, or means something else already.
    """
    if len(name.encode(errors="surrogatepass")) > NAME_LENGTH_MAX:
        raise NameTooLongError(f"{kind} name of {len(name)} characters is too long", hint=RULE)
    if NAME.fullmatch(name) is None or ".." in name:
        raise UsageError(f"{name!r} is not a {kind} name", hint=RULE)
    if kind == "bookmark" and is_reserved(name):
        raise UsageError(f"{name!r} cannot name a bookmark", hint="it reads as another form of point")
    if kind == "volume" and name == MANIFEST:
        raise UsageError(f"{name!r} cannot name a volume", hint="a file of that name describes each point")
    return name


def near(name: str, candidates: Iterable[str]) -> list[str]:
    """Up to three candidates that look like ``name``, best first. Case does not count."""
    from difflib import get_close_matches  # costs 5 ms, needed by errors only

    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    return [by_folded[folded] for folded in get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)]
