"""The log of a hunt: whole lines count, a half one is cut off, what is none of ours is said so, one process at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from tests.unit.hunt.fakes import FakeGround, begin, point
from vsnapfs.cli.main import run
from vsnapfs.core.errors import (
    BusyError,
    DegradedError,
    FormatUnknownError,
    IntegrityError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    UsageError,
)
from vsnapfs.core.hunt import HuntProbe
from vsnapfs.hunt.log import Again, Cleared, Log, Making, Told, read

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with a beginning, a probe that was tested and not cleared, and one that was only begun."""
    path = tmp_path / "log"
    log = Log.create(path, begin(FakeGround([1, 9], {}), 1, 9))
    for number in (1, 2):
        log.add(Making(number=number, state=number, point=point(number), branch=f"b{number}", directory=""))
    probe = HuntProbe(number=1, point=point(1), verdict="good", exit_status=0, why="", seconds=1.5, output="")
    log.add(Told(state=1, verdict="good", probe=probe))
    log.close()
    return path


def test_a_log_tells_verdicts_and_what_may_be_left(path: Path) -> None:
    past = read(path)
    assert past.verdicts == {1: "good"}
    assert [spot.branch for spot in past.left] == ["b1", "b2"]
    assert (past.last_number, past.is_safe) == (2, False)
    log, _ = Log.resume(path)
    log.add(Cleared(number=1))
    log.close()
    assert [spot.branch for spot in read(path).left] == ["b2"]


def test_what_was_changed_when_it_went_on_counts(path: Path) -> None:
    log, _ = Log.resume(path)
    log.add(Again(time="", test=("other",), timeout_s=5.0, on_timeout="bad", jobs=3))
    log.close()
    changed = read(path).begin
    assert (changed.test, changed.timeout_s, changed.on_timeout, changed.jobs) == (("other",), 5.0, "bad", 3)
    assert changed.safety_bookmark == "before-hunt-0badcafe"


def test_half_a_line_is_cut_off_when_it_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"clea')
    assert read(path).verdicts == {1: "good"}
    log, _ = Log.resume(path)
    log.add(Cleared(number=2))
    log.close()
    assert path.read_bytes().startswith(whole + b'{"type":"cleared"')


def test_a_line_that_found_no_room_does_not_spoil_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is written, then the disk is full; when there is room again the log goes on."""
    whole = path.read_bytes()
    log, _ = Log.resume(path)
    write = os.write
    pieces = iter([10])

    def short(fd: int, content: bytes) -> int:
        try:
            return write(fd, content[: next(pieces)])
        except StopIteration:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    with monkeypatch.context() as full:
        full.setattr(os, "write", short)
        with pytest.raises(NoSpaceError, match="write"):
            log.add(Cleared(number=1))
    log.add(Cleared(number=2))
    log.close()
    assert path.read_bytes() == whole + b'{"type":"cleared","number":2}\n'


def test_what_is_not_text_makes_no_log(tmp_path: Path) -> None:
    beginning = begin(FakeGround([1, 9], {}), 1, 9)
    with pytest.raises(UsageError, match="is not text"):
        Log.create(tmp_path / "log", msgspec.structs.replace(beginning, test=("grep", "\udcff")))
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_writes_and_any_may_read(path: Path) -> None:
    log, _ = Log.resume(path)
    with pytest.raises(BusyError, match="at work"):
        Log.resume(path)
    assert read(path).last_number == 2
    log.close()
    log.close()
    Log.resume(path)[0].close()


def test_a_log_that_is_there_is_not_written_over(path: Path) -> None:
    with pytest.raises(NameTakenError, match="--resume"):
        Log.create(path, read(path).begin)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", FormatUnknownError),
        (b"hello\n", FormatUnknownError),
        (b"\xff\xfe\n", FormatUnknownError),
        (b'{"type":"cleared","number":1}\n', FormatUnknownError),
        (b"[" * 100_000 + b"\n", FormatUnknownError),
    ],
)
def test_what_is_no_log_is_said_so(path: Path, content: bytes, error: type[Exception]) -> None:
    path.write_bytes(content)
    with pytest.raises(error):
        read(path)
    with pytest.raises(error):
        Log.resume(path)
    assert path.read_bytes() == content, "it is left as it was"


def test_a_line_that_makes_no_sense_is_damage(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (
        b"{}\n",
        b'{"type":"cleared"}\n',
        b'{"type":"named","bookmarks":[],"states":[5]}\n',
        lines[3].replace(b'"state":1', b'"state":10', 1),
        lines[0],
    ):
        path.write_bytes(lines[0] + wrong + lines[1])
        with pytest.raises(IntegrityError):
            read(path)


def test_a_beginning_that_makes_no_sense_is_damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"bad_state":9', b'"bad_state":1', 1))
    with pytest.raises(IntegrityError, match="wrong order"):
        read(path)
    path.write_bytes(content.replace(b'"on_timeout":"abort"', b'"on_timeout":"laugh"', 1))
    with pytest.raises(FormatUnknownError):
        read(path)


def test_a_log_of_a_newer_version_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2', 1))
    with pytest.raises(FormatUnknownError, match="newer"):
        read(path)


def test_a_log_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for ask in (read, Log.resume):
        with pytest.raises(NotFoundError):
            ask(tmp_path / "none")


def test_a_log_from_elsewhere_does_nothing_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beginning = begin(FakeGround([1, 9], {}), 1, 9)
    odd = msgspec.structs.replace(
        beginning, good=point(1, "\x1b[2J"), bad=msgspec.structs.replace(point(9), time="\x1b" * 9)
    )
    Log.create(tmp_path / "log", odd).close()
    assert run(["hunt", "--replay", str(tmp_path / "log")]) == DegradedError.exit_status
    told = capsys.readouterr().out
    assert "unfinished:" in told
    assert "\x1b" not in told
