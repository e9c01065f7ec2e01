"""The journal against the model: hypothesis draws what to do, and after it every point must read as the list of records says.

The search is derandomized, so a run is the same each time. VSNAPFS_STATEFUL_EXAMPLES and VSNAPFS_STATEFUL_STEPS make it longer,
VSNAPFS_STATEFUL_RANDOM=1 draws anew and prints how to repeat a failure.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.journals import Directory, append, assert_journal, assert_view, runs_of
from tests.support.reference import BLOCK, Add, History, Image, Mark, Remove, Resize, Write, Zero
from tests.support.trace import Trace, record_of
from vsnapfs.binding import Journal

EXAMPLES = int(os.environ.get("VSNAPFS_STATEFUL_EXAMPLES", "300"))
STEPS = int(os.environ.get("VSNAPFS_STATEFUL_STEPS", "60"))
RANDOM = os.environ.get("VSNAPFS_STATEFUL_RANDOM") == "1"

SIZE_MAX = 24 * BLOCK
WRITE_MAX = 10 * BLOCK
VOLUMES_MAX = 3

fractions = st.integers(0, 2**32 - 1)
lengths = st.one_of(
    st.integers(1, 600), st.integers(1, WRITE_MAX), st.integers(1, WRITE_MAX // BLOCK).map(lambda n: n * BLOCK)
)


def content(seqno: int, offset_bytes: int, length_bytes: int, zeros: set[int]) -> bytes:
    """Bytes that name their record, never 0, but for the ``zeros``-th blocks of the volume that the write touches."""
    made = bytearray((seqno * 7 + position) % 251 + 1 for position in range(length_bytes))
    for block in zeros:
        low = max(0, block * BLOCK - offset_bytes % BLOCK)
        high = min(length_bytes, (block + 1) * BLOCK - offset_bytes % BLOCK)
        made[low:high] = bytes(max(0, high - low))
    return bytes(made)


def copy_if_there(source: str, target: str) -> str:
    """A segment that is being begun has another name a moment later."""
    try:
        return shutil.copy2(source, target)
    except FileNotFoundError:
        return target


class JournalMachine(RuleBasedStateMachine):
    """One owner, one following reader, up to three volumes; two of them may have a primary, or begin from a base."""

    def __init__(self) -> None:
        super().__init__()
        root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="vsnapfs-", dir=root))
        self.directory = Directory(self.path)
        self.history = History()
        self.primaries: dict[int, int] = {}
        self.journal: Journal | None = None
        self.reader: Journal | None = None

    @initialize(segment_blocks=st.sampled_from([8, 32, 0]), batch_blocks=st.sampled_from([4, 16, 0]))
    def begin(self, segment_blocks: int, batch_blocks: int) -> None:
        self.segment_bytes, self.batch_bytes = segment_blocks * BLOCK, batch_blocks * BLOCK
        self.open()

    def as_owner(self, directory: Directory) -> Journal:
        return directory.open(owner=True, segment_bytes=self.segment_bytes, batch_bytes=self.batch_bytes)

    def open(self) -> None:
        self.journal = self.as_owner(self.directory)
        self.reader = self.directory.open(owner=False)
        for volume, fd in self.primaries.items():
            self.journal.attach_primary(volume, fd)

    def close(self) -> None:
        assert self.journal is not None
        assert self.reader is not None
        self.reader.close()
        self.journal.close()

    @property
    def now(self) -> dict[int, Image]:
        return self.history.state(self.history.last_seqno)

    def alive(self) -> list[int]:
        return [volume for volume, image in self.now.items() if not image.removed]

    def pick(self, fraction: int) -> tuple[int, Image]:
        alive = self.alive()
        volume = alive[fraction % len(alive)]
        return volume, self.now[volume]

    def has_volume(self) -> bool:
        return bool(self.alive())

    @precondition(lambda self: len(self.history.state(self.history.last_seqno)) < VOLUMES_MAX)
    @rule(
        size=st.one_of(st.integers(1, SIZE_MAX), st.integers(1, 24).map(lambda n: n * BLOCK)),
        base=st.booleans(),
        primary=st.booleans(),
    )
    def add_volume(self, size: int, base: bool, primary: bool) -> None:
        assert self.journal is not None
        volume = len(self.now) + 1
        begins = content(volume, 0, size, {1, 2, 5}) if base else None
        if begins is not None:
            self.directory.build_base(volume, begins)
        append(self.journal, self.history, Add(volume, size, begins))
        if primary:
            fd = os.open(self.path / f"primary/{volume:08x}.img", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.truncate(fd, size)
            os.pwrite(fd, begins or b"", 0)
            self.journal.commit()
            self.journal.attach_primary(volume, fd)
            self.primaries[volume] = fd

    @precondition(has_volume)
    @rule(
        which=fractions,
        where=fractions,
        length=lengths,
        aligned=st.booleans(),
        zeros=st.sets(st.integers(0, 10), max_size=3),
    )
    def write(self, which: int, where: int, length: int, aligned: bool, zeros: set[int]) -> None:
        assert self.journal is not None
        volume, image = self.pick(which)
        offset = where % image.size_bytes
        offset -= offset % BLOCK if aligned else 0
        length = min(length, image.size_bytes - offset)
        append(
            self.journal, self.history, Write(volume, offset, content(self.history.last_seqno, offset, length, zeros))
        )

    @precondition(has_volume)
    @rule(seed=fractions, steps=st.integers(1, 40))
    def burst(self, seed: int, steps: int) -> None:
        """Many writes and discards at once: hypothesis alone would take few steps, and never fill a map."""
        assert self.journal is not None
        sizes = {str(volume): image.size_bytes for volume, image in self.now.items() if not image.removed}
        trace = Trace(seed, sizes, write_max=WRITE_MAX)
        for _ in range(steps):
            step = trace.step()
            append(self.journal, self.history, record_of(step, int(step.volume)))

    @precondition(has_volume)
    @rule(which=fractions, where=fractions, length=st.integers(1, SIZE_MAX))
    def zero(self, which: int, where: int, length: int) -> None:
        assert self.journal is not None
        volume, image = self.pick(which)
        offset = where % image.size_bytes
        append(self.journal, self.history, Zero(volume, offset, min(length, image.size_bytes - offset)))

    @precondition(has_volume)
    @rule(which=fractions, size=st.integers(1, SIZE_MAX))
    def resize(self, which: int, size: int) -> None:
        """A primary grows before the event and shrinks after it, as the repository does it."""
        assert self.journal is not None
        volume, image = self.pick(which)
        if size == image.size_bytes:
            return
        fd = self.primaries.get(volume)
        if fd is not None and size > image.size_bytes:
            os.truncate(fd, size)
        append(self.journal, self.history, Resize(volume, size))
        if fd is not None:
            self.journal.commit()
            os.truncate(fd, size)

    @precondition(has_volume)
    @rule(which=st.integers(0, 9))
    def remove_volume(self, which: int) -> None:
        """Rare: most draws leave the volumes alone."""
        assert self.journal is not None
        if which < len(self.alive()):
            volume, _ = self.pick(which)
            self.journal.commit()
            if volume in self.primaries:
                self.journal.detach_primary(volume)
                os.close(self.primaries.pop(volume))
            append(self.journal, self.history, Remove(volume))

    @rule(text=st.text(max_size=20))
    def bookmark(self, text: str) -> None:
        assert self.journal is not None
        append(self.journal, self.history, Mark(text))

    @rule()
    def commit(self) -> None:
        assert self.journal is not None
        self.journal.commit()
        facts = self.journal.facts()
        assert facts.last_seqno == facts.committed_seqno == facts.applied_seqno == self.history.last_seqno
        assert not facts.pending
        for volume, fd in self.primaries.items():
            assert os.pread(fd, SIZE_MAX, 0)[: self.now[volume].size_bytes] == bytes(self.now[volume].content)

    @rule()
    def seal(self) -> None:
        assert self.journal is not None
        self.journal.seal()

    @rule()
    def merge_maps(self) -> None:
        assert self.journal is not None
        while self.journal.merge_maps():
            pass

    @rule(maps_go=st.booleans())
    def reopen(self, maps_go: bool) -> None:
        self.close()
        if maps_go:
            for path in (self.path / "maps").iterdir():
                path.unlink()
        self.open()
        self.everything_is_there()

    @rule()
    def crash_and_recover_elsewhere(self) -> None:
        """A copy of the files as they are now, opened: nothing that was committed is missing, nothing else is in it.

        The owner's thread may be writing a batch, or beginning a segment, while they are copied.
        """
        assert self.journal is not None
        committed = self.journal.facts().committed_seqno
        with tempfile.TemporaryDirectory(prefix="vsnapfs-", dir=self.path.parent) as name:
            shutil.copytree(self.path, name, dirs_exist_ok=True, copy_function=copy_if_there)
            copy = Directory(Path(name), create=False)
            journal = self.as_owner(copy)
            last = journal.facts().last_seqno
            assert committed <= last <= self.history.last_seqno
            assert_journal(journal, self.history, [last])
            journal.close()
            copy.close()

    @precondition(has_volume)
    @rule(which=fractions, when=fractions)
    def look(self, which: int, when: int) -> None:
        """One volume at one committed point, parts of it, and its times."""
        assert self.journal is not None
        committed = self.journal.facts().committed_seqno
        if committed == 0:
            return
        seqno = when % committed + 1
        for volume, image in self.history.state(seqno).items():
            self.look_at(volume, seqno, image, which)
        time_ns = self.journal.time_of(seqno)
        assert self.journal.seqno_at(time_ns) == seqno
        assert self.journal.seqno_at(time_ns - 1) == seqno - 1

    def look_at(self, volume: int, seqno: int, image: Image, which: int) -> None:
        assert self.journal is not None
        found = self.journal.volume_at(volume, seqno)
        assert found is not None
        assert (found.size_bytes, bool(found.removed)) == (image.size_bytes, image.removed)
        if image.removed:
            return
        with self.journal.view(volume, seqno) as view:
            assert_view(view, image)
            offset = which % (image.size_bytes + 1)
            length = which // 7 % SIZE_MAX
            assert view.read(offset, length) == bytes(image.content[offset : offset + length])

    @precondition(has_volume)
    @rule(which=fractions, first=fractions, second=fractions)
    def difference(self, which: int, first: int, second: int) -> None:
        assert self.journal is not None
        committed = self.journal.facts().committed_seqno
        if committed < 2:
            return
        since, until = sorted((first % committed, second % committed + 1))
        until = max(until, since + 1)
        for volume, image in self.history.state(until).items():
            if image.removed:
                continue
            changed = self.history.changes(volume, since, until)
            with self.journal.changes(volume, since, until) as view:
                assert runs_of(view, keep_zeros=True) == changed.runs(keep_zeros=True)
                for run in changed.runs():
                    if run.kind:
                        found = view.read(run.offset_bytes, run.length_bytes)
                        assert found == bytes(image.content[run.offset_bytes : run.offset_bytes + run.length_bytes])

    @rule()
    def reader_follows(self) -> None:
        """The owner's thread may commit more at any moment; after a commit by hand there is no more."""
        assert self.journal is not None
        assert self.reader is not None
        seen, committed = self.reader.facts().last_seqno, self.journal.facts().committed_seqno
        news = self.reader.refresh()
        last = self.reader.facts().last_seqno
        assert committed <= last <= self.history.last_seqno
        assert news == (last > seen)
        assert_journal(self.reader, self.history, [last])
        self.journal.commit()
        assert self.reader.refresh() == (self.history.last_seqno > last)
        assert self.reader.facts().last_seqno == self.history.last_seqno
        assert not self.reader.refresh()

    @precondition(lambda self: bool(self.primaries))
    @rule(where=fractions, length=lengths)
    def read_live(self, where: int, length: int) -> None:
        assert self.journal is not None
        for volume in self.primaries:
            image = self.now[volume]
            offset = where % image.size_bytes
            found = self.journal.read_live(volume, offset, length)
            assert found == bytes(image.content[offset : offset + length])

    @invariant()
    def facts_agree(self) -> None:
        if self.journal is not None:
            facts = self.journal.facts()
            assert facts.last_seqno == self.history.last_seqno
            assert facts.applied_seqno <= facts.committed_seqno <= facts.last_seqno
            assert facts.failed == 0

    def everything_is_there(self) -> None:
        """Every point of the history, and each bookmark's event with its text."""
        assert self.journal is not None
        assert_journal(self.journal, self.history, range(1, self.history.last_seqno + 1))
        marks = {
            number: record.text for number, record in enumerate(self.history.records, 1) if isinstance(record, Mark)
        }
        found = {event.seqno: bytes(event.body).decode() for event in self.journal.events() if event.seqno in marks}
        assert found == marks

    def teardown(self) -> None:
        try:
            if self.journal is not None:
                self.close()
                self.open()
                self.everything_is_there()
                self.close()
        finally:
            for fd in self.primaries.values():
                os.close(fd)
            self.directory.close()
            shutil.rmtree(self.path)


@pytest.mark.timeout(1800)
def test_journal_equals_the_model() -> None:
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=not RANDOM, database=None,
            print_blob=True, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
