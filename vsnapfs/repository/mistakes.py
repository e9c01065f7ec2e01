"""Where in ``vsnapfs.toml`` a mistake is, and what it is, in one line.

The decoder says what is wrong, but not in which of several tables of a user's own names, and knows nothing of lines. So the
document is taken apart along the types of the settings until the smallest part is found that is refused by itself, and
the text is searched for the line that this part stands in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple, TypeAlias, Union, get_args, get_origin

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import near

Path: TypeAlias = tuple[str | int, ...]

_AT = re.compile(r" - at `[^`]*`$")
_TABLE = re.compile(r"\('[^()]*\)")
_WORD = re.compile(r"'([^']*)'")
_PART = re.compile(
    r"""\s*(?:"(?P<basic>(?:[^"\\]|\\.)*)"|'(?P<literal>[^']*)'|(?P<bare>[A-Za-z0-9_-]+))\s*(?P<end>.?)"""
)
_HEADING = re.compile(r"\s*(?P<array>\[?)\[(?P<name>[^\]]*)\]")


class Mistake(NamedTuple):
    """The smallest part of a document that cannot be. path: of it, ints are positions in arrays."""

    path: Path
    what: str
    named: bool = False
    """True if ``what`` names the part itself."""


def no_toml(source: str, refusal: ValueError) -> UsageError:
    """The error to raise for a text that is none. A table is named as it is written, not as Python's parser has it."""
    said = _TABLE.sub(lambda table: "[" + ".".join(_WORD.findall(table[0])) + "]", str(refusal))
    return UsageError(f"{source}: {said}")


def error(source: str, text: str, document: Any, shape: type[msgspec.Struct], message: str) -> UsageError:
    """The error to raise for settings that the decoder has refused with ``message``. source: names the file."""
    found = locate(document, shape) or Mistake((), message)
    line = line_of(text, found.path)
    place = f"{source} line {line}" if line else source
    subject = ".".join(part for part in found.path if isinstance(part, str))
    return UsageError(f"{place}: {found.what}" if found.named or not subject else f"{place}: {subject}: {found.what}")


def locate(value: Any, hint: Any, path: Path = ()) -> Mistake | None:
    """The first part of ``value``, or of a part of it, that the decoder refuses; None: it takes all of it."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as refusal:
        what = _AT.sub("", str(refusal))
    else:
        return None
    kind = _kind_of(value, hint)
    if isinstance(kind, Mistake):
        return kind._replace(path=path + kind.path)
    if _is_struct(kind) and isinstance(value, dict):
        unknown = _unknown(value, kind, path)
        if unknown is not None:
            return unknown
    for key, part, part_hint in _parts(value, kind):
        found = locate(part, part_hint, (*path, key))
        if found is not None:
            return found
    key, colon, rest = what.partition(": ")
    if colon and _is_struct(kind) and key in kind.__struct_fields__:  # from a __post_init__, which knows the key
        return Mistake((*path, key), rest)
    return Mistake(path, what)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _kind_of(value: Any, hint: Any) -> Any:
    """``hint``, or of several structs the one that ``value`` says it is; or what is wrong with that."""
    kinds = get_args(hint) if get_origin(hint) in (UnionType, Union) else ()
    if not kinds or not all(map(_is_struct, kinds)) or not isinstance(value, dict):
        return hint
    field = kinds[0].__struct_config__.tag_field
    by_tag = {kind.__struct_config__.tag: kind for kind in kinds}
    tag = value.get(field)
    if tag in by_tag:
        return by_tag[tag]
    if not isinstance(tag, str):
        return Mistake((), f"a `{field}` must be given: {', '.join(by_tag)}")
    meant = near(tag, by_tag)
    return Mistake((field,), f"{tag!r} is not known; " + (f"did you mean {meant[0]}?" if meant else _known(by_tag)))


def _known(names: Any) -> str:
    return f"known are {', '.join(names)}"


def _unknown(table: dict[str, Any], kind: type[msgspec.Struct], path: Path) -> Mistake | None:
    known = kind.__struct_fields__
    tag = kind.__struct_config__.tag_field
    strange = [key for key in table if key not in known and key != tag]
    if not strange:
        return None
    meant = near(strange[0], known)
    advice = f"did you mean {meant[0]}?" if meant else _known(known)
    what = f"key {strange[0]!r} in {_heading(path)}" if path else f"section or key {strange[0]!r}"
    return Mistake((*path, strange[0]), f"unknown {what}; {advice}", named=True)


def _heading(path: Path) -> str:
    name = ".".join(part for part in path if isinstance(part, str))
    return f"[[{name}]]" if isinstance(path[-1], int) else f"[{name}]"


def _parts(value: Any, hint: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """What ``value`` is made of: where in it, the part, the type that it shall have."""
    if _is_struct(hint) and isinstance(value, dict):
        for field in msgspec.structs.fields(hint):
            if field.encode_name in value:
                yield field.encode_name, value[field.encode_name], field.type
    elif get_origin(hint) is dict and isinstance(value, dict):
        for key, part in value.items():
            yield key, part, get_args(hint)[1]
    elif get_origin(hint) in (tuple, list) and isinstance(value, list):
        for position, part in enumerate(value):
            yield position, part, get_args(hint)[0]


def line_of(text: str, path: Path) -> int | None:
    """Line of the part, else of the nearest one around it, else of the first one in it; None: it is written in a way that
    this does not know."""
    around: tuple[int, int] | None = None
    inside: int | None = None
    for number, where in _lines(text):
        if path[: len(where)] == where and (around is None or len(where) > around[0]):
            around = (len(where), number)
        if inside is None and where[: len(path)] == path:
            inside = number
    if around is not None and (around[0] == len(path) or inside is None):
        return around[1]
    return inside


def _lines(text: str) -> Iterator[tuple[int, Path]]:
    """Lines that begin something, with its path."""
    seen: Counter[Path] = Counter()
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        heading = _HEADING.match(line)
        if heading is not None:
            table = _key(heading["name"]) or ()
            if heading["array"]:
                seen[table] += 1
                table = (*table, seen[table] - 1)
            yield number, table
        elif (key := _key(line, "=")) is not None:
            yield number, table + key


def _key(text: str, until: str = "") -> Path | None:
    """The parts of a dotted key that ends before ``until``; None: there is none."""
    parts: list[str] = []
    position = 0
    while (part := _PART.match(text, position)) is not None:
        parts.append(part["basic"] or part["literal"] or part["bare"] or "")
        position = part.end()
        if part["end"] == until:
            return tuple(parts)
        if part["end"] != ".":
            return None
    return None
