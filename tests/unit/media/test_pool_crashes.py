"""The process dies at each call that changes something: what counted still does, and the pool is gone on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.pool import Pool
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.tape import FileKind
from vsnapfs.policy.media import PoolSettings

pytestmark = pytest.mark.unit

CHANGING = ("mkdir", "write", "fsync", "rename", "unlink")
CALLS_MAX = 500


class CrashError(BaseException):
    """The process is gone."""


class Site:
    """A pool of two tapes, what a catalog would know of them, and what was written, by uuid and number."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.known: dict[str, TapeEntry] = {}
        self.written: dict[tuple[str, int], bytes] = {}
        self.now_ns = 1_795_000_000 * 10**9

    def pool(self) -> Pool:
        settings = PoolSettings(path=str(self.top), capacity="16K", block="512", piece="64K", tapes=2)
        return Pool("vault", settings, lambda: self.now_ns)

    def begun(self, label: TapeLabel) -> None:
        fields = {name: getattr(label, name) for name in label.__struct_fields__ if name != "format"}
        self.known[label.label] = TapeEntry(**fields)

    def archive(self) -> None:
        """A piece and its index."""
        self.now_ns += 1
        pool = self.pool()
        tape = pool.next(list(self.known.values()), self.begun)
        try:
            self._pair(tape)
        finally:
            tape.close()
            pool.close()

    def _pair(self, tape: PoolTape) -> None:
        assert tape.label is not None
        number = 0
        for kind in (FileKind.PIECE, FileKind.INDEX):
            content = f"{tape.label.uuid} {kind} {self.now_ns}".encode()
            number = len(tape.files())
            self.written[tape.label.uuid, number] = content  # it may be on tape, and nobody come to know
            writer = tape.append(kind)
            writer.write(content)
            assert writer.finish() == number
        entry = self.known[tape.label.label]
        self.known[tape.label.label] = msgspec.structs.replace(entry, files=number + 1, written_ns=self.now_ns)

    def retire(self) -> None:
        self.known = {
            name: msgspec.structs.replace(entry, state="retired", retired_ns=self.now_ns)
            for name, entry in self.known.items()
        }

    def assert_holds(self) -> None:
        """Whatever the catalog counts is there, and every file is whole."""
        for label, entry in self.known.items():
            if entry.files > 1 and entry.state != "retired":
                tape = PoolTape.at(self.top / label)
                assert tape.label is not None
                assert tape.label.uuid == entry.uuid
                for number in range(1, entry.files):
                    buffer = bytearray(4096)
                    reader = tape.open(number)
                    assert buffer[: reader.readinto(buffer)] == self.written[entry.uuid, number]
                    reader.close()
                tape.close()


@contextmanager
def dying_at(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[list[str]]:
    """The ``call``-th change is the last thing that the process does: half of what it writes, or nothing of the rest."""
    done: list[str] = []

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **others: Any) -> Any:
            done.append(name)
            if len(done) < call:
                return real(*args, **others)
            if len(done) == call and name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            raise CrashError

        return change

    with monkeypatch.context() as patched:
        for name in CHANGING:
            patched.setattr(os, name, dying(name, getattr(os, name)))
        yield done


def test_a_pool_is_gone_on_with_after_a_death_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in range(1, CALLS_MAX):
        site = Site(tmp_path / f"{call}")
        site.top.mkdir()
        site.archive()
        site.archive()
        site.retire()
        with dying_at(monkeypatch, call) as done, suppress(CrashError):
            site.archive()  # on the second tape or over the first
            site.archive()
        died = len(done) >= call
        site.assert_holds()
        for _ in range(3):
            site.archive()
            site.assert_holds()
        if not died:
            assert call > 15
            return
    pytest.fail("it never ended")
