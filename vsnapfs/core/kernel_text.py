"""Tables that the kernel writes as text, such as mountinfo."""

from __future__ import annotations


def lines(table: bytes) -> list[str]:
    """Its lines, for any names in them: the kernel escapes a line end in a name, and none of the other characters at which
    ``splitlines`` cuts and which reading a file as text changes (a carriage return, a form feed, U+2028). Whoever may mount may
    choose such a name. What is not UTF-8 is kept as surrogates."""
    return table.decode("utf-8", errors="surrogateescape").removesuffix("\n").split("\n") if table else []
