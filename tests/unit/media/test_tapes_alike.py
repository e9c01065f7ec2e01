"""One suite for every kind of tape: what writes and reads archives knows no difference between a pool and a drive."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.tape_drive import Cartridge, EmulatedDrive
from vsnapfs.core.errors import NotFoundError, PermissionDeniedError, UsageError
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.drive_tape import DriveTape
from vsnapfs.media.ioctl import StDevice
from vsnapfs.media.label import new_label
from vsnapfs.media.pool import Pool
from vsnapfs.media.tape import EndOfTapeError, FileKind, Tape, TapeReader, TapeWriter
from vsnapfs.policy.media import PoolSettings

pytestmark = pytest.mark.unit

BLOCK_BYTES = 4096
CAPACITY_BYTES = 1 << 20
MORE_THAN_A_TAPE_BYTES = 1 << 28
NOW_NS = 1_795_000_000 * 10**9

Opened = Callable[[bool], Tape]
"""Opens the one tape again; the argument: to be written to."""


EMULATED = ["drive", "drive-of-fixed-blocks", "drive-that-tells-little", "drive-that-invents"]
DEVICE = os.environ.get("VSNAPFS_TAPE_DEVICE")
"""A real drive, with a tape that may be written over, such as tests/applications/tape_guest.py has one: then it is tried too."""


@pytest.fixture(params=["pool", *EMULATED, *(["kernel"] if DEVICE else [])])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    tapes: list[Tape] = []
    open_one = of_pool(tmp_path) if request.param == "pool" else of_drive(tmp_path, request.param)
    if "kernel" in request.param:
        open_one = of_kernel(request.param)

    def again(write: bool) -> Tape:
        if tapes:
            tapes.pop().close()
        tapes.append(open_one(write))
        return tapes[-1]

    yield again
    if tapes:
        tapes.pop().close()


def of_pool(top: Path) -> Opened:
    settings = PoolSettings(path=str(top), capacity="1M", block="4K", piece="64K")

    def again(write: bool) -> Tape:
        pool = Pool("pool", settings, lambda: NOW_NS)
        try:
            (top / "T1").mkdir(exist_ok=True)
            return pool.load_blank("T1") if write else pool.load("T1")
        finally:
            pool.close()

    return again


def of_drive(top: Path, kind: str) -> Opened:
    little = kind == "drive-that-tells-little"
    drive = EmulatedDrive(
        Cartridge(top / "cartridge", capacity_bytes=CAPACITY_BYTES),
        tells_position=not little,
        tells_files=not little,
        stays_at_damage=not little,
        invents=kind == "drive-that-invents",
    )

    def again(write: bool) -> Tape:
        device = drive("nst0", write=write)
        return DriveTape(device, "nst0", block_bytes=BLOCK_BYTES, write=write, fixed="fixed" in kind)

    return again


def of_kernel(kind: str) -> Opened:
    """What is on the tape stays there: but for the one that looks for a blank tape, tests begin with a label."""

    def again(write: bool) -> Tape:
        device = StDevice(str(DEVICE), write=write)
        return DriveTape(device, str(DEVICE), block_bytes=BLOCK_BYTES, write=write, fixed="fixed" in kind)

    return again


def label() -> TapeLabel:
    return new_label("T1", "pool", BLOCK_BYTES, NOW_NS)


def put(tape: Tape, kind: FileKind, content: bytes, step: int = 1000) -> int:
    writer = tape.append(kind)
    for at in range(0, len(content), step):
        writer.write(content[at : at + step])
    return writer.finish()


def fill(writer: TapeWriter) -> None:
    """To the end of the tape, which comes before this ends."""
    for _ in range(MORE_THAN_A_TAPE_BYTES >> 20):
        writer.write(bytes(1 << 20))


def read(reader: TapeReader, step: int = 777) -> bytes:
    found = bytearray()
    buffer = bytearray(step)
    while count := reader.readinto(buffer):
        found += buffer[:count]
    reader.close()
    return bytes(found)


def test_a_new_tape_is_blank_and_takes_nothing_but_a_label(opened: Opened) -> None:
    tape = opened(True)
    assert tape.blank
    assert tape.label is None
    assert tape.problem is None
    with pytest.raises(UsageError, match="no label"):
        tape.append(FileKind.PIECE)


def test_a_label_is_found_again(opened: Opened) -> None:
    wanted = label()
    opened(True).write_label(wanted)
    tape = opened(False)
    assert tape.label == wanted
    assert not tape.blank


@pytest.mark.parametrize("step", [1, 777, BLOCK_BYTES, 3 * BLOCK_BYTES + 1, 1 << 18])
def test_files_come_back_by_their_numbers(opened: Opened, step: int) -> None:
    chance = random.Random(step)
    tape = opened(True)
    tape.write_label(label())
    contents = [chance.randbytes(size) for size in (BLOCK_BYTES, 1, 5 * BLOCK_BYTES + 17, 8 * BLOCK_BYTES)]
    kinds = [FileKind.PIECE, FileKind.INDEX] * 2
    assert [put(tape, kind, each, max(step, 64)) for kind, each in zip(kinds, contents, strict=True)] == [1, 2, 3, 4]
    assert_holds(tape, contents, step)
    assert_holds(opened(False), contents, step)


def assert_holds(tape: Tape, contents: list[bytes], step: int) -> None:
    for number in (4, 1, 3, 2, 1):
        found = read(tape.open(number), step)
        wanted = contents[number - 1]
        assert found[: len(wanted)] == wanted
        assert not any(found[len(wanted) :])  # blocks of a fixed length are filled up
    with pytest.raises(NotFoundError, match="file 5"):
        tape.open(5)
    with pytest.raises(NotFoundError, match="file 9"):
        tape.open(9)


def test_a_file_that_is_abandoned_never_was(opened: Opened) -> None:
    tape = opened(True)
    tape.write_label(label())
    put(tape, FileKind.PIECE, b"piece" * 1000)
    put(tape, FileKind.INDEX, b"index")
    writer = tape.append(FileKind.PIECE)
    writer.write(b"half" * BLOCK_BYTES)
    writer.abandon()
    assert put(tape, FileKind.PIECE, b"other") == 3
    assert read(tape.open(3)).rstrip(b"\0") == b"other"
    with pytest.raises(NotFoundError):
        tape.open(4)


def test_a_tape_is_gone_on_with_behind_its_last_file(opened: Opened) -> None:
    tape = opened(True)
    tape.write_label(label())
    put(tape, FileKind.PIECE, b"one" * 3000)
    tape = opened(True)
    assert put(tape, FileKind.INDEX, b"two") == 2
    assert read(tape.open(1)).rstrip(b"\0") == b"one" * 3000


def test_what_is_cut_off_is_written_over(opened: Opened) -> None:
    tape = opened(True)
    tape.write_label(label())
    for number in range(1, 5):
        put(tape, FileKind.PIECE if number % 2 else FileKind.INDEX, b"%d" % number * 5000)
    tape = opened(True)
    tape.cut(2)
    assert put(tape, FileKind.PIECE, b"new") == 3
    assert [read(tape.open(number)).rstrip(b"\0")[:3] for number in (1, 2, 3)] == [b"111", b"222", b"new"]
    with pytest.raises(NotFoundError):
        tape.open(4)
    with pytest.raises(NotFoundError):
        tape.cut(9)


def test_a_new_label_leaves_nothing_of_what_stood_there(opened: Opened) -> None:
    tape = opened(True)
    tape.write_label(label())
    put(tape, FileKind.PIECE, b"old" * 5000)
    other = label()
    tape.write_label(other)
    assert tape.label == other
    tape = opened(False)
    assert tape.label == other
    with pytest.raises(NotFoundError):
        tape.open(1)


def test_the_end_of_the_tape_is_no_error_of_a_disk(opened: Opened) -> None:
    tape = opened(True)
    tape.write_label(label())
    put(tape, FileKind.PIECE, b"first" * 1000)
    put(tape, FileKind.INDEX, b"index")
    writer = tape.append(FileKind.PIECE)
    with pytest.raises(EndOfTapeError, match="full"):
        fill(writer)
    writer.abandon()
    tape = opened(False)
    assert read(tape.open(1)).rstrip(b"\0") == b"first" * 1000
    assert read(tape.open(2)).rstrip(b"\0") == b"index"


def test_who_only_reads_writes_nothing(opened: Opened) -> None:
    opened(True).write_label(label())
    tape = opened(False)
    assert tape.read_only
    with pytest.raises(PermissionDeniedError, match="to be read"):
        tape.append(FileKind.PIECE)
    with pytest.raises(PermissionDeniedError, match="to be read"):
        tape.write_label(label())
