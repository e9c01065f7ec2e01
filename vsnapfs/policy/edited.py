"""A plan put into the text of ``vsnapfs.toml``: what people wrote, their comments too, stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import tomlkit
from tomlkit.items import Table

from vsnapfs.core.errors import UsageError

SCHEDULE = "planned"
"""The schedule that a plan makes, or changes."""


def edited(text: str, retention: Mapping[str, str | int], every: str) -> str:
    """The text with those keys in ``[retention]``, and bookmarks so often. Raises: UsageError: it is no TOML."""
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise UsageError(f"the settings cannot be read: {error}") from error
    _table(document, "retention").update(retention)
    schedules = _table(document, "schedule", is_super_table=True)
    _table(schedules, SCHEDULE)["every"] = every
    return tomlkit.dumps(document)


def _table(parent: tomlkit.TOMLDocument | Table, name: str, *, is_super_table: bool = False) -> Table:
    if name not in parent:
        parent[name] = tomlkit.table(is_super_table)
    found = parent[name]
    if not isinstance(found, Table):
        raise UsageError(f"[{name}] is written in a way that a plan cannot change", hint="write it as a table")
    return found
