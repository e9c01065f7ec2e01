"""A drive as a medium, and what a drive alone does: early warning, damage, long blocks, write protection, waiting, changing tapes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.tape_drive import Cartridge, EmulatedDrive
from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TimedOutError,
)
from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.changer import Changer, Nobody, Slot
from vsnapfs.media.drive import Drive
from vsnapfs.media.drive_tape import DriveTape
from vsnapfs.media.ioctl import Op, StDevice
from vsnapfs.media.label import new_label
from vsnapfs.media.tape import DamagedBlockError, EndOfTapeError, FileKind, TapeReader
from vsnapfs.policy.media import DriveSettings

pytestmark = pytest.mark.unit

BLOCK_BYTES = 4096
DAY_NS = 86400 * 10**9
INDEX = b"vsnapfs index 1 " + hashlib.sha256(b'{"a":1}\n').hexdigest().encode() + b'\n{"a":1}\n'


class Shelf:
    """A changer of cartridges by label: what is brought is what is asked for, or what a person mistakes for it."""

    def __init__(self, drive: EmulatedDrive, cartridges: dict[str, Cartridge], *, tells: bool) -> None:
        self.drive = drive
        self.cartridges = cartridges
        self.tells = tells
        self.brought: list[str] = []
        self.asked: list[tuple[tuple[str, ...], bool]] = []
        self.mistakes: list[str] = []

    def slots(self) -> list[Slot]:
        return [Slot(label, number, None) for number, label in enumerate(self.cartridges, 1)] if self.tells else []

    def bring(self, labels: Sequence[str], *, blank: bool = False) -> None:
        self.asked.append((tuple(labels), blank))
        named = [label for label in labels if label in self.cartridges]
        blanks = [name for name, cartridge in self.cartridges.items() if blank and not cartridge.load()]
        choice = [*self.mistakes[:1], *named, *blanks]
        self.mistakes = self.mistakes[1:]
        if not choice:
            raise NotFoundError(f"nobody has {labels}")
        self._put(choice[0])

    def bring_slot(self, slot: Slot) -> None:
        assert slot.label is not None
        self._put(slot.label)

    def _put(self, label: str) -> None:
        assert self.drive.cartridge is None, "what was in the drive was let go of"
        self.brought.append(label)
        self.drive.cartridge = self.cartridges[label]


class Ground:
    def __init__(self, top: Path) -> None:
        self.top = top
        self.drive = EmulatedDrive()
        self.now_ns = 1_795_000_000 * 10**9
        self.known: dict[str, TapeEntry] = {}
        self.waited: list[float] = []
        self.cartridges: dict[str, Cartridge] = {}

    def cartridge(self, label: str, **others: Any) -> Cartridge:
        self.cartridges[label] = Cartridge(self.top / f"cartridge-{label}", **{"capacity_bytes": 1 << 20} | others)
        return self.cartridges[label]

    def shelf(self, *, tells: bool = True) -> Shelf:
        return Shelf(self.drive, self.cartridges, tells=tells)

    def medium(self, brings: Changer | None = None, **others: Any) -> Drive:
        settings = DriveSettings(**{"device": "/dev/nst0", "block": "4K", "piece": "64K", "changer": "mtx"} | others)
        brings = brings or Nobody("lto", "/dev/nst0")
        return Drive("lto", settings, brings, self.drive, lambda: self.now_ns, self.waited.append)

    def begun(self, label: TapeLabel) -> None:
        fields = {name: getattr(label, name) for name in label.__struct_fields__ if name != "format"}
        self.known[label.label] = TapeEntry(**fields)

    def next(self, medium: Drive, *, fresh: bool = False) -> DriveTape:
        return medium.next(list(self.known.values()), self.begun, fresh=fresh)

    def change(self, label: str, **changes: Any) -> None:
        self.known[label] = msgspec.structs.replace(self.known[label], **changes)

    def write(self, tape: DriveTape, content: bytes = b"piece" * 2000) -> None:
        """A piece and its index, and the catalog is told."""
        self.now_ns += 1
        for kind, each in ((FileKind.PIECE, content), (FileKind.INDEX, INDEX)):
            put(tape, kind, each)
        assert tape.label is not None
        files = self.known[tape.label.label].files + 2
        self.change(tape.label.label, files=files, written_ns=self.now_ns)

    def stocked(self, label: str, **changes: Any) -> Cartridge:
        """A cartridge with that label and a piece on it, which the catalog knows."""
        made = self.drive.cartridge = self.cartridge(label)
        tape = DriveTape(self.drive("nst0", write=True), "/dev/nst0", block_bytes=BLOCK_BYTES, write=True)
        wanted = new_label(label, "lto", BLOCK_BYTES, self.now_ns)
        self.begun(wanted)
        tape.write_label(wanted)
        self.write(tape)
        tape.eject()
        self.change(label, **changes)
        return made


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    if made.drive.opened is not None:
        made.drive.opened.close()


def put(tape: DriveTape, kind: FileKind, content: bytes) -> int:
    writer = tape.append(kind)
    writer.write(content)
    return writer.finish()


def read(reader: TapeReader) -> bytes:
    found, buffer = bytearray(), bytearray(10_000)
    while count := reader.readinto(buffer):
        found += buffer[:count]
    return bytes(found)


def name_of(tape: DriveTape) -> str:
    tape.close()
    assert tape.label is not None
    return tape.label.label


def loaded(ground: Ground, *, write: bool = True, **others: Any) -> DriveTape:
    device = ground.drive("nst0", write=write)
    return DriveTape(device, "/dev/nst0", block_bytes=BLOCK_BYTES, write=write, **others)


def labelled(ground: Ground, **others: Any) -> DriveTape:
    ground.drive.cartridge = ground.cartridge("A", **others)
    tape = loaded(ground)
    tape.write_label(new_label("A", "lto", BLOCK_BYTES, ground.now_ns))
    return tape


# The tape in the drive.


def test_the_early_warning_breaks_a_piece_off_and_marks_still_fit(ground: Ground) -> None:
    tape = labelled(ground, capacity_bytes=100_000, warning_bytes=30_000)
    writer = tape.append(FileKind.PIECE)
    with pytest.raises(EndOfTapeError):
        writer.write(bytes(100_000))
    writer.abandon()
    tape.close()
    again = loaded(ground)
    assert again.recorded() == 2  # the label, and what the driver has ended; it has no index
    assert put(again, FileKind.PIECE, b"short") == 2


def test_a_piece_that_is_whole_at_the_warning_counts(ground: Ground) -> None:
    tape = labelled(ground, capacity_bytes=100_000, warning_bytes=90_000)
    writer = tape.append(FileKind.PIECE)
    writer.write(bytes(BLOCK_BYTES))
    assert writer.finish() == 1


def test_a_capacity_in_the_settings_ends_the_tape_too(ground: Ground) -> None:
    ground.drive.cartridge = ground.cartridge("A")
    tape = loaded(ground, capacity_bytes=20_000)
    tape.write_label(new_label("A", "lto", BLOCK_BYTES, ground.now_ns))
    writer = tape.append(FileKind.PIECE)
    with pytest.raises(EndOfTapeError):
        writer.write(bytes(30_000))


def test_a_tape_without_an_early_warning_ends_too(ground: Ground) -> None:
    tape = labelled(ground, capacity_bytes=50_000)
    writer = tape.append(FileKind.PIECE)
    with pytest.raises(EndOfTapeError):
        writer.write(bytes(60_000))


@pytest.mark.parametrize("fault", ["write", "WEOF"])
def test_an_error_of_the_drive_is_not_the_end_of_the_tape(ground: Ground, fault: str) -> None:
    tape = labelled(ground)
    writer = tape.append(FileKind.PIECE)
    ground.drive.faults[fault] = errno.EIO
    with pytest.raises(StoreError, match="file 1 of tape A in /dev/nst0") as caught:  # noqa: PT012
        writer.write(bytes(BLOCK_BYTES))
        writer.finish()
    assert not isinstance(caught.value, EndOfTapeError)


def test_a_drive_that_lost_its_place_is_not_believed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = labelled(ground)
    writer = tape.append(FileKind.PIECE)
    writer.write(bytes(3 * BLOCK_BYTES))
    assert ground.drive.opened is not None
    where = ground.drive.opened.position
    monkeypatch.setattr(ground.drive.opened, "position", lambda: (where() or 0) - 1)
    with pytest.raises(StoreError, match="went on by 3 for 3 blocks and a mark"):
        writer.finish()


@pytest.mark.parametrize("stays", [True, False], ids=["before", "behind"])
def test_a_block_that_cannot_be_read_is_named_and_passed_over(ground: Ground, stays: bool) -> None:
    ground.drive.stays_at_damage = stays
    tape = labelled(ground)
    content = os.urandom(10 * BLOCK_BYTES + 100)
    put(tape, FileKind.PIECE, content)
    assert ground.drive.cartridge is not None
    ground.drive.cartridge.damaged = {2 + 0, 2 + 7, 2 + 8}  # behind the label and its mark
    reader = tape.open(1)
    found, buffer, damaged = bytearray(), bytearray(BLOCK_BYTES), []
    while True:
        try:
            count = reader.readinto(buffer)
        except DamagedBlockError as error:
            damaged.append((error.offset_bytes, error.length_bytes))
            found += bytes(error.length_bytes)
            continue
        if not count:
            break
        found += buffer[:count]
    assert damaged == [(number * BLOCK_BYTES, BLOCK_BYTES) for number in (0, 7, 8)]
    for number in range(11):
        part = slice(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)
        wanted = bytes(BLOCK_BYTES) if number in (0, 7, 8) else content[part]
        assert found[part].startswith(wanted)  # the last block is filled up


def test_a_drive_that_reads_nothing_any_more_is_given_up(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsnapfs.media.drive_files.DAMAGED_MAX", 5)
    tape = labelled(ground)
    put(tape, FileKind.PIECE, bytes(30 * BLOCK_BYTES))
    assert ground.drive.cartridge is not None
    ground.drive.cartridge.damaged = set(range(5, 40))
    reader = tape.open(1)
    refused = 0
    buffer = bytearray(BLOCK_BYTES)
    with pytest.raises(StoreError, match="5 blocks cannot be read, one after the other"):  # noqa: PT012
        while refused < 40:
            try:
                reader.readinto(buffer)
            except DamagedBlockError:
                refused += 1
    assert refused == 5


def test_blocks_longer_than_expected_are_read(ground: Ground) -> None:
    ground.drive.cartridge = ground.cartridge("A", capacity_bytes=8 << 20)
    long = DriveTape(ground.drive("nst0", write=True), "nst0", block_bytes=1 << 20, write=True)
    long.write_label(new_label("A", "lto", 1 << 20, ground.now_ns))
    content = os.urandom(3 << 20)
    put(long, FileKind.PIECE, content)
    long.close()
    tape = loaded(ground, write=False)  # by settings that say 4 KiB
    assert read(tape.open(1)) == content
    assert ground.drive.cartridge is not None
    first = ground.drive.cartridge.load()
    ground.drive.cartridge.keep([first[0].ljust(100_000, b"\0"), *first[1:]])
    tape.close()
    assert name_of(loaded(ground, write=False)) == "A"
    assert ("BSR", 1) in ground.drive.operations


def test_a_piece_that_a_crash_broke_off_is_written_over(ground: Ground) -> None:
    tape = labelled(ground)
    put(tape, FileKind.PIECE, b"one" * 5000)
    put(tape, FileKind.INDEX, b"index")
    writer = tape.append(FileKind.PIECE)
    writer.write(bytes(10 * BLOCK_BYTES))
    assert ground.drive.opened is not None
    ground.drive.opened.cut_off()
    again = loaded(ground)
    assert again.recorded() == 3
    broken = again.open(3)
    assert read(broken) == bytes(10 * BLOCK_BYTES)  # without a mark
    assert put(again, FileKind.PIECE, b"two") == 3
    assert read(again.open(3)).rstrip(b"\0") == b"two"


def test_a_write_protected_tape_is_only_read(ground: Ground) -> None:
    tape = labelled(ground)
    put(tape, FileKind.PIECE, b"one")
    tape.close()
    ground.cartridges["A"].write_protected = True
    medium = ground.medium()
    again = medium.load("A", write=True)
    assert again.read_only
    with pytest.raises(PermissionDeniedError, match="there is a switch on the cartridge"):
        again.append(FileKind.PIECE)
    assert read(again.open(1)).rstrip(b"\0") == b"one"


def test_somebody_elses_tape_is_neither_blank_nor_ours(ground: Ground) -> None:
    cartridge = ground.drive.cartridge = ground.cartridge("A")
    cartridge.keep([b"dump of another program" * 100, b"", b"more", b""])
    tape = loaded(ground)
    assert (tape.blank, tape.label, tape.problem) == (False, None, None)
    tape.close()
    with pytest.raises(NotFoundError, match="needs a blank tape in /dev/nst0"):
        ground.next(ground.medium(changer="none"))
    assert cartridge.load()[0].startswith(b"dump")


@pytest.mark.parametrize("damaged", [{0}, set(range(20))], ids=["block", "everything"])
def test_a_label_that_cannot_be_read_is_told(ground: Ground, damaged: set[int]) -> None:
    labelled(ground).close()
    ground.cartridges["A"].damaged = damaged
    tape = loaded(ground)
    assert not tape.blank
    assert tape.problem is not None
    assert tape.label is None


# The drive, and who changes tapes.


def test_a_blank_tape_in_the_drive_gets_the_next_label(ground: Ground) -> None:
    ground.drive.cartridge = ground.cartridge("x")
    tape = ground.next(ground.medium(changer="none", labels="W%03d"))
    assert name_of(tape) == "W001"
    assert ground.known["W001"].generation == 1


def test_it_is_gone_on_with_behind_what_counts(ground: Ground) -> None:
    ground.drive.cartridge = ground.stocked("A")
    tape = ground.next(ground.medium(changer="none"))
    assert put(tape, FileKind.PIECE, b"more") == 3


@pytest.mark.parametrize("tells", [True, False], ids=["tells-files", "tells-little"])
def test_what_the_catalog_does_not_know_is_not_written_over(ground: Ground, tells: bool) -> None:
    ground.drive.tells_files = ground.drive.tells_position = tells
    ground.drive.cartridge = ground.stocked("A")
    tape = loaded(ground)
    ground.write(tape)
    put(tape, FileKind.PIECE, b"without an index")
    tape.close()
    ground.change("A", files=3)  # a catalog from before
    again = ground.next(ground.medium(changer="none"))
    assert put(again, FileKind.PIECE, b"new") == 5


@pytest.mark.parametrize(
    "index", [INDEX[:30], INDEX[:-3], b"vsnapfs index 1 x\n", b"else", INDEX.replace(b"1}", b"2}")]
)
def test_an_index_that_was_broken_off_does_not_count(ground: Ground, index: bytes) -> None:
    ground.drive.cartridge = ground.stocked("A")
    tape = loaded(ground)
    put(tape, FileKind.PIECE, b"whole")
    put(tape, FileKind.INDEX, index)  # as the driver ends it when the process dies
    tape.close()
    again = ground.next(ground.medium(changer="none"))
    assert put(again, FileKind.PIECE, b"new") == 3


def test_a_tape_that_lacks_what_the_catalog_knows_is_told(ground: Ground) -> None:
    ground.drive.cartridge = ground.stocked("A", files=9)
    with pytest.raises(IntegrityError, match="has 3 files of the 9 that the catalog knows"):
        ground.next(ground.medium(changer="none"))


def test_a_robot_brings_the_one_written_to_last(ground: Ground) -> None:
    for label in "ABC":
        ground.stocked(label)
    ground.change("C", state="full")
    shelf = ground.shelf()
    assert name_of(ground.next(ground.medium(shelf))) == "B"
    assert shelf.brought == ["B"]


def test_a_tape_in_another_drive_of_the_robot_is_passed_over(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in "AB":
        ground.stocked(label)
    shelf = ground.shelf()
    monkeypatch.setattr(shelf, "slots", lambda: [Slot("A", 1, None), Slot("B", 2, 1), Slot(None, 3, 1)])
    assert name_of(ground.next(ground.medium(shelf))) == "A"
    assert shelf.brought == ["A"]


def test_a_robot_brings_a_blank_one_before_one_that_was_retired(ground: Ground) -> None:
    ground.stocked("A", state="retired")
    ground.stocked("B", state="full")
    ground.cartridge("E00005")
    shelf = ground.shelf()
    medium = ground.medium(shelf)
    assert name_of(ground.next(medium)) == "E00005"  # its barcode is its label
    ground.change("E00005", state="full")
    tape = ground.next(medium)
    assert tape.label is not None
    assert (tape.label.label, tape.label.generation) == ("A", 2)
    assert shelf.brought == ["E00005", "A"]


def test_a_tape_that_should_hold_something_and_seems_blank_is_left_alone(ground: Ground) -> None:
    ground.stocked("A").keep([])
    before = ground.known["A"]
    ground.cartridge("B")
    shelf = ground.shelf()
    assert name_of(ground.next(ground.medium(shelf))) == "B"
    assert shelf.brought == ["A", "B"]
    assert ground.known["A"] == before
    assert ground.cartridges["A"].load() == []


def test_a_barcode_of_a_protected_tape_is_no_label_for_a_blank_one(ground: Ground) -> None:
    ground.stocked("A", state="retired", protected=True).keep([])
    with pytest.raises(NoSpaceError):
        ground.next(ground.medium(ground.shelf()))
    assert ground.cartridges["A"].load() == []


def test_a_barcode_that_is_the_label_of_another_medium_is_none_for_a_blank_tape(ground: Ground) -> None:
    ground.stocked("A", state="open", medium="vault", files=1).keep([])
    with pytest.raises(NoSpaceError):
        ground.next(ground.medium(ground.shelf()))
    assert ground.known["A"].medium == "vault"


def test_a_retired_tape_that_was_erased_gets_its_label_again_and_a_later_generation(ground: Ground) -> None:
    ground.stocked("A", state="retired").keep([])
    tape = ground.next(ground.medium(ground.shelf()))
    assert tape.label is not None
    assert (tape.label.label, tape.label.generation) == ("A", 2)


def test_a_robot_without_a_tape_to_write_to(ground: Ground) -> None:
    ground.stocked("A", state="retired", protected=True)
    ground.stocked("B", state="full")
    ground.stocked("C", state="retired")
    stranger = ground.stocked("D")
    del ground.known["D"]
    before = stranger.load()
    medium = ground.medium(ground.shelf(), retention="1d")
    with pytest.raises(NoSpaceError, match="no tape of lto can be written to"):
        ground.next(medium)
    assert stranger.load() == before
    ground.now_ns += DAY_NS
    assert name_of(ground.next(medium)) == "C"


def test_a_tape_of_a_wrong_barcode_is_told(ground: Ground) -> None:
    ground.cartridges["B"] = ground.stocked("A")
    with pytest.raises(IntegrityError, match="needs tape B, and was given tape A in /dev/nst0"):
        ground.medium(ground.shelf()).load("B")


def test_a_person_is_asked_until_the_tape_is_right(ground: Ground) -> None:
    for label in "ABC":
        ground.stocked(label)
    shelf = ground.shelf(tells=False)
    shelf.mistakes = ["B", "C"]
    medium = ground.medium(shelf, changer="prompt")
    assert name_of(medium.load("A")) == "A"
    assert shelf.brought == ["B", "C", "A"]
    assert medium.load("A").label is not None  # it is in the drive
    assert len(shelf.asked) == 3


def test_a_person_is_told_all_that_would_do(ground: Ground) -> None:
    ground.stocked("A")
    ground.stocked("B", state="retired")
    ground.stocked("C", state="full")
    shelf = ground.shelf(tells=False)
    shelf.mistakes = ["C"]
    assert name_of(ground.next(ground.medium(shelf, changer="prompt"))) == "A"
    assert shelf.asked == [(("A", "B"), True)] * 2


def test_a_crash_between_the_catalog_and_the_label_costs_no_tape(ground: Ground) -> None:
    ground.drive.cartridge = ground.stocked("A", state="retired")
    medium = ground.medium(changer="none")

    def crash(label: TapeLabel) -> None:
        ground.begun(label)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        medium.next(list(ground.known.values()), crash)
    tape = ground.next(medium)
    assert tape.label is not None
    assert (tape.label.label, tape.label.generation, tape.label.uuid) == ("A", 2, ground.known["A"].uuid)
    with pytest.raises(NotFoundError):
        tape.open(1)


def test_a_drive_that_loads_is_waited_for(ground: Ground) -> None:
    ground.stocked("A")
    ground.drive.polls_until_ready = 4
    assert name_of(ground.medium(ground.shelf()).load("A")) == "A"
    assert ground.waited == [1.0] * 3


def test_a_drive_that_does_not_get_ready(ground: Ground) -> None:
    ground.stocked("A")
    ground.drive.polls_until_ready = 100
    with pytest.raises(TimedOutError, match="/dev/nst0 has no tape that is ready after 5s"):
        ground.medium(ground.shelf(), ready="5s").load("A")
    assert len(ground.waited) == 5


def test_a_drive_in_use(ground: Ground) -> None:
    ground.drive.cartridge = ground.stocked("A")
    medium = ground.medium(changer="none")
    tape = medium.load("A")
    with pytest.raises(BusyError, match="/dev/nst0 is in use by another process"):
        medium.load("A")
    tape.close()


def test_what_is_seen_without_moving_a_tape(ground: Ground) -> None:
    ground.stocked("A")
    ground.cartridge("B")
    assert [(tape.label, tape.place) for tape in ground.medium(ground.shelf()).tapes()] == [
        ("A", "slot 1"),
        ("B", "slot 2"),
    ]
    alone = ground.medium(changer="none")
    assert alone.tapes() == []
    ground.drive.cartridge = ground.cartridges["A"]
    assert [(tape.label, tape.place, tape.blank) for tape in alone.tapes()] == [("A", "/dev/nst0", False)]
    assert alone.foreign() == []


def test_a_tape_for_a_label(ground: Ground) -> None:
    ground.stocked("A")
    ground.cartridge("B")
    shelf = ground.shelf()
    assert ground.medium(shelf).load_blank("B").blank
    assert shelf.brought == ["B"]
    assert ground.drive.opened is not None
    ground.drive.opened.close()
    alone = ground.medium(changer="none")
    assert alone.load_blank("Z").blank  # what is in the drive
    ground.drive.opened.close()
    ground.drive.cartridge = None
    with pytest.raises(NotFoundError, match="needs a blank tape"):
        alone.load_blank("Z")


def test_a_device_that_is_none(tmp_path: Path) -> None:
    settings = DriveSettings(device=str(tmp_path / "nst0"), changer="none")
    medium = Drive("lto", settings, Nobody("lto", settings.device), StDevice)
    with pytest.raises(NotFoundError, match="nst0"):
        medium.load("A")
    (tmp_path / "nst0").write_bytes(b"")
    with pytest.raises(StoreError, match="nst0"):
        medium.load("A")


def test_the_ioctls_are_those_of_the_kernel() -> None:
    from vsnapfs.media import ioctl

    assert (ioctl.MTIOCTOP, ioctl.MTIOCGET, ioctl.MTIOCPOS) == (0x40086D01, 0x80306D02, 0x80086D03)
    assert [Op.FSF, Op.WEOF, Op.REW, Op.OFFL, Op.EOM, Op.SETBLK] == [1, 5, 6, 7, 12, 20]
