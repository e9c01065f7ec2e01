"""Progress bars: on a terminal, and nowhere else."""

from __future__ import annotations

import sys

import pytest

from vsnapfs.cli.progress import shown
from vsnapfs.core.state import Progress

pytestmark = pytest.mark.unit

STEPS = [
    Progress(what="import of db[0]", done=0, total=2048),
    Progress(what="import of db[0]", done=1024, total=2048),
    Progress(what="check", done=1, total=3, unit="files"),
]


def drawn(capsys: pytest.CaptureFixture[str], *, wanted: bool) -> tuple[str, str]:
    with shown(wanted=wanted) as report:
        for step in STEPS:
            report(step)
    return capsys.readouterr()


def test_on_a_terminal_there_is_a_bar_for_each_thing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    out, err = drawn(capsys, wanted=True)
    assert out == ""
    assert "import of db[0]" in err
    assert "check" in err


def test_elsewhere_there_is_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(capsys, wanted=True) == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert drawn(capsys, wanted=False) == ("", "")


def test_without_a_report_nothing_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with shown(wanted=True):
        pass
    assert capsys.readouterr() == ("", "")
