"""Which archives make a point, and what is missing of them: pure."""

from __future__ import annotations

import msgspec
import pytest

from vsnapfs.archive.chain import chosen, others, plan
from vsnapfs.archive.index import PieceBefore
from vsnapfs.archive.inventory import Inventory
from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, ArchiveKind, PieceEntry, TapeEntry

pytestmark = pytest.mark.unit
REPOSITORY = "r"


def point(number: int, name: str | None = None) -> ArchivedPoint:
    return ArchivedPoint(seqno=number, time=f"2026-01-{number:02d}T00:00:00.000000000Z", bookmark=name)


class Ground:
    """An inventory that is put together by hand."""

    def __init__(self) -> None:
        self.known = Inventory()

    def tape(self, label: str) -> str:
        self.known.add_tape(TapeEntry(label=label, uuid=f"uuid-{label}", medium="m", block_bytes=4096, made=""))
        return f"uuid-{label}"

    def archive(
        self,
        uuid: str,
        at: ArchivedPoint,
        *,
        since: ArchivedPoint | None = None,
        parent: str | None = None,
        repository: str = REPOSITORY,
        made: str = "",
        pieces: tuple[tuple[str, int], ...] = (("T1", 1),),
        total: int | None = None,
        volumes: tuple[str, ...] = (),
    ) -> None:
        kind: ArchiveKind = "full" if since is None else "incremental"
        self.known.archives[uuid] = ArchiveEntry(
            uuid=uuid, repository=repository, kind=kind, point=at, since=since, parent=parent, made=made or uuid,
            volumes=volumes,
        )  # fmt: skip
        for number, (label, file) in enumerate(pieces):
            if label:
                self.known.pieces[uuid, number] = piece(uuid, number, self.tape(label), file)
        if total is None or total:
            self.known.totals[uuid] = len(pieces) if total is None else total


def piece(archive: str, number: int, tape: str, file: int) -> PieceEntry:
    return PieceEntry(
        archive=archive,
        number=number,
        tape_uuid=tape,
        file=file,
        stream_offset=number * 1000,
        stream_bytes=1000,
        stored_bytes=1000,
        index_bytes=10,
        sha256="",
    )


def test_a_chain_begins_with_the_full_archive() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"))
    ground.archive("one", point(2, "tue"), since=point(1), parent="full", pieces=(("T1", 3), ("T2", 1)))
    ground.archive("two", point(3, "wed"), since=point(2), parent="one", pieces=(("T2", 3),))
    found = plan(ground.known, chosen(ground.known, "wed"))
    assert [step.archive.uuid for step in found.steps] == ["full", "one", "two"]
    assert [tape.label for tape in found.tapes] == ["T1", "T2"]
    found.require_whole()


def test_without_its_parent_any_archive_of_that_point_will_do() -> None:
    ground = Ground()
    ground.archive("synthetic", point(2, "tue"))
    ground.archive("two", point(3, "wed"), since=point(2), parent="gone")
    assert [step.archive.uuid for step in plan(ground.known, chosen(ground.known, "wed")).steps] == ["synthetic", "two"]


def test_of_several_archives_of_a_point_the_best_is_taken() -> None:
    ground = Ground()
    ground.archive("base", point(1, "mon"))
    ground.archive("incremental", point(2, "tue"), since=point(1), parent="base", made="3")
    assert chosen(ground.known, "tue").uuid == "incremental"
    ground.archive("older-full", point(2, "tue"), made="1")
    assert chosen(ground.known, "tue").uuid == "older-full"
    ground.archive("newer-full", point(2, "tue"), made="2", pieces=(("T1", 9), ("", 0)))
    assert chosen(ground.known, "tue").uuid == "older-full", "the other one lacks a piece"


@pytest.mark.parametrize("wanted", ["tue", "@2", "latest", "o"])
def test_an_archive_is_named_in_four_ways(wanted: str) -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"))
    ground.archive("one", point(2, "tue"), since=point(1), parent="full")
    assert chosen(ground.known, wanted).uuid == "one"


def test_a_name_in_two_repositories_has_to_be_told_apart() -> None:
    ground = Ground()
    ground.archive("a", point(1, "mon"))
    ground.archive("b", point(1, "mon"), repository="other")
    with pytest.raises(UsageError, match="2 points"):
        chosen(ground.known, "mon")
    assert chosen(ground.known, "mon", "other").uuid == "b"
    assert chosen(ground.known, "b").uuid == "b"


def test_what_is_missing_is_named_by_the_tape_that_it_was_written_on() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"), pieces=(("T1", 1), ("", 0), ("T3", 1)))
    ground.known.before["full", 1] = PieceBefore(tape="T2", tape_uuid="uuid-T2", file=1, sha256="")
    with pytest.raises(NotFoundError, match="tape T2 with piece 1"):
        plan(ground.known, chosen(ground.known, "mon")).require_whole()


def test_an_archive_without_its_last_piece_was_broken_off() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"), total=0)
    with pytest.raises(NotFoundError, match="broken off"):
        plan(ground.known, chosen(ground.known, "mon")).require_whole()


def test_a_piece_without_an_index_is_found_by_its_place() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"), pieces=(("T1", 1), ("", 0), ("T1", 5)))
    ground.known.add_unindexed("uuid-T1", 3, counted=True)
    (step,) = plan(ground.known, chosen(ground.known, "mon")).steps
    assert step.pieces[1].entry is not None
    assert (step.pieces[1].entry.file, step.pieces[1].entry.stream_offset) == (3, 1000)
    assert step.pieces[1].entry.stream_bytes == 1000


def test_a_piece_that_never_counted_is_not_taken_for_one() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"), total=0)
    ground.known.add_unindexed("uuid-T1", 3, counted=False)
    (step,) = plan(ground.known, chosen(ground.known, "mon")).steps
    assert len(step.pieces) == 1
    assert not step.is_whole


def test_a_circle_is_damage() -> None:
    ground = Ground()
    ground.archive("a", point(1, "mon"), since=point(2), parent="b")
    ground.archive("b", point(2, "tue"), since=point(1), parent="a")
    with pytest.raises(IntegrityError, match="back to themselves"):
        plan(ground.known, ground.known.archives["a"])


def test_a_parent_without_some_of_the_volumes_will_not_do() -> None:
    ground = Ground()
    ground.archive("some", point(1, "mon"), volumes=("a",))
    ground.archive("one", point(2, "tue"), since=point(1), parent="gone", volumes=("a", "b"))
    with pytest.raises(NotFoundError, match="archive gone"):
        plan(ground.known, ground.known.archives["one"])
    ground.archive("all", point(1, "mon"), volumes=("a", "b", "c"), made="0")
    assert [step.archive.uuid for step in plan(ground.known, ground.known.archives["one"]).steps] == ["all", "one"]


def test_of_several_archives_of_a_point_that_with_the_wanted_volumes_is_taken() -> None:
    ground = Ground()
    ground.archive("all", point(1, "mon"), volumes=("a", "b"), made="1")
    ground.archive("some", point(1, "mon"), volumes=("a",), made="2")
    assert chosen(ground.known, "mon").uuid == "all"
    assert chosen(ground.known, "mon", volumes=["b"]).uuid == "all"
    assert chosen(ground.known, "mon", volumes=["a"]).uuid == "some"


def test_an_index_that_claims_a_thousand_million_pieces_is_no_list_of_them() -> None:
    ground = Ground()
    ground.archive("full", point(1, "mon"), total=10**9)
    (step,) = plan(ground.known, chosen(ground.known, "mon")).steps
    assert len(step.pieces) < 100_000
    assert (step.pieces[0].number, step.pieces[-1].number) == (0, 10**9 - 1)
    with pytest.raises(NotFoundError):
        plan(ground.known, ground.known.archives["full"]).require_whole()


def test_of_several_archives_of_a_point_that_with_its_indexes_is_taken() -> None:
    ground = Ground()
    ground.archive("older", point(1, "mon"), made="1")
    ground.archive("newer", point(1, "mon"), made="2")
    assert chosen(ground.known, "mon").uuid == "newer"
    lost = ground.known.pieces["newer", 0]
    ground.known.pieces["newer", 0] = msgspec.structs.replace(lost, index_bytes=0)
    assert chosen(ground.known, "mon").uuid == "older"


def test_other_ways_to_a_point_are_all_chains_to_it() -> None:
    ground = Ground()
    for copy in ("a", "b"):
        ground.archive(f"full-{copy}", point(1, "mon"))
        ground.archive(f"one-{copy}", point(2, "tue"), since=point(1), parent="full-a")
    found = plan(ground.known, ground.known.archives["one-a"])
    own = ArchivedPoint(seqno=2, time="2026-01-02T00:00:00.000000001Z", bookmark="tue")
    ground.archive("of-a-copy-of-the-repository", own)
    ways = {tuple(step.archive.uuid for step in way.steps) for way in others(ground.known, found)}
    assert ways == {("full-b", "one-a"), ("full-a", "one-b"), ("full-b", "one-b")}


def test_ways_that_lead_nowhere_are_not_all_gone() -> None:
    """Two to the thirtieth of them."""
    ground = Ground()
    ground.archive("full", point(30))
    for number in range(1, 30):
        for copy in ("a", "b"):
            ground.archive(f"{number}{copy}", point(number + 1), since=point(number))
    assert list(others(ground.known, plan(ground.known, ground.known.archives["full"]))) == []
