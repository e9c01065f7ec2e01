"""Programs that this package runs: in the C locale, without input, what they print kept up to a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from vsnapfs.core.errors import NotFoundError, TimedOutError, from_os_error

KEPT_BYTES = 1 << 20
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], Any]
ELSEWHERE = "dmesg(1) may have more information"


class Ended(NamedTuple):
    """How a program ended. status: negative for a signal. output, errors: as text, the last of it where it is long."""

    status: int
    output: str
    errors: str

    def said(self) -> str:
        """Its last word, in one line; not that of mount(8), which only says where more is said."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(ELSEWHERE)]
        return told[-1] if told else f"exit status {self.status}"


def run(argv: Sequence[str], package: str, *, timeout_s: float | None = None, pass_fds: Sequence[int] = ()) -> Ended:
    """Run a program to its end. package: what it belongs to on Debian. pass_fds: what it shall hold open as long as it lives.

    Whatever ends this, the program has ended then: a mount(8) that lived on would mount after all has been taken away. A Ctrl-C, which
    a terminal sends to all of a group, is for who runs it: a mount(8) that it ended would look like one that has failed.

    Raises: NotFoundError: it is not installed. TimedOutError: it was killed after ``timeout_s``. VsnapfsError: it cannot be run.
    """
    try:
        with (
            _held_back() as let_go,
            subprocess.Popen(
                argv,
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=pass_fds,
                process_group=0,
            ) as process,
        ):
            try:
                let_go()
                output, errors = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                process.wait()  # subprocess.run does not, after a KeyboardInterrupt
                raise
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no program {argv[0]}", hint=f"it is in {package}") from error
    except subprocess.TimeoutExpired as error:
        raise TimedOutError(f"{argv[0]} did not end in {timeout_s:g} s and was killed") from error
    except OSError as error:
        raise from_os_error(error, f"run {argv[0]}") from error
    return Ended(process.returncode, _text(output), _text(errors))


@contextmanager
def _held_back() -> Iterator[Callable[[], None]]:
    """Signals are heard when the block calls what it gets: a handler that raised while a program begins would leave it to itself."""
    came: list[int] = []
    before: dict[int, Handler] = {}

    def let_go() -> None:
        handlers = dict(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        before.clear()
        if came:
            number = came[0]
            came.clear()
            handlers[number](number, None)

    try:
        if threading.current_thread() is threading.main_thread():  # in others nothing is raised
            for number in ASKING:
                handler = signal.getsignal(number)
                if callable(handler):
                    before[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield let_go
    finally:
        let_go()


def _text(printed: bytes) -> str:
    return printed[-KEPT_BYTES:].decode(errors="replace")
