"""A command as a medium: what counts as taken, and what it is made to believe when a stream is broken off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import children_of, is_alive
from tests.support.waiting import eventually
from vsnapfs.core.errors import StoreError
from vsnapfs.media.command import CommandReader, CommandWriter, environment, filled
from vsnapfs.policy.media import CommandSettings

pytestmark = pytest.mark.unit

TOLD = {"label": "T00001", "archive": "u", "point": "monday", "extension": "tar.zst"}
TAKES = 'echo $$ > "$DIR/pid"; cat > "$DIR/part" && mv "$DIR/part" "$DIR/whole"'
"""As commands do that know when they have it all."""
STREAM = bytes(range(256)) * 2048


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIR", str(tmp_path))
    return tmp_path


def settings(script: str, read: str = "") -> CommandSettings:
    return CommandSettings(command=("sh", "-c", script), read=("sh", "-c", read) if read else ())


def begun(script: str) -> CommandWriter:
    return CommandWriter("off", settings(script), TOLD)


def pid_in(directory: Path) -> int:
    return int(
        eventually(lambda: (directory / "pid").exists() and (directory / "pid").read_text(), "the command to run")
    )


def gone(pid: int) -> None:
    eventually(lambda: not is_alive(pid), "the command to end")


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        action()
    return caught.value.message


def test_words_and_environment() -> None:
    assert filled(["cat", "{label}.{extension}", "{since}{other}"], TOLD) == ["cat", "T00001.tar.zst", "{other}"]
    assert environment(TOLD)["VSNAPFS_LABEL"] == "T00001"


def test_what_it_took_is_whole(directory: Path) -> None:
    writer = begun(TAKES + '; echo "$VSNAPFS_POINT" > "$DIR/point"')
    for at in range(0, len(STREAM), 100_000):
        writer.write(STREAM[at : at + 100_000])
    writer.finish()
    writer.abandon()
    assert (directory / "whole").read_bytes() == STREAM
    assert (directory / "point").read_text() == "monday\n"


def test_what_was_broken_off_is_never_taken_for_whole(directory: Path) -> None:
    writer = begun(TAKES)
    writer.write(STREAM)
    pid = pid_in(directory)
    writer.abandon()
    assert not is_alive(pid)
    assert not (directory / "whole").exists()


@pytest.mark.parametrize("killed", ["archive", "guard"])
def test_who_kills_the_archive_or_its_guard_kills_the_command(directory: Path, killed: str) -> None:
    code = (
        "import sys; from tests.unit.media.test_command import *\n"
        "writer = begun(TAKES); writer.write(STREAM); print('written', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as archive:
        try:
            assert archive.stdout is not None
            assert archive.stdout.readline() == b"written\n"
            pid = pid_in(directory)
            (guard,) = children_of(archive.pid)
            os.kill(archive.pid if killed == "archive" else guard, signal.SIGKILL)
            gone(pid)
            assert not (directory / "whole").exists()
        finally:
            archive.kill()
    gone(guard)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat >/dev/null; echo first >&2; echo 'no room' >&2; exit 3", "ended with status 3: no room"),
        ("exit 4", "ended with status 4"),
        ("exec <&-; exit 0", "ended before it had read everything"),
        ("head -c 5 >/dev/null", "ended before it had read everything"),
        ("cat >/dev/null; kill -9 $$", "was ended by signal 9"),
    ],
)
def test_a_command_that_fails(script: str, said: str) -> None:
    writer = begun(script)

    def give() -> None:
        writer.write(b"a little")  # which has room in the pipe
        writer.finish()

    def flood() -> None:
        for _ in range(64):
            writer.write(STREAM)
        writer.finish()

    assert refused(give) == f"the command of off {said}"
    writer.abandon()
    writer = begun(script)
    assert refused(flood) == f"the command of off {said}"
    writer.abandon()


def test_one_that_closes_the_pipe_and_stays_is_killed(directory: Path) -> None:
    writer = begun('echo $$ > "$DIR/pid"; exec <&-; exec sleep 1000')
    pid = pid_in(directory)

    def flood() -> None:
        while True:
            writer.write(STREAM)

    assert refused(flood) == "the command of off ended before it had read everything"
    gone(pid)


def test_a_program_that_is_not_there() -> None:
    writer = CommandWriter("off", CommandSettings(command=("/nowhere/x",)), TOLD)
    assert refused(writer.finish) == "cannot run the command of off: No such file or directory"


def test_a_write_that_waits_ends_when_it_is_given_up(directory: Path) -> None:
    writer = begun('echo $$ > "$DIR/pid"; exec sleep 1000')
    raised: list[str] = []

    def flood() -> None:
        for _ in range(64):
            writer.write(STREAM)

    thread = threading.Thread(target=lambda: raised.append(refused(flood)))
    thread.start()
    pid = pid_in(directory)
    writer.give_up()
    thread.join()
    writer.abandon()
    assert raised == ["the command of off was given up"]
    assert not is_alive(pid)


def test_what_a_command_has_left_behind_is_killed_with_it(directory: Path) -> None:
    writer = begun("setsid sh -c 'echo $$ > \"$DIR/pid\"; exec sleep 1000' & cat >/dev/null")
    pid = pid_in(directory)
    writer.abandon()
    gone(pid)


def test_it_is_read_back(directory: Path) -> None:
    (directory / "whole").write_bytes(STREAM)
    reader = CommandReader("off", settings("", 'cat "$DIR/whole"'), TOLD)
    buffer = bytearray(200_000)
    found = b""
    while count := reader.readinto(buffer):
        found += buffer[:count]
    assert found == STREAM
    assert reader.readinto(buffer) == 0
    reader.close()


def test_one_that_fails_in_the_end_is_not_believed(directory: Path) -> None:
    reader = CommandReader("off", settings("", "echo something; echo gone away >&2; exit 2"), TOLD)
    said = refused(lambda: reader.readinto(bytearray(100)))
    assert said == "the command that reads off ended with status 2: gone away"
    reader.close()


def test_who_reads_no_more_ends_the_command(directory: Path) -> None:
    reader = CommandReader("off", settings("", 'echo $$ > "$DIR/pid"; exec cat /dev/zero'), TOLD)
    assert reader.readinto(bytearray(100)) == 100
    pid = pid_in(directory)
    reader.close()
    gone(pid)


@pytest.mark.parametrize("read", ["exec sleep 1000", "exec >&-; exec sleep 1000"])
def test_a_read_that_waits_ends_when_it_is_given_up(read: str) -> None:
    """It waits for bytes, or for the end of a command that has none left."""
    reader = CommandReader("off", settings("cat", read), TOLD)
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.append(refused(lambda: reader.readinto(bytearray(10)))))
    reading.start()
    reader.give_up()
    reading.join(60)
    reader.close()
    reader.give_up()  # may come too late
    assert said == ["the command that reads off was given up"]
