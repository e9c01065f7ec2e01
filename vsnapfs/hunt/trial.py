"""One run of a test, and what its end means: as `git bisect run` has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import trio

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import HuntAbortedError, TimedOutError
from vsnapfs.core.hunt import OnTimeout, Verdict
from vsnapfs.core.units import format_period
from vsnapfs.hunt import warden

SKIP_STATUS = 125
BAD_STATUS_MAX = 124
OUTPUT_BYTES_MAX = 16 << 20
GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
TAIL_BYTES = 4096
SAID_LENGTH_MAX = 160
ANSWER_BYTES_MAX = 1 << 16


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What the warden tells of a run, and how long it took."""

    how: Literal["ended", "timeout", "stopped", "failed"]
    status: int | None
    left: int
    stuck: int
    error: str
    seconds: float = 0.0


class Judgement(NamedTuple):
    """exit_status: None where there is none. why: "": it says all."""

    verdict: Verdict
    exit_status: int | None
    why: str


async def run(words: Sequence[str], environment: Mapping[str, str], timeout_s: float, output: Path) -> Trial:
    """Run a test to its end, or to ``timeout_s``; then nothing that it has started runs any more.

    Cancellation: the test is stopped, with SIGTERM first. Raises: HuntAbortedError: nobody can tell how it ended.
    """
    told = [str(output), str(timeout_s), str(GRACE_S), str(OUTPUT_BYTES_MAX)]
    began = trio.current_time()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", "-S", str(warden.__file__), *told, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        answer = await _answer(process)
    finally:
        await _ended(process)
    try:
        trial = from_json(answer, Trial)
    except msgspec.DecodeError as error:
        raise HuntAbortedError("the process that watched over the test was killed", hint="look who did") from error
    return msgspec.structs.replace(trial, seconds=trio.current_time() - began)


async def _answer(process: trio.Process) -> bytes:
    assert process.stdout is not None
    answer = b""
    async for piece in process.stdout:
        answer += piece[: ANSWER_BYTES_MAX - len(answer)]
    return answer


async def _ended(process: trio.Process) -> None:
    """Until the warden has ended, which it does when its line does."""
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.CancelScope(shield=True):
        await process.stdin.aclose()
        with trio.move_on_after(GRACE_S + 2 * warden.DIE_S_MAX):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()


def judged(trial: Trial, on_timeout: OnTimeout, timeout_s: float, test: str) -> Judgement:
    """The verdict. Raises: HuntAbortedError, TimedOutError: there is none, and a hunt cannot go on."""
    if trial.stuck:
        raise HuntAbortedError(
            f"{trial.stuck} processes of the test {test} cannot be killed", hint="they wait for a disk?"
        )
    if trial.how == "failed":
        raise HuntAbortedError(f"cannot run the test: {trial.error}")
    if trial.how == "timeout":
        return _late(on_timeout, timeout_s, test)
    status = trial.status
    if status is None or status < 0:
        name = "a signal" if status is None else _signal_name(-status)
        raise HuntAbortedError(f"the test {test} was killed by {name}", hint="a test ends with 0 to 125")
    if status > SKIP_STATUS:
        raise HuntAbortedError(f"the test {test} ended with {status}", hint="good is 0, bad 1 to 124, skip 125")
    why = f"{trial.left} processes that it had left were killed" if trial.left else ""
    verdict: Verdict = "skip" if status == SKIP_STATUS else "bad" if status else "good"
    return Judgement(verdict, status, why)


def _late(on_timeout: OnTimeout, timeout_s: float, test: str) -> Judgement:
    after = f"it was still running after {format_period(timeout_s)}"
    if on_timeout == "abort":
        hint = "--timeout gives it more time; --on-timeout says what such a point is: bad or skip"
        raise TimedOutError(f"the test {test} was still running after {format_period(timeout_s)}", hint=hint)
    return Judgement(on_timeout, None, after)


def last_line(output: Path) -> str:
    """Of what a test printed; "" if there is none."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return "".join(letter if letter.isprintable() else "?" for letter in (lines or [""])[-1])[:SAID_LENGTH_MAX]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
