"""Somebody at the terminal is asked, whatever standard input is; and nobody, where there is none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

ASKS = (
    "from vsnapfs.cli.prompt import asker; ask = asker(); ask('put tape A into /dev/nst0') if ask else print('nobody')"
)
END = b"\x04"


def asked(answer: bytes) -> tuple[int, str]:
    """Returns: how who asks ended, and what stood on the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", ASKS])
    shown = b""
    try:
        while b"return: " not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, answer)
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        pass  # it has ended
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_it_goes_on_when_return_is_pressed() -> None:
    status, shown = asked(b"\n")
    assert status == 0
    assert "vsnapfs: put tape A into /dev/nst0, then press return: " in shown


def test_an_end_in_place_of_an_answer() -> None:
    status, shown = asked(END)
    assert status == 1
    assert "TimedOutError: nobody answered; please put tape A into /dev/nst0, and run this again" in shown


def test_without_a_terminal_nobody_is_there() -> None:
    command = [sys.executable, "-c", ASKS]
    done = subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True)
    assert done.stdout == "nobody\n"
