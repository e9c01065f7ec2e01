"""A plan put into the text of ``vsnapfs.toml``: what people wrote, their comments too, stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping

import tomlkit
from tomlkit.items import Table

from vsnapfs.core.errors import UsageError

SCHEDULE = "planned"
"""The schedule that a plan makes, or changes."""

_HEADER = re.compile(r"^\[retention\][^\n]*\n", re.MULTILINE)


def edited(text: str, retention: Mapping[str, str | int], every: str) -> str:
    """The text with those keys in ``[retention]``, and bookmarks so often. Raises: UsageError: it is no TOML, or written in a
    way that cannot be changed."""
    document = _parsed(text)
    new = [key for key in retention if key not in _table(document, "retention")]
    lines = "".join(f"{key} = {tomlkit.item(retention[key]).as_string()}\n" for key in new)
    # right under the header: at the end of the table they would be behind tables that are commented out, and get into one of those
    # when it is not any more
    document = _parsed(_HEADER.sub(lambda header: header[0] + lines, text, count=1))
    _table(document, "retention").update(retention)
    planned = _table(_table(document, "schedule", is_super_table=True), SCHEDULE, "schedule.")
    planned["every"] = every
    planned.pop("cron", None)
    return tomlkit.dumps(document)


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise UsageError(f"the settings cannot be read: {error}") from error


def _table(parent: tomlkit.TOMLDocument | Table, name: str, within: str = "", *, is_super_table: bool = False) -> Table:
    if name not in parent:
        parent[name] = tomlkit.table(is_super_table)
    found = parent[name]
    if not isinstance(found, Table):
        raise UsageError(f"[{within}{name}] is written in a way that a plan cannot change", hint="write it as a table")
    return found
