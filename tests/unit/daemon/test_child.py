"""Commands of ours in processes of their own: what is heard of one that fails, and that none is waited for which it left behind."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import trio

from vsnapfs.core.errors import NoSpaceError
from vsnapfs.daemon import child
from vsnapfs.daemon.child import SAID_BYTES_MAX, Ended, run_child

pytestmark = pytest.mark.unit

FAILURE = '{"error": {"kind": "NoSpaceError", "message": "no tape has room", "fields": {}}}'


async def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Ended:
    """Of a shell script in place of the command."""
    stub = tmp_path / "stub"
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(stub))
    with trio.fail_after(60):
        return await run_child(tmp_path, ["archive"])


async def test_why_it_fails_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else was said before, and however much."""
    much = f"head -c {3 * SAID_BYTES_MAX} /dev/zero | tr '\\0' x >&2; echo >&2"
    found = await ended(tmp_path, monkeypatch, f"{much}\necho '{FAILURE}' >&2\nexit 7")
    assert found.status == 7
    assert isinstance(found.error, NoSpaceError)


async def test_its_last_words_are_heard_however_late_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(child, "_hear", deaf)
    found = await ended(tmp_path, monkeypatch, f"echo '{FAILURE}' >&2\nexit 7")
    assert isinstance(found.error, NoSpaceError)


async def test_what_it_has_left_behind_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it could not end the programs that it had started, and they hold on to its pipe."""
    pid = tmp_path / "pid"
    try:
        found = await ended(tmp_path, monkeypatch, f"sleep 1000 &\necho $! > {pid}\necho gone >&2\nkill -9 $$")
        assert (found.status, found.error, found.said) == (-9, None, "gone")
    finally:
        os.kill(int(pid.read_text()), 9)
