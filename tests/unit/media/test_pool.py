"""A pool of tapes: which one is next, where it ends, and what a crash, a second writer and strangers' files do to it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vsnapfs.core.errors import (
    BusyError,
    FormatUnknownError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    UsageError,
)
from vsnapfs.core.tapes import TapeEntry, TapeLabel, TapeState
from vsnapfs.media.label import encode_label
from vsnapfs.media.pool import Pool
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.tape import DamagedBlockError, EndOfTapeError, FileKind
from vsnapfs.policy.media import PoolSettings

pytestmark = pytest.mark.unit

DAY_NS = 86400 * 10**9
LABEL_BYTES = 2048


class Ground:
    """A pool, a clock, and what a catalog would know."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.now_ns = 1_795_000_000 * 10**9
        self.known: dict[str, TapeEntry] = {}
        self.pools: list[Pool] = []

    def pool(self, **settings: Any) -> Pool:
        chosen = {"path": str(self.top), "capacity": "8K", "block": "512", "piece": "64K"} | settings
        self.pools.append(Pool("vault", PoolSettings(**chosen), lambda: self.now_ns))
        return self.pools[-1]

    def begun(self, label: TapeLabel) -> None:
        fields = {name: getattr(label, name) for name in label.__struct_fields__ if name != "format"}
        self.known[label.label] = TapeEntry(**fields)

    def next(self, pool: Pool, *, fresh: bool = False) -> PoolTape:
        return pool.next(list(self.known.values()), self.begun, fresh=fresh)

    def change(self, label: str, **changes: Any) -> None:
        self.known[label] = msgspec.structs.replace(self.known[label], **changes)

    def write(self, tape: PoolTape, size_bytes: int = 100) -> None:
        """A piece and its index, and the catalog is told."""
        self.now_ns += 1
        for kind in (FileKind.PIECE, FileKind.INDEX):
            writer = tape.append(kind)
            writer.write(bytes(size_bytes))
            writer.finish()
        assert tape.label is not None
        files = self.known[tape.label.label].files + 2
        self.change(tape.label.label, files=files, written_ns=self.now_ns)

    def stock(self, pool: Pool, label: str, state: TapeState = "open", **changes: Any) -> None:
        """A tape with a piece on it."""
        with_label = pool.next([], self.begun) if label not in self.known else pool.load(label, write=True)
        assert with_label.label is not None
        assert with_label.label.label == label
        self.write(with_label)
        with_label.close()
        self.change(label, state=state, **changes)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    for pool in made.pools:
        pool.close()


def name_of(tape: PoolTape) -> str:
    assert tape.label is not None
    tape.close()
    return tape.label.label


def test_the_first_tape_is_made(ground: Ground) -> None:
    tape = ground.next(ground.pool(labels="W%03d"))
    assert tape.label is not None
    assert (tape.label.label, tape.label.medium, tape.label.generation) == ("W001", "vault", 1)
    assert ground.known["W001"].uuid == tape.label.uuid
    assert sorted(os.listdir(ground.top / "W001")) == ["00000.label"]
    tape.close()


def test_the_one_written_to_last_is_gone_on_with(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001", "full")
    ground.stock(pool, "T00002")
    ground.change("T00001", state="open")
    assert name_of(ground.next(pool)) == "T00002"
    ground.change("T00001", written_ns=ground.now_ns + 1)
    assert name_of(ground.next(pool)) == "T00001"


@pytest.mark.parametrize(
    "changes", [{"state": "full"}, {"state": "retired"}, {"protected": True}], ids=lambda changes: next(iter(changes))
)
def test_one_that_may_not_be_appended_to_is_passed_over(ground: Ground, changes: dict[str, Any]) -> None:
    pool = ground.pool(retention="1d")
    ground.stock(pool, "T00001")
    ground.change("T00001", **changes)
    assert name_of(ground.next(pool)) == "T00002"


def test_one_without_room_for_a_block_is_passed_over(ground: Ground) -> None:
    pool = ground.pool()
    tape = ground.next(pool)
    ground.write(tape, (8192 - LABEL_BYTES) // 2 - 255)
    tape.close()
    assert name_of(ground.next(pool)) == "T00002"


def test_a_fresh_one_holds_nothing(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    assert name_of(ground.next(pool, fresh=True)) == "T00002"
    assert name_of(ground.next(pool, fresh=True)) == "T00002"


def test_a_pool_whose_disk_is_not_mounted_gets_no_new_tape(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001", "full")
    elsewhere = ground.top.with_name("elsewhere")
    (ground.top / "T00001").rename(elsewhere)
    with pytest.raises(NotFoundError, match=r"none of the 1 tapes of vault is in .*: is its disk mounted\?"):
        ground.next(pool)
    assert os.listdir(ground.top) == []
    elsewhere.rename(ground.top / "T00001")
    assert name_of(ground.next(pool)) == "T00002"


def test_an_empty_directory_is_a_blank_tape(ground: Ground) -> None:
    (ground.top / "MONDAY").mkdir()
    assert name_of(ground.next(ground.pool())) == "MONDAY"


def test_a_retired_one_is_written_over_after_its_retention(ground: Ground) -> None:
    pool = ground.pool(retention="1d", tapes=1)
    ground.stock(pool, "T00001")
    before = ground.known["T00001"]
    ground.change("T00001", state="retired")
    with pytest.raises(NoSpaceError, match="none of the 1 tapes of vault"):
        ground.next(pool)
    assert len(os.listdir(ground.top / "T00001")) == 3
    ground.now_ns += DAY_NS
    tape = ground.next(pool)
    assert tape.label is not None
    assert (tape.label.label, tape.label.generation) == ("T00001", 2)
    assert tape.label.uuid != before.uuid
    assert [file.number for file in tape.files()] == [0]
    tape.close()


def test_one_that_counts_is_never_written_over(ground: Ground) -> None:
    pool = ground.pool(tapes=2)
    ground.stock(pool, "T00001", "full")
    ground.stock(pool, "T00002", "retired", protected=True)
    ground.now_ns += 9999 * DAY_NS
    with pytest.raises(NoSpaceError):
        ground.next(pool)


def test_a_tape_that_the_catalog_does_not_know_is_left_alone(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    ground.known.clear()
    assert name_of(ground.next(pool)) == "T00002"
    assert len(os.listdir(ground.top / "T00001")) == 3


def test_a_tape_that_another_repository_writes_to_is_passed_over(ground: Ground) -> None:
    theirs = ground.pool().next([], lambda _: None)
    tape = ground.next(ground.pool())
    assert (name_of(theirs), name_of(tape)) == ("T00001", "T00002")


def test_a_label_that_another_repository_takes_meanwhile_is_left_to_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Pool._make

    def first(self: Pool, label: str) -> None:
        monkeypatch.undo()
        theirs = ground.pool().next([], lambda _: None)
        assert name_of(theirs) == label
        theirs.close()
        make(self, label)

    monkeypatch.setattr(Pool, "_make", first)
    assert name_of(ground.next(ground.pool())) == "T00002"
    left = ground.pool().load("T00001")
    assert left.label is not None
    assert list(ground.known) == ["T00002"]


def test_a_tape_of_that_label_that_is_another_is_left_alone(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    ground.change("T00001", uuid="0" * 8 + "-0000-4000-8000-" + "0" * 12)
    assert name_of(ground.next(pool)) == "T00002"


def test_a_piece_without_an_index_is_cut_off(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    (ground.top / "T00001" / "00003.tar.zst").write_bytes(b"broken off")
    tape = ground.next(pool)
    assert [file.number for file in tape.files()] == [0, 1, 2]
    tape.close()


def test_a_pair_that_the_catalog_does_not_know_stays(ground: Ground) -> None:
    """An older copy of the catalog was put back, or a crash was before it was told."""
    pool = ground.pool()
    ground.stock(pool, "T00001")
    ground.stock(pool, "T00001")
    ground.change("T00001", files=3)
    tape = ground.next(pool)
    assert [file.number for file in tape.files()] == [0, 1, 2, 3, 4]
    tape.close()


def test_a_tape_that_lacks_what_the_catalog_knows_is_told(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    (ground.top / "T00001" / "00002.index").unlink()
    with pytest.raises(IntegrityError, match="has 2 files of the 3 that the catalog knows"):
        ground.next(pool)


@pytest.mark.parametrize("begun_to_cut", [False, True])
def test_a_crash_between_the_catalog_and_the_label_costs_no_tape(ground: Ground, begun_to_cut: bool) -> None:
    pool = ground.pool(tapes=1)
    ground.stock(pool, "T00001", "retired")

    def crash(label: TapeLabel) -> None:
        ground.begun(label)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.next(list(ground.known.values()), crash)
    if begun_to_cut:
        tape = pool.load("T00001", write=True)
        tape.cut(0)  # what the label's writing does first
        tape.close()
    again = ground.next(pool)
    assert again.label is not None
    assert (again.label.uuid, again.label.generation) == (ground.known["T00001"].uuid, 2)
    again.close()


def test_one_that_is_read_when_its_label_is_due_is_passed_over(ground: Ground) -> None:
    """Somebody began to read it when the catalog was told that it is given up."""
    pool = ground.pool()
    ground.stock(pool, "T00001", "retired")
    reading: list[PoolTape] = []

    def begun(label: TapeLabel) -> None:
        ground.begun(label)
        reading.append(pool.load("T00001"))

    with pytest.raises(BusyError, match="is being read"):
        pool.next(list(ground.known.values()), begun)
    assert name_of(ground.next(pool)) == "T00002"
    reading[0].close()
    ground.change("T00002", state="full")
    assert name_of(ground.next(pool)) == "T00001"


def test_the_capacity_is_filled_to_the_byte(ground: Ground) -> None:
    tape = ground.next(ground.pool())
    writer = tape.append(FileKind.PIECE)
    writer.write(bytes(8192 - LABEL_BYTES - 1))
    with pytest.raises(EndOfTapeError):
        writer.write(b"ab")
    writer.write(b"a")
    writer.finish()
    assert tape.used_bytes == tape.capacity_bytes == 8192
    tape.close()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_not_the_end_of_the_tape(ground: Ground, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    tape = ground.next(ground.pool())

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = tape.append(FileKind.PIECE)
    monkeypatch.setattr(f"vsnapfs.media.pool_tape.os.{call}", full)
    with pytest.raises(NoSpaceError, match=r"the disk under tape .* is full") as caught:  # noqa: PT012
        writer.write(b"abc")
        writer.finish()
    monkeypatch.undo()
    assert not isinstance(caught.value, EndOfTapeError)
    writer.abandon()
    assert sorted(os.listdir(ground.top / "T00001")) == ["00000.label"]
    tape.close()


def test_what_a_crash_left_is_removed_by_the_next_writer_alone(ground: Ground) -> None:
    pool = ground.pool()
    ground.next(pool).close()
    left = ground.top / "T00001" / "00001.tar.part"
    left.write_bytes(b"half")
    pool.load("T00001").close()
    assert pool.foreign() == []
    assert left.exists()
    ground.next(pool).close()
    assert not left.exists()


def test_a_file_has_its_name_when_it_is_synced_and_not_before(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = ground.next(ground.pool())
    directory = ground.top / "T00001"
    steps: list[tuple[str, bool]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        steps.append(
            (f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}", (directory / "00001.tar").exists())
        )
        real_fsync(fd)

    def rename(*names: Any, **where: Any) -> None:
        steps.append(("rename", (directory / "00001.tar").exists()))
        real_rename(*names, **where)

    writer = tape.append(FileKind.PIECE)
    writer.write(b"abc")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    writer.finish()
    monkeypatch.undo()
    assert steps == [("sync 00001.tar.part", False), ("rename", False), ("sync T00001", True)]
    tape.close()


@pytest.mark.parametrize("what", ["finished", "removed"])
def test_a_file_that_gets_its_name_while_others_look(
    ground: Ground, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ground.pool()
    tape = ground.next(pool)
    writer = tape.append(FileKind.PIECE)
    writer.write(b"abc")
    real = os.listdir

    def listed(path: Any) -> list[str]:
        names = real(path)
        if "00001.tar.part" in names:
            monkeypatch.undo()
            if what == "finished":
                writer.finish()
            else:
                writer.abandon()
        return names

    monkeypatch.setattr(os, "listdir", listed)
    assert [(each.label, each.used_bytes) for each in pool.tapes()] == [("T00001", LABEL_BYTES)]
    assert len(pool.load("T00001").files()) == (2 if what == "finished" else 1)
    tape.close()


@pytest.mark.parametrize("look", ["tapes", "foreign"])
def test_a_tape_that_comes_or_goes_while_others_look(
    ground: Ground, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, other = ground.pool(), ground.pool()
    ground.stock(pool, "T00001")
    other.load_blank("T00002").close()
    real = os.stat

    def come_and_go(path: Any, **where: Any) -> os.stat_result:
        found = real(path, **where)
        if path == "T00002":
            monkeypatch.undo()
            (ground.top / "T00002").rmdir()
            other.load_blank("T00003").close()
        return found

    monkeypatch.setattr(os, "stat", come_and_go)
    found = [tape.label for tape in pool.tapes()] if look == "tapes" else pool.foreign()
    assert found == (["T00001"] if look == "tapes" else [])


def test_one_writes_to_a_tape(ground: Ground) -> None:
    pool = ground.pool()
    first = ground.next(pool)
    with pytest.raises(BusyError, match="is being written to"):
        pool.load("T00001", write=True)
    pool.load("T00001").close()
    assert name_of(ground.next(pool)) == "T00002"  # another archive at the same time has a tape of its own
    first.close()


def test_one_writes_to_a_tape_also_where_directories_have_no_locks(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS: what is not open for writing cannot be locked alone."""
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if how & fcntl.LOCK_EX and not writable:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    pool = ground.pool()
    ground.stock(pool, "T00001")
    first = ground.next(pool)
    with pytest.raises(BusyError, match="is being written to"):
        pool.load("T00001", write=True)
    first.close()
    reader = pool.load("T00001")
    again = pool.load("T00001", write=True)
    assert again.label is not None
    with pytest.raises(BusyError, match="is being read"):
        again.write_label(again.label)
    reader.close()
    again.write_label(again.label)
    again.close()
    assert pool.foreign() == []


def test_a_filesystem_without_any_locks_is_told(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"cannot lock tape .*: No locks available"):
        ground.next(ground.pool())


def test_a_tape_is_not_written_over_while_it_is_read(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001", "retired")
    before = ground.known["T00001"]
    reader = pool.load("T00001")
    tape = pool.load("T00001", write=True)
    assert tape.label is not None
    with pytest.raises(BusyError, match="is being read"):
        tape.write_label(tape.label)
    tape.close()
    assert name_of(ground.next(pool)) == "T00002"
    assert ground.known["T00001"] == before  # and the catalog was not told otherwise
    assert len(os.listdir(ground.top / "T00001")) == 3
    ground.change("T00002", state="full")
    reader.close()
    assert name_of(ground.next(pool)) == "T00001"


def test_one_that_is_written_over_while_it_is_loaded(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded is what stands there then, and stays."""
    pool = ground.pool()
    ground.stock(pool, "T00001", "retired")
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        if how & fcntl.LOCK_SH:
            monkeypatch.undo()
            with closing(pool.load("T00001", write=True)) as tape:
                assert tape.label is not None
                tape.write_label(msgspec.structs.replace(tape.label, generation=2))
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    reader = pool.load("T00001")
    assert reader.label is not None
    assert (reader.label.generation, len(reader.files())) == (2, 1)
    with closing(pool.load("T00001", write=True)) as tape, pytest.raises(BusyError, match="is being read"):
        tape.write_label(reader.label)
    reader.close()


def test_who_waits_until_another_has_looked_who_reads(ground: Ground) -> None:
    """It is not loaded without being held."""
    pool = ground.pool()
    ground.stock(pool, "T00001")
    alone = os.open(ground.top / "T00001" / "00000.label", os.O_RDWR)
    fcntl.flock(alone, fcntl.LOCK_EX)
    loaded: list[PoolTape] = []
    loading = threading.Thread(target=lambda: loaded.append(pool.load("T00001")))
    loading.start()
    loading.join(0.1)
    assert loaded == []
    os.close(alone)
    loading.join(60)
    (reader,) = loaded
    with closing(pool.load("T00001", write=True)) as tape, pytest.raises(BusyError, match="is being read"):
        tape.require_unread()
    reader.close()


def test_who_only_looks_keeps_nobody_from_writing_over(ground: Ground) -> None:
    pool = ground.pool(tapes=1)
    ground.stock(pool, "T00001", "retired")
    looked = pool._open("T00001", write=False, look=True)  # as a list of tapes does, for a moment
    assert name_of(ground.next(pool)) == "T00001"
    looked.close()


def test_a_label_that_is_not_writable_protects_the_tape(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    (ground.top / "T00001" / "00000.label").chmod(0o400)
    assert [tape.read_only for tape in pool.tapes()] == [True]
    with_it = pool.load("T00001", write=True)
    with pytest.raises(PermissionDeniedError, match="write-protected"):
        with_it.append(FileKind.PIECE)
    with_it.close()
    assert name_of(ground.next(pool)) == "T00002"


def test_strangers_are_named_and_left_alone(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001", "retired")
    (ground.top / "notes.txt").write_text("mine")
    (ground.top / "-odd").mkdir()
    (ground.top / "T00001" / "readme").write_text("mine")
    (ground.top / "T00001" / "00009.zip").write_text("mine")
    (ground.top / "link").symlink_to(ground.top / "T00001")
    assert pool.foreign() == ["-odd", "T00001/00009.zip", "T00001/readme", "link", "notes.txt"]
    assert [tape.label for tape in pool.tapes()] == ["T00001"]
    ground.next(pool).close()
    assert sorted(os.listdir(ground.top / "T00001")) == ["00000.label", "00009.zip", "readme"]


def test_a_directory_of_somebody_else_is_no_blank_tape(ground: Ground) -> None:
    (ground.top / "photos").mkdir()
    (ground.top / "photos" / "cat.jpg").write_text("mine")
    assert name_of(ground.next(ground.pool())) == "T00001"
    assert os.listdir(ground.top / "photos") == ["cat.jpg"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "x" * 200, "a\nb"])
def test_an_odd_label_is_refused(ground: Ground, name: str) -> None:
    with pytest.raises(UsageError):
        ground.pool().load_blank(name)
    assert os.listdir(ground.top) == []


def test_no_such_tape(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    with pytest.raises(NotFoundError, match="did you mean T00001"):
        pool.load("T0001")
    with pytest.raises(NotFoundError, match="the pool of tapes vault"):
        ground.pool(path=str(ground.top / "gone"))


def test_a_tape_in_a_directory_of_another_name_is_told(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    (ground.top / "T00001").rename(ground.top / "T00007")
    with pytest.raises(IntegrityError, match="has the label T00001"):
        pool.load("T00007")


def test_a_damaged_label_and_a_newer_one(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    file = ground.top / "T00001" / "00000.label"
    label = pool.load("T00001").label
    assert label is not None
    file.write_bytes(encode_label(msgspec.structs.replace(label, format=2)))
    with pytest.raises(FormatUnknownError, match="newer vsnapfs"):
        pool.load("T00001")
    file.write_bytes(encode_label(label)[:700])
    with pytest.raises(IntegrityError, match="damaged"):
        pool.load("T00001")
    assert name_of(ground.next(pool)) == "T00002"


def test_a_missing_file_stops_writing_and_not_reading(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    ground.stock(pool, "T00001")
    (ground.top / "T00001" / "00001.tar").unlink()
    tape = pool.load("T00001", write=True)
    with pytest.raises(IntegrityError, match=r"file 1 of tape .* is missing"):
        tape.append(FileKind.PIECE)
    tape.open(2).close()
    with pytest.raises(NotFoundError, match="no file 1"):
        tape.open(1)
    tape.close()


def test_a_file_that_stands_there_twice_stops_writing(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    (ground.top / "T00001" / "00001.tar.zst").write_bytes(b"")
    tape = pool.load("T00001", write=True)
    with pytest.raises(IntegrityError, match=r"file 1 of tape .* stands there twice"):
        tape.append(FileKind.PIECE)
    tape.close()


def test_a_block_that_the_disk_cannot_read_is_named_and_passed_over(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ground.pool(capacity="64K")
    tape = ground.next(pool)
    writer = tape.append(FileKind.PIECE)
    content = os.urandom(20_000)
    writer.write(content)
    writer.finish()
    real = os.preadv

    def preadv(fd: int, buffers: Any, at: int) -> int:
        if at < 3 * 4096 and at + sum(map(len, buffers)) > 2 * 4096:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, buffers, at)

    monkeypatch.setattr("vsnapfs.media.file_reader.os.preadv", preadv)
    reader = tape.open(1)
    found, buffer, damaged = bytearray(), bytearray(7000), []
    while True:
        try:
            count = reader.readinto(buffer)
        except DamagedBlockError as error:
            damaged.append((error.offset_bytes, len(found), error.length_bytes))
            found += bytes(error.length_bytes)
            continue
        if not count:
            break
        found += buffer[:count]
    assert damaged == [(8192, 8192, 4096)]
    assert found == content[:8192] + bytes(4096) + content[12288:]
    tape.close()


def test_a_tape_is_read_from_its_directory_alone(ground: Ground) -> None:
    pool = ground.pool()
    ground.stock(pool, "T00001")
    tape = PoolTape.at(ground.top / "T00001")
    assert tape.label is not None
    assert tape.label.label == "T00001"
    assert [file.kind for file in tape.files()] == [FileKind.LABEL, FileKind.PIECE, FileKind.INDEX]
    assert tape.read_only
    tape.close()
    with pytest.raises(NotFoundError):
        PoolTape.at(ground.top / "gone")
