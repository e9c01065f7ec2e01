"""Tables: columns that line up, nothing that disturbs a terminal."""

from __future__ import annotations

import sys

import pytest

from vsnapfs.cli.table import moment, printable, table

pytestmark = pytest.mark.unit

HEADS = ["NAME", "SIZE"]
ROWS = [["db0", "10 GiB"], ["a-longer-name", "1 B"]]


def test_plain_columns_line_up() -> None:
    assert list(table(HEADS, ROWS)) == ["NAME           SIZE", "db0            10 GiB", "a-longer-name  1 B"]


def test_without_rows_there_are_heads() -> None:
    assert list(table(HEADS, [])) == ["NAME  SIZE"]


def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printable("a\x1b[2Jb\nc\u202eé") == "a\\x1b[2Jb\\nc\\u202eé"
    for on_terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda answer=on_terminal: answer)
        drawn = "\n".join(table(["PATH"], [["/\x1b]0;x\x07"]]))
        assert "\x1b]" not in drawn
        assert "\x07" not in drawn


def test_brackets_are_no_markup_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "[red]x" in "\n".join(table(["PATH"], [["[red]x"]]))


def test_a_moment_has_milliseconds() -> None:
    assert moment("2026-11-23T10:15:00.500999999Z") == "2026-11-23T10:15:00.500Z"
