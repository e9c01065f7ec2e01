"""The catalog of tapes: what it is told stays, what depends on what, and a file that is not as it should be is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from vsnapfs.archive.inventory import of_catalog
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.tapes import Found, Tapes
from vsnapfs.core.errors import (
    BusyError,
    DegradedError,
    FormatUnknownError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
)
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, PieceEntry, TapeEntry, TapeLabel

pytestmark = pytest.mark.unit

UUID = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"
MADE = "2026-11-26T10:00:00.000000000Z"
NOW_NS = 1_795_000_000 * 10**9


class Ground:
    def __init__(self, top: Path, fd: int) -> None:
        self.path = top / "tapes.db"
        self.fd = fd
        self.opened: list[Tapes] = []

    def open(self, *, write: bool = True, repository: str = UUID) -> Tapes:
        self.opened.append(Tapes(Place(self.fd, self.path), repository, write=write))
        return self.opened[-1]


@pytest.fixture
def ground(memory_path: Path) -> Iterator[Ground]:
    fd = os.open(memory_path, os.O_RDONLY | os.O_DIRECTORY)
    made = Ground(memory_path, fd)
    yield made
    for tapes in made.opened:
        tapes.close()
    os.close(fd)


def label(name: str, uuid: str, generation: int = 1) -> TapeLabel:
    return TapeLabel(
        label=name, uuid=uuid, medium="vault", block_bytes=4096, made=MADE, generation=generation, note="a shelf"
    )


def archive(uuid: str, seqno: int, parent: str | None = None, **others: Any) -> ArchiveEntry:
    fields: dict[str, Any] = {
        "uuid": uuid,
        "repository": UUID,
        "kind": "full" if parent is None else "incremental",
        "point": ArchivedPoint(seqno=seqno, time=MADE, bookmark=f"b{seqno}", consistency="crash"),
        "since": None if parent is None else ArchivedPoint(seqno=seqno - 1, time=MADE),
        "parent": parent,
        "made": f"2026-11-26T10:00:{seqno:02}.000000000Z",
        "medium": "vault",
        "volumes": ("db0",),
    }
    return ArchiveEntry(**fields | others)


def piece(of: str, number: int, tape: str, file: int, sha256: str = "ab") -> PieceEntry:
    return PieceEntry(
        archive=of,
        number=number,
        tape_uuid=tape,
        file=file,
        stream_offset=number * 1000,
        stream_bytes=1000,
        stored_bytes=900,
        index_bytes=50,
        sha256=sha256,
    )


def put(tapes: Tapes, entry: ArchiveEntry, *pieces: tuple[str, int]) -> None:
    """A complete archive; pieces: (uuid of the tape, tape file)."""
    tapes.begin_archive(entry)
    for number, (tape, file) in enumerate(pieces):
        tapes.piece_done(piece(entry.uuid, number, tape, file), NOW_NS + number)
    tapes.complete(entry.uuid)


def uuids(entries: list[ArchiveEntry]) -> list[str]:
    return [entry.uuid for entry in entries]


@pytest.fixture
def chained(ground: Ground) -> Tapes:
    """A full archive on two tapes, one since it on the second, one since that on a third."""
    tapes = ground.open()
    for name in ("A", "B", "C"):
        tapes.begin_tape(label(name, f"tape-{name}"))
    put(tapes, archive("full", 1), ("tape-A", 1), ("tape-B", 1))
    put(tapes, archive("second", 2, "full"), ("tape-B", 3))
    put(tapes, archive("third", 3, "second"), ("tape-C", 1))
    return tapes


def test_what_it_is_told_stays(ground: Ground, chained: Tapes) -> None:
    before = (chained.tapes(), chained.archives(), chained.pieces("full"))
    chained.close()
    again = ground.open(write=False)
    assert (again.tapes(), again.archives(), again.pieces("full")) == before
    tape_b = again.tape("B")
    assert (tape_b.files, tape_b.used_bytes, tape_b.state, tape_b.note) == (5, 1900, "open", "a shelf")
    full = again.archive("full")
    assert (full.state, full.pieces, full.stream_bytes, full.stored_bytes) == ("complete", 2, 2000, 1800)
    assert full.point == ArchivedPoint(seqno=1, time=MADE, bookmark="b1", consistency="crash")
    assert again.archive("second").since == ArchivedPoint(seqno=1, time=MADE)
    assert [each.file for each in again.pieces_on("tape-B")] == [1, 3]


def test_nothing_is_made_by_who_only_looks(ground: Ground) -> None:
    tapes = ground.open(write=False)
    assert tapes.tapes() == []
    assert not ground.path.exists()


def test_only_the_user_can_read_it(ground: Ground) -> None:
    ground.open()
    assert ground.path.stat().st_mode & 0o777 == 0o600


def test_every_change_is_synced(ground: Ground) -> None:
    tapes = ground.open()
    synchronous = tapes._db.execute("PRAGMA synchronous").get
    assert synchronous == 3


def test_a_label_written_again_loses_what_was_on_the_tape(chained: Tapes) -> None:
    chained.begin_tape(label("B", "tape-B2", 2), force=True)
    assert chained.tape("B").uuid == "tape-B2"
    assert chained.tape("B").files == 1
    assert [(entry.uuid, entry.state, entry.pieces) for entry in chained.archives()] == [
        ("full", "lost", 1),
        ("second", "lost", 0),
        ("third", "complete", 1),
    ]
    assert chained.archive("full").why == "tape B was written over"
    assert chained.standing() == []
    chained.begin_tape(label("B", "tape-B2", 2))
    assert len(chained.tapes()) == 3


@pytest.mark.parametrize("what", ["counts", "protected"])
def test_a_tape_is_not_given_up_for_who_has_looked_at_it_before(chained: Tapes, what: str) -> None:
    chained.retire("C", NOW_NS)  # it was found to be free, and is asked for
    if what == "protected":
        chained.protect("C", protected=True)
        with pytest.raises(PermissionDeniedError, match="tape C is protected; `vsnapfs tape protect C --off`"):
            chained.begin_tape(label("C", "tape-C2", 2), force=True)
    else:
        with pytest.raises(BusyError, match="tape B holds archives that count"):
            chained.begin_tape(label("B", "tape-B2", 2))
    assert {tape.uuid for tape in chained.tapes()} == {"tape-A", "tape-B", "tape-C"}
    assert {entry.state for entry in chained.archives()} == {"complete"}


@pytest.mark.parametrize("how", ["retired", "written over"])
def test_an_archive_whose_tape_is_given_up_meanwhile_is_not_complete(chained: Tapes, how: str) -> None:
    chained.begin_tape(label("D", "tape-D"))
    chained.begin_archive(archive("more", 4))
    chained.piece_done(piece("more", 0, "tape-D", 1), NOW_NS)
    if how == "retired":
        chained.retire("D", NOW_NS)
        with pytest.raises(DegradedError, match="tape D was retired while it was written to; make another archive"):
            chained.piece_done(piece("more", 1, "tape-D", 3), NOW_NS)
    else:
        chained.begin_tape(label("D", "tape-D2", 2), force=True)
    chained.piece_done(piece("more", 1, "tape-C", 3), NOW_NS)
    with pytest.raises(DegradedError, match=f"archive more is not complete: tape D was {how}"):
        chained.complete("more")
    assert chained.archive("more").state == ("failed" if how == "retired" else "lost")
    assert chained.copies(4) == []


def test_an_archive_whose_parent_is_given_up_meanwhile_is_not_complete(chained: Tapes) -> None:
    chained.begin_tape(label("D", "tape-D"))
    chained.begin_archive(archive("more", 4, "third"))
    chained.piece_done(piece("more", 0, "tape-D", 1), NOW_NS)
    chained.retire("A", NOW_NS)
    with pytest.raises(DegradedError, match="archive third, which it goes on from, does not count any more"):
        chained.complete("more")
    assert chained.archive("more").state == "failed"


def test_one_that_lacks_a_piece_is_not_complete(chained: Tapes) -> None:
    chained.begin_archive(archive("more", 4))
    with pytest.raises(DegradedError):
        chained.complete("more")
    chained.piece_done(piece("more", 1, "tape-C", 3), NOW_NS)
    with pytest.raises(DegradedError):
        chained.complete("more")


def test_a_clock_that_was_set_back_frees_no_tape_early(chained: Tapes) -> None:
    chained.begin_tape(label("D", "tape-D"))
    latest = max(tape.written_ns or 0 for tape in chained.tapes())
    chained.begin_archive(archive("more", 4))
    chained.piece_done(piece("more", 0, "tape-D", 1), NOW_NS - 10**18)
    assert chained.tape("D").written_ns == latest
    chained.piece_done(piece("more", 1, "tape-D", 3), latest + 1)
    assert chained.tape("D").written_ns == latest + 1


def test_a_full_disk_is_told_as_that(ground: Ground, chained: Tapes) -> None:
    pages = chained._db.execute("PRAGMA page_count").get
    chained._db.execute(f"PRAGMA max_page_count = {pages}")
    before = (chained.tapes(), chained.archives())
    with pytest.raises(NoSpaceError, match="is full"):
        chained.begin_archive(archive("more", 4, why="x" * 100_000))
    assert (chained.tapes(), chained.archives()) == before
    chained.protect("A", protected=True)  # it goes on


def test_who_reads_does_not_leave_a_change_half_done(
    ground: Ground, chained: Tapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsnapfs.catalog.tape_file.BUSY_MS", 1)
    tapes, other = ground.open(), ground.open()
    other._db.execute("BEGIN")
    reading = other._db.execute("SELECT * FROM tape")
    next(reading)
    with pytest.raises(BusyError):
        tapes.protect("A", protected=True)
    reading.close()
    other._db.execute("COMMIT")
    assert not other.tape("A").protected
    assert tapes.protect("A", protected=True).protected


@pytest.mark.parametrize("what", ["inventory", "standing", "broken off", "depending"])
def test_what_is_read_is_of_one_moment(
    ground: Ground, chained: Tapes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tape is written over in between: nobody sees the archives of before and the tapes of after, or the other way round."""
    reader = ground.open(write=False)
    ways: dict[str, Callable[[], object]] = {
        "inventory": lambda: (of_catalog(reader).pieces, of_catalog(reader).tapes),
        "standing": reader.standing,
        "broken off": reader.broken_off,
        "depending": lambda: reader.depending_on("tape-B"),
    }
    before = ways[what]()
    archives = reader.archives
    chained._db.set_busy_timeout(0)

    def meanwhile() -> list[ArchiveEntry]:
        found = archives()
        with pytest.raises(BusyError):  # who changes something waits
            chained.begin_tape(label("B", "tape-B2", 2), force=True)
        return found

    monkeypatch.setattr(reader, "archives", meanwhile)
    assert ways[what]() == before
    monkeypatch.undo()
    chained.begin_tape(label("B", "tape-B2", 2), force=True)
    assert (reader.standing(), "tape-B2" in of_catalog(reader).tapes) == ([], True)


def test_a_chain_and_its_tapes(chained: Tapes) -> None:
    assert uuids(chained.chain("third")) == ["full", "second", "third"]
    assert uuids(chained.chain("full")) == ["full"]
    assert [tape.label for tape in chained.tapes_of(chained.chain("third"))] == ["A", "B", "C"]
    assert [tape.label for tape in chained.tapes_of(chained.chain("second"))] == ["A", "B"]


def test_a_chain_of_one_whose_parent_is_not_known(chained: Tapes) -> None:
    """``archive --since`` of a point that was archived elsewhere."""
    since = ArchivedPoint(seqno=3, time=MADE)
    put(chained, archive("alone", 4, kind="incremental", since=since), ("tape-C", 3))
    assert uuids(chained.chain("alone")) == ["full", "second", "third", "alone"]
    assert uuids(chained.depending_on("tape-A"))[-1] == "alone"
    nowhere = ArchivedPoint(seqno=77, time=MADE)
    put(chained, archive("lost", 5, kind="incremental", since=nowhere), ("tape-C", 5))
    with pytest.raises(NotFoundError, match="needs one of the point that it goes on from, which is not known"):
        chained.chain("lost")
    assert "lost" not in uuids(chained.standing())


def test_a_chain_that_is_not_whole(chained: Tapes) -> None:
    chained.begin_archive(archive("orphan", 9, "nobody"))
    with pytest.raises(NotFoundError, match="needs archive nobody"):
        chained.chain("orphan")
    chained.begin_archive(archive("ring", 10, "ring"))
    with pytest.raises(IntegrityError, match="needs itself"):
        chained.chain("ring")


def test_copies_of_a_point(chained: Tapes) -> None:
    put(chained, archive("again", 2, made="2026-11-27T10:00:00.000000000Z"), ("tape-C", 3))
    assert uuids(chained.copies(2)) == ["second", "again"]
    assert uuids(chained.copies(3)) == ["third"]
    chained.retire("A", NOW_NS)
    assert uuids(chained.copies(2)) == ["again"]
    assert chained.copies(3) == []
    assert chained.copies(7) == []


def test_one_that_is_under_way_or_failed_is_no_copy(chained: Tapes) -> None:
    chained.begin_archive(archive("more", 4, "third"))
    assert chained.archive("more").state == "under way"
    assert chained.copies(4) == []
    chained.failed("more", "the cat did it")
    assert (chained.archive("more").state, chained.archive("more").why) == ("failed", "the cat did it")
    assert chained.copies(4) == []
    chained.begin_archive(archive("more", 4, "third"))
    assert (chained.archive("more").state, chained.archive("more").why) == ("under way", "")
    chained.piece_done(piece("more", 0, "tape-C", 3), NOW_NS)
    chained.complete("more")
    assert uuids(chained.copies(4)) == ["more"]


def test_who_needs_a_tape(chained: Tapes) -> None:
    assert uuids(chained.depending_on("tape-A")) == ["full", "second", "third"]
    assert uuids(chained.depending_on("tape-B")) == ["full", "second", "third"]
    assert uuids(chained.depending_on("tape-C")) == ["third"]


def test_what_becomes_of_a_tape(chained: Tapes) -> None:
    assert chained.protect("A", protected=True).protected
    assert not chained.protect("A", protected=False).protected
    chained.set_full("tape-A")
    assert chained.tape("A").state == "full"
    retired = chained.retire("A", NOW_NS)
    assert (retired.state, retired.retired_ns) == ("retired", NOW_NS)
    assert chained.retire("A", NOW_NS + 5).retired_ns == NOW_NS
    chained.set_full("tape-A")
    assert chained.tape("A").state == "retired"
    with pytest.raises(NotFoundError, match="no tape 'AA' is in the catalog; did you mean A"):
        chained.retire("AA", NOW_NS)


def test_the_same_piece_twice_and_another_in_its_place(chained: Tapes) -> None:
    before = chained.pieces("third")
    chained.piece_done(before[0], NOW_NS)
    assert chained.pieces("third") == before
    chained.piece_done(piece("third", 0, "tape-A", 3, "cd"), NOW_NS + 9)
    assert chained.pieces("third") == [piece("third", 0, "tape-A", 3, "cd")]
    assert chained.tape("C").files == 1
    assert chained.tape("A").files == 5
    assert chained.tape("A").written_ns == NOW_NS + 9


def test_a_piece_of_nothing_that_is_known_is_refused(chained: Tapes) -> None:
    with pytest.raises(NotFoundError, match="is not known"):
        chained.piece_done(piece("nobody", 0, "tape-A", 9), NOW_NS)
    with pytest.raises(NotFoundError, match="is not known"):
        chained.piece_done(piece("full", 2, "tape-Z", 9), NOW_NS)


def test_an_archive_by_the_beginning_of_its_uuid(chained: Tapes) -> None:
    assert chained.archive("thi").uuid == "third"
    put(chained, archive("thirteen", 5), ("tape-C", 3))
    with pytest.raises(NotFoundError, match="2 archives begin with 'thir'"):
        chained.archive("thir")
    assert chained.archive("third").uuid == "third"
    for unknown in ("", "x", "%"):
        with pytest.raises(NotFoundError, match="no archive"):
            chained.archive(unknown)


def test_a_change_that_fails_changes_nothing(chained: Tapes) -> None:
    before = (chained.tapes(), chained.archives())
    with pytest.raises(NotFoundError):
        chained.forget_tape("Z")
    assert (chained.tapes(), chained.archives()) == before
    chained.forget_tape("C")
    assert chained.archive("third").state == "lost"


def found_in(tapes: Tapes) -> Found:
    """Everything, as if it was read from tapes."""
    archives = tapes.archives()
    pieces = tuple(each for entry in archives for each in tapes.pieces(entry.uuid))
    return Found(tapes=tuple(tapes.tapes()), archives=tuple(archives), pieces=pieces)


def test_it_is_made_again_from_what_tapes_tell(ground: Ground, chained: Tapes) -> None:
    found = found_in(chained)
    before = (chained.tapes(), chained.archives(), chained.pieces("full"))
    chained.close()
    ground.path.unlink()
    again = ground.open()
    again.merge(found)
    assert (again.tapes(), again.archives(), again.pieces("full")) == before
    again.merge(found)
    assert (again.tapes(), again.archives(), again.pieces("full")) == before


def test_what_tapes_tell_does_not_undo_what_people_said(chained: Tapes) -> None:
    found = found_in(chained)
    chained.retire("A", NOW_NS)
    chained.protect("B", protected=True)
    chained.set_full("tape-C")
    before = (chained.tapes(), chained.archives())
    chained.merge(found)
    assert (chained.tapes(), chained.archives()) == before


def test_what_tapes_tell_completes_what_was_not_known(chained: Tapes) -> None:
    chained.begin_archive(archive("more", 4))
    chained.failed("more", "interrupted")
    tape = TapeEntry(label="D", uuid="tape-D", medium="vault", block_bytes=4096, made=MADE)
    whole = Found(
        tapes=(tape,), archives=(archive("more", 4, state="complete"),), pieces=(piece("more", 0, "tape-D", 1),)
    )
    chained.merge(whole)
    assert (chained.archive("more").state, chained.archive("more").why) == ("complete", "")
    assert chained.tape("D").files == 3


def test_of_two_tapes_of_one_label_the_newer_stays(chained: Tapes) -> None:
    old = TapeEntry(label="C", uuid="tape-C0", medium="vault", block_bytes=4096, made=MADE, generation=1)
    stale = Found(tapes=(old,), archives=(archive("old", 8),), pieces=(piece("old", 0, "tape-C0", 1),))
    chained.merge(stale)
    assert chained.tape("C").uuid == "tape-C"
    assert chained.pieces("old") == []
    new = TapeEntry(label="C", uuid="tape-C9", medium="vault", block_bytes=4096, made=MADE, generation=9)
    chained.merge(Found(tapes=(new,), archives=(), pieces=()))
    assert chained.tape("C").uuid == "tape-C9"
    assert chained.archive("third").state == "lost"


def test_a_tape_of_another_repository_takes_no_label(chained: Tapes) -> None:
    theirs = TapeEntry(label="C", uuid="tape-C9", medium="vault", block_bytes=4096, made=MADE, generation=9)
    other = archive("theirs", 8, state="complete", repository="5f3a3c1e-0000-4000-8000-00000000000b", pieces=1)
    before = (chained.tapes(), chained.archives())
    found = Found(tapes=(theirs,), archives=(other,), pieces=(piece("theirs", 0, "tape-C9", 1),))
    assert chained.merge(found) == ["C"]
    assert (chained.tapes(), chained.archives()) == before
    elsewhere = replace(theirs, label="D")
    chained.merge(Found(tapes=(elsewhere,), archives=(other,), pieces=(piece("theirs", 0, "tape-C9", 1),)))
    assert (chained.tape("D").uuid, chained.archive("theirs").state) == ("tape-C9", "complete")
    assert chained.tape("D").state == "full"  # it is theirs to write to
    assert (chained.copies(8), uuids(chained.standing())) == ([], ["full", "second", "third", "theirs"])


def test_an_archive_of_which_a_piece_is_not_taken_is_no_copy(chained: Tapes) -> None:
    stale = TapeEntry(label="C", uuid="tape-C0", medium="vault", block_bytes=4096, made=MADE)
    new = replace(stale, label="D", uuid="tape-D")
    pieces = (piece("old", 0, "tape-C0", 1), piece("old", 1, "tape-D", 1))
    chained.merge(Found(tapes=(stale, new), archives=(archive("old", 8, state="complete", pieces=2),), pieces=pieces))
    assert chained.copies(8) == []


def test_two_processes_change_it_in_turn(ground: Ground, chained: Tapes) -> None:
    other = ground.open()
    other.protect("A", protected=True)
    chained.set_full("tape-A")
    assert other.tape("A").state == "full"
    assert chained.tape("A").protected


def test_who_holds_it_for_too_long_is_told(ground: Ground, chained: Tapes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsnapfs.catalog.tape_file.BUSY_MS", 1)
    other = ground.open()
    chained._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="somebody else is changing it"):
        other.protect("A", protected=True)
    chained._db.execute("ROLLBACK")


def test_damage_is_an_error_and_never_made_again(ground: Ground, chained: Tapes) -> None:
    chained.close()
    content = bytearray(ground.path.read_bytes())
    content[:16] = b"no longer sqlite"
    ground.path.write_bytes(content)
    for write in (False, True):
        with pytest.raises(IntegrityError):
            ground.open(write=write)
    assert ground.path.read_bytes() == bytes(content)


def test_a_version_that_is_not_known_is_refused(ground: Ground, chained: Tapes) -> None:
    chained.close()
    with apsw.Connection(str(ground.path)) as db:
        db.execute("UPDATE meta SET version = 99")
    with pytest.raises(FormatUnknownError, match="version 99, this program knows 1; use a newer vsnapfs"):
        ground.open(write=False)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (a)",
        "CREATE TRIGGER t AFTER INSERT ON piece BEGIN DELETE FROM piece; END",
        "DROP INDEX piece_on",
        "DROP TABLE meta",
    ],
)
def test_other_tables_are_refused(ground: Ground, chained: Tapes, statement: str) -> None:
    chained.close()
    db = apsw.Connection(str(ground.path))
    db.execute(statement)
    db.close()
    with pytest.raises(IntegrityError):
        ground.open()


def test_that_of_another_repository_is_refused(ground: Ground, chained: Tapes) -> None:
    chained.close()
    with pytest.raises(IntegrityError, match="of another repository"):
        ground.open(repository=UUID.replace("7", "8"))


@pytest.mark.parametrize("what", ["symlink", "pipe", "directory"])
def test_what_is_no_file_is_refused(ground: Ground, what: str) -> None:
    if what == "symlink":
        ground.path.symlink_to("/etc/passwd")
    elif what == "pipe":
        os.mkfifo(ground.path)
    else:
        ground.path.mkdir()
    for write in (False, True):
        with pytest.raises(IntegrityError, match="is no file"):
            ground.open(write=write)


def test_a_row_that_no_program_of_ours_wrote_is_refused(ground: Ground, chained: Tapes) -> None:
    chained.close()
    db = apsw.Connection(str(ground.path))
    db.execute("UPDATE tape SET state = 'lovely'")
    db.execute("UPDATE archive SET point = '{'")
    db.close()
    again = ground.open()
    with pytest.raises(IntegrityError):
        again.tapes()
    with pytest.raises(IntegrityError):
        again.archives()
    assert again.faults() == []


class Interrupted:
    """A database that is waited for; then comes Ctrl-C."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def execute(self, statement: str, *bound: Any) -> Any:
        done = self.db.execute(statement, *bound)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


def test_interrupted_as_it_begins_a_change_it_can_make_another_one(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as to say of an archive that it was interrupted."""
    tapes = ground.open()
    with monkeypatch.context() as context:
        context.setattr(tapes, "_db", Interrupted(tapes._db))
        with pytest.raises(KeyboardInterrupt):
            tapes.begin_tape(label("A", "tape-a"))
    assert tapes.tapes() == []
    tapes.begin_tape(label("B", "tape-b"))
    assert [tape.label for tape in tapes.tapes()] == ["B"]


def test_a_dropped_archive_keeps_its_place_on_tape(ground: Ground) -> None:
    """What stands there is not written over by who does not know of it; of one with nothing on tape nothing is left."""
    tapes = ground.open()
    tapes.begin_tape(label("A", "tape-a"))
    for uuid, seqno in (("begun", 1), ("empty", 2)):
        tapes.begin_archive(archive(uuid, seqno))
    tapes.piece_done(piece("begun", 0, "tape-a", 1), NOW_NS)
    for uuid in ("begun", "empty"):
        tapes.drop_archive(uuid)
    assert [(entry.uuid, entry.state) for entry in tapes.archives()] == [("begun", "dropped")]
    assert tapes.tape("A").files == 3
    assert tapes.standing() == []
