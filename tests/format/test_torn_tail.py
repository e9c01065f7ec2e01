"""Opening after a crash: a torn tail is cut and kept, a clean end is left alone, damage in the middle is never cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.support import format_reader
from tests.support.format_reader import BLOCK
from tests.support.journals import Directory, append, assert_journal
from tests.support.reference import Add, History, Mark, Write, Zero
from vsnapfs.core.errors import CorruptExtentError, IntegrityError

pytestmark = pytest.mark.format


@pytest.fixture
def directory(memory_path: Path) -> Iterator[Directory]:
    directory = Directory(memory_path)
    yield directory
    directory.close()


def blocks_of(number: int, count: int) -> bytes:
    """Payload in which no byte is 0."""
    return bytes(1 + (number + position) % 255 for position in range(count * BLOCK))


def two_batches(directory: Directory, last: list[Write | Zero | Mark]) -> tuple[History, bytes, int]:
    """A journal whose file ends in a batch of the given records, as a crash leaves it; too small for zeros ahead of it.

    Returns: the history up to the batch before, the file, where its last batch begins.
    """
    history = History()
    journal = directory.open(segment_bytes=64 * BLOCK)
    append(journal, history, Add(1, 16 * BLOCK))
    append(journal, history, Write(1, 0, blocks_of(1, 2)))
    journal.commit()
    before = History(history.records)
    for record in last:
        append(journal, history, record)
    journal.commit()
    content = directory.segments()[0].read_bytes()
    journal.close()
    batches = format_reader.read_segment(content).batches
    assert [record.seqno for record in batches[-1].records] == list(range(3, 3 + len(last)))
    return before, content, batches[-1].position


def recover(directory: Directory, content: bytes, history: History, kept: bytes) -> None:
    """Open what a crash left: exactly ``history`` is there, ``kept`` was cut off and is kept, and the journal goes on."""
    path = directory.segments()[0]
    path.write_bytes(content)
    end = len(content) - len(kept)
    with directory.open() as journal:
        facts = journal.facts()
        assert (facts.last_seqno, facts.torn_bytes) == (history.last_seqno, len(kept))
        assert path.stat().st_size == end or not any(path.read_bytes()[end:])
        assert_journal(journal, history, [history.last_seqno])
        longer = History(history.records)
        append(journal, longer, Write(1, BLOCK, b"after the crash"))
        journal.commit()
        assert_journal(journal, longer, [longer.last_seqno])
    assert [torn.read_bytes() for torn in directory.torn()] == ([kept] if kept else [])
    for torn in directory.torn():
        assert torn.name == f"{path.name}.{end}.torn"
        torn.unlink()


def test_cut_at_every_byte(directory: Directory) -> None:
    before, content, start = two_batches(directory, [Write(1, 5 * BLOCK, blocks_of(7, 1))])
    assert len(content) == start + 2 * BLOCK
    recover(directory, content[:start], before, b"")
    for cut in range(start + 1, len(content)):
        recover(directory, content[:cut], before, content[start:cut])


def test_every_subset_of_blocks_that_persisted(directory: Directory) -> None:
    """A batch of two descriptors and three payload blocks: it counts only if all five are there."""
    last: list[Write | Zero | Mark] = [Mark("x" * 4000), Write(1, 5 * BLOCK + 100, blocks_of(7, 2))]
    before, content, start = two_batches(directory, last)
    assert len(content) == start + 5 * BLOCK
    for there in product((False, True), repeat=5):
        tail = bytearray(content[start:])
        for number, persisted in enumerate(there):
            if not persisted:
                tail[number * BLOCK : (number + 1) * BLOCK] = bytes(BLOCK)
        if all(there):
            history, kept = History([*before.records, *last]), b""
        else:
            history, kept = before, bytes(tail) if any(tail) else b""
        recover(directory, content[:start] + tail, history, kept)


def test_zeros_behind_the_end_are_a_clean_end(directory: Directory) -> None:
    before, content, start = two_batches(directory, [Zero(1, 0, BLOCK)])
    recover(directory, content[:start] + bytes(5 * BLOCK), before, bytes(0))


def test_zeros_ahead_of_small_batches(directory: Directory) -> None:
    """They lie behind the last batch while the journal is open; a torn batch in them is cut; sealing and closing leave none."""
    history = History()
    with directory.open() as journal:
        append(journal, history, Add(1, 16 * BLOCK))
        append(journal, history, Write(1, 0, blocks_of(1, 2)))
        journal.commit()
        content = directory.segments()[0].read_bytes()
        end = format_reader.read_segment(content).data_end
        assert len(content) > end
        assert not any(content[end:])
        with directory.open(owner=False) as reader:
            assert_journal(reader, history, [history.last_seqno])
            append(journal, history, Write(1, BLOCK, blocks_of(2, 1)))
            journal.commit()
            reader.refresh()
            assert_journal(reader, history, [history.last_seqno])
            journal.seal()
            append(journal, history, Write(1, 0, blocks_of(3, 1)))
            journal.commit()
            reader.refresh()
            assert_journal(reader, history, [history.last_seqno])
    sealed, last = (path.read_bytes() for path in directory.segments())
    assert format_reader.read_segment(sealed).footer is not None
    assert len(last) == format_reader.read_segment(last).data_end


def test_recovery_that_was_interrupted_is_done_again(directory: Directory) -> None:
    """A crash after the torn tail was kept, but before it was cut: the next opening ends the same way."""
    before, content, start = two_batches(directory, [Write(1, 0, blocks_of(9, 3))])
    torn = content[start : start + 2 * BLOCK + 100]
    path = directory.segments()[0]
    path.with_name(f"{path.name}.{start}.torn").write_bytes(torn[:BLOCK])
    recover(directory, content[:start] + torn, before, torn)


def test_a_reader_cuts_nothing(directory: Directory) -> None:
    before, content, start = two_batches(directory, [Write(1, 0, blocks_of(9, 3))])
    path = directory.segments()[0]
    for cut in range(start, len(content), 512):
        path.write_bytes(content[:cut])
        with directory.open(owner=False) as journal:
            assert journal.facts().last_seqno == before.last_seqno
            assert_journal(journal, before, [before.last_seqno])
        assert path.read_bytes() == content[:cut]
        assert directory.torn() == []


def damaged(directory: Directory, content: bytes, at: int) -> None:
    """One bit is wrong at a place that is not the tail: opening says where, and changes nothing."""
    path = directory.segments()[0]
    bad = bytearray(content)
    bad[at] ^= 0x10
    path.write_bytes(bad)
    with pytest.raises(IntegrityError) as caught:
        directory.open()
    assert caught.value.exit_status == 6
    assert caught.value.segment == 1
    assert path.read_bytes() == bad
    assert directory.torn() == []


def test_damage_before_the_last_batch_is_never_cut(directory: Directory) -> None:
    """The first batch's descriptor, with a good batch behind it: what it held cannot be known any more."""
    _, content, _ = two_batches(directory, [Write(1, 5 * BLOCK, blocks_of(7, 1))])
    for at in range(BLOCK + 5, 2 * BLOCK, 300):
        damaged(directory, content, at)


@pytest.mark.parametrize("block", [0, 1])
def test_damaged_payload_with_a_good_batch_behind_costs_that_block_alone(directory: Directory, block: int) -> None:
    """The descriptors say all but these bytes, and a batch behind says that they were synced."""
    history, content, start = two_batches(directory, [Write(1, 5 * BLOCK, blocks_of(7, 1))])
    bad = bytearray(content)
    bad[start - (2 - block) * BLOCK + 77] ^= 0x10
    directory.segments()[0].write_bytes(bad)
    for owner in (False, True):
        with directory.open(owner=owner) as journal:
            assert (journal.facts().last_seqno, journal.facts().torn_bytes) == (3, 0)
            with journal.view(1, 3) as view:
                with pytest.raises(CorruptExtentError):
                    view.read(block * BLOCK, BLOCK)
                good = 1 - block
                assert view.read(good * BLOCK, BLOCK) == history.state(2)[1].content[good * BLOCK :][:BLOCK]
                assert view.read(5 * BLOCK, BLOCK) == blocks_of(7, 1)
            assert [
                fault.segment for fault in journal.check_segment(journal.segments()[0].first_seqno, read_payload=True)
            ] == [1]
    assert directory.torn() == []


def test_the_place_of_damage_is_that_of_its_batch(directory: Directory) -> None:
    _, content, start = two_batches(directory, [Write(1, 5 * BLOCK, blocks_of(7, 1))])
    path = directory.segments()[0]
    path.write_bytes(content[: 2 * BLOCK - 1] + b"\xff" + content[2 * BLOCK :])
    with pytest.raises(IntegrityError) as caught:
        directory.open()
    first = format_reader.read_segment(content).batches[0].position
    assert caught.value.offset_bytes is not None
    assert first <= caught.value.offset_bytes < start


def test_damage_of_a_checkpoint_is_never_cut(directory: Directory) -> None:
    """A batch without records, between two with: the records behind it were acknowledged and must not go."""
    history = History()
    with directory.open() as journal:
        append(journal, history, Add(1, 16 * BLOCK))
        append(journal, history, Write(1, 0, blocks_of(1, 2)))
    with directory.open() as journal:
        append(journal, history, Write(1, 4 * BLOCK, blocks_of(2, 2)))
        journal.commit()
        content = directory.segments()[0].read_bytes()
    batches = format_reader.read_segment(content).batches
    checkpoints = [batch for batch in batches[:-1] if not batch.records]
    assert checkpoints
    for checkpoint in checkpoints:
        damaged(directory, content, checkpoint.position + 100)


def test_payload_forges_no_records(directory: Directory) -> None:
    """A volume's owner writes what looks like the journal's own blocks; a crash behind it takes nothing of it in."""
    history = History()
    journal = directory.open()
    append(journal, history, Add(1, 16 * BLOCK))
    append(journal, history, Write(1, 0, blocks_of(1, 1)))
    journal.commit()
    stolen = directory.segments()[0].read_bytes()
    descriptor = bytearray(stolen[BLOCK : 2 * BLOCK])
    descriptor[8:24] = bytes(16)  # everything but the salt, which nobody can read
    before = History(history.records)
    append(journal, history, Write(1, 0, bytes(descriptor) * 4))
    journal.commit()
    content = directory.segments()[0].read_bytes()
    journal.close()
    start = format_reader.read_segment(content).batches[1].position
    torn = content[:start] + bytes(BLOCK) + content[start + BLOCK :]
    recover(directory, torn, before, torn[start:])
