"""Replays of random histories against a list of writes in plain Python: over several segments, sealed ones and the open one, several
volumes, writes of every size and alignment, zeros, discards, resizes, and without some of it chosen at random. What comes out is compared
byte for byte, and every conflict with a model that asks of every byte who wrote it last.

VSNAPFS_REPLAYED_HISTORIES says how many; VSNAPFS_REPLAYED_SEED is the first seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.journals import Directory, append
from tests.support.reference import BLOCK, Add, History, Image, Mark, Record, Resize, Write, Zero
from tests.support.trace import Trace, record_of
from vsnapfs.binding import Journal, RecordKind, Replay
from vsnapfs.core.errors import UsageError
from vsnapfs.replay.choice import Choice, Range, Span
from vsnapfs.replay.plan import Plan, kept_runs
from vsnapfs.replay.reach import Reach, refuse_growth, refuse_strangers

pytestmark = [pytest.mark.stateful, pytest.mark.timeout(600)]

HISTORIES = int(os.environ.get("VSNAPFS_REPLAYED_HISTORIES", "40"))
SEED = int(os.environ.get("VSNAPFS_REPLAYED_SEED", "1"))
SIZES = {1: 100_000, 2: 80 * BLOCK, 3: 9 * BLOCK + 512}
RECORDS = 130

Met = dict[tuple[int, str, int, int], int]
"""(kept seqno, kind, volume, byte): skipped seqno."""


def grown(directory: Directory, rng: random.Random, journal: Journal) -> History:
    """A history in several segments, of which the last is open."""
    history = History()
    base = rng.randbytes(SIZES[1])
    directory.build_base(1, base)
    append(journal, history, Add(1, SIZES[1], base))
    append(journal, history, Add(2, SIZES[2]))
    append(journal, history, Add(3, SIZES[3]))
    trace = Trace(rng.randrange(2**32), {str(number): size for number, size in SIZES.items()}, write_max=20_000)
    small = rng.random() < 0.3
    for _ in range(RECORDS):
        for record in steps(history, rng, trace, small=small):
            append(journal, history, record)
        if rng.random() < 0.1:
            journal.commit()
        if rng.random() < 0.04:
            journal.seal()
    journal.commit()
    return history


def steps(history: History, rng: random.Random, trace: Trace, *, small: bool) -> Iterator[Record]:
    draw = rng.random()
    if draw < 0.03:
        yield Mark('{"name": "m"}')
    elif draw < 0.05:  # down and up again; now and then beyond what it was
        volume = rng.choice([2, 3])
        yield Resize(volume, rng.randrange(512, SIZES[volume]))
        yield Resize(volume, SIZES[volume] if rng.random() < 0.97 else SIZES[volume] + BLOCK)
        if history.state(history.last_seqno)[volume].size_bytes > SIZES[volume]:
            yield Resize(volume, SIZES[volume])
    elif small:  # in a few blocks, so that most of them meet
        volume = rng.choice([1, 2])
        offset_bytes = rng.randrange(4 * BLOCK)
        yield Write(volume, offset_bytes, rng.randbytes(rng.randrange(1, BLOCK)))
    else:
        step = trace.step()
        yield record_of(step, int(step.volume))


def chosen(rng: random.Random, since: int, until: int, times: dict[int, int]) -> Choice:
    seqnos = [
        Span(first, first + rng.randrange(4))
        for first in rng.sample(range(since + 1, until + 1), min(rng.randrange(6), until - since))
    ]
    first = rng.randrange(since + 1, until + 1)
    spans = [Span(times[first], times[min(until, first + 3)])] if rng.random() < 0.3 else []
    ranges = {}
    if rng.random() < 0.5:
        volume = rng.choice(list(SIZES))
        start = rng.randrange(SIZES[volume])
        ranges[volume] = [Range(start, start + rng.randrange(1, 20_000)), Range(start + 100, start + 300)]
    volumes = [rng.choice(list(SIZES))] if rng.random() < 0.15 else []
    only = rng.sample(list(SIZES), 2) if rng.random() < 0.15 else None
    return Choice(seqnos=seqnos, times=spans, volumes=volumes, only=only, ranges=ranges)


class Model:
    """Byte by byte, without an extent."""

    def __init__(self, history: History, since: int, choice: Choice, times: dict[int, int]) -> None:
        self.images: dict[int, Image] = history.state(since)
        self.sizes = {number: image.size_bytes for number, image in self.images.items()}
        self.begin = dict(self.sizes)
        """As large as a branch's volumes; what is behind is only there to be left out."""
        self.content = {
            number: bytearray(image.content).ljust(2 * SIZES[number]) for number, image in self.images.items()
        }
        self.wrote = {number: [0] * len(content) for number, content in self.content.items()}
        self.met: Met = {}
        self.grew = False
        self._choice = choice
        self._times = times
        self._ranges = {number: choice._ranges.get(number, ()) for number in SIZES}

    def take(self, seqno: int, record: Record) -> None:
        match record:
            case Write(volume, offset_bytes, data):
                self._write(seqno, volume, offset_bytes, data)
            case Zero(volume, offset_bytes, length_bytes):
                self._write(seqno, volume, offset_bytes, bytes(length_bytes))
            case Resize(volume, size_bytes):
                old, self.sizes[volume] = self.sizes[volume], size_bytes
                self.grew |= size_bytes > self.begin[volume] and self._choice.takes(volume)
                low, high = sorted([old, size_bytes])
                self._write(seqno, volume, low, bytes(high - low))

    def _write(self, seqno: int, volume: int, offset_bytes: int, data: bytes) -> None:
        content, wrote = self.content[volume], self.wrote[volume]
        places = range(offset_bytes, offset_bytes + len(data))
        keeps = self._choice.keeps(seqno, self._times[seqno], volume)
        kept = set(places) if keeps else set()
        for left in self._ranges[volume]:
            kept -= set(range(left.start_bytes, left.end_bytes))
        for at in kept:
            content[at] = data[at - offset_bytes]
            if wrote[at]:
                self.met[seqno, "over", volume, at] = wrote[at]
            wrote[at] = 0
        for block in {at // BLOCK for at in (*places[:1], *places[-1:], *self._edges(volume))}:
            blocks = range(block * BLOCK, min(len(content), (block + 1) * BLOCK))
            if kept.isdisjoint(blocks):
                continue
            for at in blocks:
                if at not in kept and wrote[at]:
                    self.met[seqno, "beside", volume, at] = wrote[at]
        for at in set(places) - kept:
            wrote[at] = seqno

    def _edges(self, volume: int) -> Iterator[int]:
        """Where a write may be kept on the one side alone."""
        for left in self._ranges[volume]:
            yield from (max(0, left.start_bytes - 1), left.end_bytes)


def replayed(records: Replay, choice: Choice, path: Path, begin: dict[int, Image]) -> dict[int, bytes]:
    files = {}
    for number, image in begin.items():
        files[number] = path / str(number)
        files[number].write_bytes(image.content)
    fds = {number: os.open(file, os.O_RDWR) for number, file in files.items()}
    try:
        for pieces in records.pieces():
            for run in kept_runs(choice, pieces):
                records.apply(run, fds[run[0].volume])
    finally:
        for fd in fds.values():
            os.close(fd)
    return {number: file.read_bytes() for number, file in files.items()}


def met_by(plan: Plan) -> Met:
    found: Met = {}
    for each in plan.conflicts:
        for at in range(each.start_bytes, each.end_bytes):
            key = each.kept_seqno, each.kind, each.volume, at
            assert key not in found
            found[key] = each.skipped_seqno
    return found


@pytest.mark.parametrize("seed", range(SEED, SEED + HISTORIES))
def test_a_replay_is_what_the_model_says(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    directory = Directory(tmp_path)
    try:
        with directory.open(batch_bytes=rng.choice([0, 1 << 16])) as journal:
            history = grown(directory, rng, journal)
            for number in range(3):
                one_replay(tmp_path, journal, history, rng, number)
    finally:
        directory.close()


def one_replay(path: Path, journal: Journal, history: History, rng: random.Random, number: int) -> None:
    since = rng.randrange(3, history.last_seqno)
    until = rng.randrange(since + 1, history.last_seqno + 1)
    times = {seqno: journal.time_of(seqno) for seqno in range(since + 1, until + 1)}
    choice = chosen(rng, since, until, times)
    model = Model(history, since, choice, times)
    begin = history.state(since)
    for seqno in range(since + 1, until + 1):
        model.take(seqno, history.records[seqno - 1])
    events = [event for event in journal.events(since) if event.seqno <= until]
    sizes = {volume: image.size_bytes for volume, image in begin.items()}
    reach = Reach(since, sizes, {volume: f"v{volume}" for volume in sizes}, events)
    with Replay(journal, since, until) as records:
        if number == 2 and rng.random() < 0.5:
            journal.seal()  # while it is open
        plan = Plan(choice)
        for pieces in records.pieces():
            plan.take(pieces)
        plan.end()
        if model.grew:
            with pytest.raises(UsageError, match="grew"):
                refuse_growth(reach, choice)
            return
        refuse_growth(reach, choice)
        refuse_strangers(reach, plan)
        (path / f"r{number}").mkdir()
        found = replayed(records, choice, path / f"r{number}", begin)
    assert found == {volume: bytes(model.content[volume][:size]) for volume, size in model.begin.items()}
    assert met_by(plan) == model.met
    left = {volume: sum(1 for seqno in wrote if seqno) for volume, wrote in model.wrote.items()}
    assert {volume: planned.skipped.bytes for volume, planned in plan.volumes.items()} == {
        volume: left[volume] for volume in plan.volumes
    }
    writes = {event.seqno for event in events if event.kind != RecordKind.VOLUME_RESIZE}
    assert plan.applied_records + plan.skipped_records == until - since - len(writes)
