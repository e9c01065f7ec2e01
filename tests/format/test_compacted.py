"""Compactions through the binding, against the plain model: what roots show stays as it is, and figures are exact."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.journals import Directory, runs_of, sample
from tests.support.reference import BLOCK, History
from vsnapfs.binding import Journal
from vsnapfs.binding.compact import Wish, compact, estimate_compaction, space
from vsnapfs.core.errors import IntegrityError, PointGoneError

SEGMENTS = 20


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(tmp_path)
    yield made
    made.close()


def assert_roots(journal: Journal, history: History, roots: list[int]) -> None:
    for seqno, state in history.states(roots):
        for volume, image in state.items():
            if image.removed:
                continue
            with journal.view(volume, seqno) as view:
                assert view.read(0, image.size_bytes) == bytes(image.content)
                assert runs_of(view) == image.runs()
                found = view.stat()
                assert (found.size_bytes, found.data_bytes, found.last_write_seqno) == (
                    image.size_bytes,
                    image.data_bytes,
                    image.last_write_seqno,
                )


def assert_changes(journal: Journal, history: History, since: int, until: int) -> None:
    """What is not said to have changed did not."""
    before, after = history.state(since), history.state(until)
    for volume in before.keys() & after.keys():
        if after[volume].removed:
            continue
        with journal.changes(volume, since, until) as view:
            at = 0
            for run in view.runs(keep_zeros=True):
                at = run.offset_bytes + run.length_bytes
                if run.kind == 0:
                    old = bytes(before[volume].content[run.offset_bytes : at])
                    assert bytes(after[volume].content[run.offset_bytes : run.offset_bytes + len(old)]) == old
            assert at == view.size_bytes


def payload_bytes(journal: Journal, until: int) -> int:
    """Of blocks that records put into the journal."""
    total = 0
    for piece in journal.pieces():
        if not piece.zero and piece.seqno <= until:
            first, last = piece.offset_bytes // BLOCK, (piece.offset_bytes + piece.length_bytes - 1) // BLOCK
            total += (last - first + 1) * BLOCK
    return total


def roots_of(journal: Journal, seed: int) -> list[int]:
    """Some points of all segments but the last two, the first point of which begins the window."""
    sealed = [segment for segment in journal.segments() if segment.sealed]
    window = sealed[-2].first_seqno
    return [*sorted(random.Random(seed).sample(range(10, window), 12)), window]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_roots_stay_as_they_are(directory: Directory, seed: int) -> None:
    history = sample(directory, segments=SEGMENTS, seed=seed)
    with directory.open() as journal:
        roots = roots_of(journal, seed)
        for first, count in ((0, 8), (8, 1), (9, 1), (8, 8), (16, 1)):
            expected = estimate_compaction(journal, Wish(first, count, roots, []), 0)
            assert compact(journal, Wish(first, count, roots, [])) == expected
            made = next(segment for segment in journal.segments() if segment.ordinal == first)
            assert expected is not None
            assert made.ordinals == count
            assert made.size_bytes == expected.bytes_after
        assert journal.superseded() == 0
        assert sum(path.stat().st_size for path in directory.segments()) >= journal.facts().journal_bytes
        assert_roots(journal, history, [*roots, history.last_seqno])
        for since, until in itertools.pairwise(roots):
            assert_changes(journal, history, since, until)
    with directory.open(owner=False) as journal:
        assert_roots(journal, history, [*roots, history.last_seqno])
        assert [event.seqno for event in journal.events()] == [
            seqno for seqno, record in enumerate(history.records, 1) if type(record).__name__ not in ("Write", "Zero")
        ]


def test_what_is_counted_as_garbage_goes(directory: Directory) -> None:
    """Payload blocks that stay, and those that no root needs, are all there were."""
    sample(directory, segments=SEGMENTS)
    with directory.open() as journal:
        roots = roots_of(journal, 5)
        exclusive, garbage = space(journal, roots)
        before = payload_bytes(journal, roots[-1] - 1)
        kept = 0
        for ordinal in range(SEGMENTS - 2):
            facts = compact(journal, Wish(ordinal, 1, roots, []))
            assert facts is not None
            kept += facts.payload_blocks * BLOCK
        assert kept + garbage == before
        assert space(journal, roots) == (exclusive, 0)
        dropped = roots.pop(6)
        now, garbage = space(journal, roots)
        assert garbage == exclusive[6], f"what only @{dropped} needed"
        assert all(now[i] >= exclusive[i if i < 6 else i + 1] for i in range(len(now)))


def test_events_of_bookmarks_that_are_gone_may_be_left_out(directory: Directory) -> None:
    sample(directory, segments=SEGMENTS)
    with directory.open() as journal:
        roots = roots_of(journal, 6)
        bookmarks = [event.seqno for event in journal.events() if event.kind == 6 and event.seqno < roots[-1]]
        gone = [seqno for seqno in bookmarks if seqno not in roots][:5]
        assert compact(journal, Wish(0, 8, roots, gone)) is not None
        left = {event.seqno for event in journal.events()}
        first_behind = next(segment for segment in journal.segments() if segment.ordinal == 8).first_seqno
        assert {seqno for seqno in gone if seqno < first_behind}.isdisjoint(left)
        assert set(bookmarks) - set(gone) <= left


def test_what_cannot_be(directory: Directory) -> None:
    sample(directory, segments=SEGMENTS)
    with directory.open() as journal:
        roots = roots_of(journal, 7)
        assert compact(journal, Wish(1, 8, roots, [])) is None, "not aligned"
        assert estimate_compaction(journal, Wish(16, 8, roots, []), 0) is None, "reaches beyond the window"
        assert compact(journal, Wish(0, 1, roots, [])) is not None
        last = journal.segments()[0].last_seqno
        gone = next(seqno for seqno in range(2, last) if seqno not in roots)
        with pytest.raises(PointGoneError, match="only bookmarks are kept"):
            journal.view(1, gone)
        with pytest.raises(PointGoneError, match=f"@{gone} is not kept"):
            compact(journal, Wish(0, 1, sorted({*roots, gone}), []))


def test_damage_is_not_carried_along(directory: Directory) -> None:
    """The group stays, and it is said where it is damaged."""
    history = sample(directory, segments=SEGMENTS)
    with directory.open() as journal:
        roots = roots_of(journal, 8)
        group = {segment.first_seqno: segment.ordinal for segment in journal.segments() if 8 <= segment.ordinal < 16}
        with journal.view(2, roots[-1]) as view:
            run = next(run for run in view.places() if run.segment in group and run.block)
        path, block = directory.segments()[group[run.segment]], run.block
        content = bytearray(path.read_bytes())
        content[block * BLOCK + 100] ^= 4
        path.write_bytes(content)
        with pytest.raises(IntegrityError) as caught:
            compact(journal, Wish(8, 8, roots, []))
        assert path.name in str(caught.value)
        assert compact(journal, Wish(0, 8, roots, [])) is not None
        assert not (directory.path / "journal/compact.new").exists()
        content[block * BLOCK + 100] ^= 4
        path.write_bytes(content)
        assert_roots(journal, history, roots)
