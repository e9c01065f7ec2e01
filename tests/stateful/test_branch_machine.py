"""Branches against plain bytes: hypothesis draws writes, zeros, syncs, children down to the fifth, and reopenings; after it every branch
must read as its bytes say, use as many blocks as it holds, and refuse just what is over its quota.

The search is derandomized, so a run is the same each time. VSNAPFS_BRANCH_EXAMPLES and VSNAPFS_BRANCH_STEPS make it longer,
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
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.support.journals import Directory, append
from tests.support.reference import BLOCK, Add, History, Write
from vsnapfs.binding import Branch, RunKind
from vsnapfs.core.errors import NoSpaceError

EXAMPLES = int(os.environ.get("VSNAPFS_BRANCH_EXAMPLES", "300"))
STEPS = int(os.environ.get("VSNAPFS_BRANCH_STEPS", "50"))
RANDOM = os.environ.get("VSNAPFS_STATEFUL_RANDOM") == "1"

VOLUME = 1
BLOCKS_MAX = 20
DEPTH_MAX = 5
BRANCHES_MAX = 8

fractions = st.integers(0, 2**32 - 1)
lengths = st.one_of(st.integers(1, 600), st.integers(1, 6 * BLOCK), st.integers(1, 6).map(lambda n: n * BLOCK))


def filled(seed: int, length_bytes: int, zeros: int) -> bytes:
    """Bytes that are never 0, but for a piece that begins at ``zeros`` and is two blocks long."""
    made = bytearray((seed * 7 + at // 3) % 251 + 1 for at in range(length_bytes))
    made[zeros : zeros + 2 * BLOCK] = bytes(len(made[zeros : zeros + 2 * BLOCK]))
    return bytes(made)


class Scratch:
    """A branch and what it must be. ``own``: blocks of its last layer; ``all``: of all of them. True: they hold data, False: zeros."""

    def __init__(self, image: bytes, blocks: dict[int, bool], layers: list[int], depth: int, quota: int) -> None:
        self.image = bytearray(image)
        self.all = dict(blocks)
        self.own: dict[int, bool] = {}
        self.layers = layers
        self.depth = depth
        self.quota_blocks = quota
        self.branch: Branch | None = None

    @property
    def open(self) -> Branch:
        assert self.branch is not None
        return self.branch

    @property
    def used(self) -> int:
        return sum(self.own.values())

    def after(self, offset: int, content: bytes, zero: bool) -> dict[int, bool]:
        """What a change does to the last layer's blocks."""
        image, end = bytearray(self.image), offset + len(content)
        image[offset:end] = content
        changed = {}
        for block in range(offset // BLOCK, (end - 1) // BLOCK + 1):
            whole = offset <= block * BLOCK and (end >= (block + 1) * BLOCK or end == len(image))
            if zero and not whole and self.own.get(block) is False:
                continue
            changed[block] = not (zero and whole) and any(image[block * BLOCK : (block + 1) * BLOCK])
        return changed

    def has_room(self, changed: dict[int, bool]) -> bool:
        """A change that needs no more blocks than it replaces always has."""
        more = sum(changed.values()) - sum(self.own.get(block, False) for block in changed)
        return not self.quota_blocks or more <= 0 or self.used + more <= self.quota_blocks

    def take(self, offset: int, content: bytes, changed: dict[int, bool]) -> None:
        self.image[offset : offset + len(content)] = content
        self.own |= changed
        self.all |= changed

    def runs(self) -> list[tuple[int, int, RunKind]]:
        found: list[tuple[int, int, RunKind]] = []
        for block, data in sorted(self.all.items()):
            kind = RunKind.DATA if data else RunKind.ZERO
            offset, end = block * BLOCK, min((block + 1) * BLOCK, len(self.image))
            if found and found[-1][0] + found[-1][1] == offset and found[-1][2] == kind:
                found[-1] = (found[-1][0], end - found[-1][0], kind)
            else:
                found.append((offset, end - offset, kind))
        return found


class BranchMachine(RuleBasedStateMachine):
    """One volume at one point, and up to eight branches, of it and of each other."""

    def __init__(self) -> None:
        super().__init__()
        root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="vsnapfs-", dir=root))
        self.directory = Directory(self.path)
        self.journal = self.directory.open(owner=True)
        self.layers = 0
        self.scratches: list[Scratch] = []

    def new_layer(self) -> int:
        self.layers += 1
        (self.path / f"branches/layers/{self.layers:08x}").mkdir(parents=True)
        return self.layers

    def open(self, scratch: Scratch) -> None:
        scratch.branch = Branch(self.journal, quota_bytes=scratch.quota_blocks * BLOCK)
        scratch.branch.volume(VOLUME, self.journal.view(VOLUME, self.seqno), scratch.layers)

    @initialize(
        blocks=st.integers(2, BLOCKS_MAX), less=st.integers(0, BLOCK - 1), seed=fractions, quota=st.integers(0, 9)
    )
    def begin(self, blocks: int, less: int, seed: int, quota: int) -> None:
        history, self.size = History(), blocks * BLOCK - less
        append(self.journal, history, Add(VOLUME, self.size, None))
        written = self.size * 3 // 4
        append(self.journal, history, Write(VOLUME, self.size - written, filled(seed, written, seed % self.size)))
        self.journal.commit()
        self.seqno = history.last_seqno
        self.scratches.append(
            Scratch(bytes(history.state(self.seqno)[VOLUME].content), {}, [self.new_layer()], 1, quota)
        )
        self.open(self.scratches[0])

    def pick(self, fraction: int) -> Scratch:
        return self.scratches[fraction % len(self.scratches)]

    def change(self, scratch: Scratch, offset: int, content: bytes, *, zero: bool) -> None:
        changed = scratch.after(offset, content, zero)
        room = scratch.has_room(changed)
        try:
            if zero:
                scratch.open.zero(VOLUME, offset, len(content))
            else:
                assert scratch.open.write(VOLUME, offset, content) == len(content)
        except NoSpaceError:
            assert not room
        else:
            assert room
            scratch.take(offset, content, changed)
        self.check(scratch)

    def check(self, scratch: Scratch) -> None:
        assert scratch.open.read(VOLUME, 0, self.size) == bytes(scratch.image)
        assert scratch.open.facts().used_bytes == scratch.used * BLOCK

    @rule(which=fractions, where=fractions, length=lengths, aligned=st.booleans(), seed=fractions, zeros=lengths)
    def write(self, which: int, where: int, length: int, aligned: bool, seed: int, zeros: int) -> None:
        offset = where % self.size
        offset -= offset % BLOCK if aligned else 0
        length = min(length, self.size - offset)
        self.change(self.pick(which), offset, filled(seed, length, zeros), zero=False)

    @rule(which=fractions, where=fractions, length=lengths, aligned=st.booleans())
    def zero(self, which: int, where: int, length: int, aligned: bool) -> None:
        offset = where % self.size
        offset -= offset % BLOCK if aligned else 0
        self.change(self.pick(which), offset, bytes(min(length, self.size - offset)), zero=True)

    @rule(which=fractions)
    def zero_all(self, which: int) -> None:
        """Then it uses nothing, and after a sync its files hold nothing."""
        scratch = self.pick(which)
        self.change(scratch, 0, bytes(self.size), zero=True)
        scratch.open.sync()
        facts = scratch.open.facts()
        assert (facts.used_bytes, facts.waiting_bytes) == (0, 0)
        data = self.path / f"branches/layers/{scratch.layers[-1]:08x}/{VOLUME:08x}.data"
        assert not data.exists() or data.stat().st_size == 0

    @rule(which=fractions)
    def sync(self, which: int) -> None:
        self.pick(which).open.sync()

    @precondition(lambda self: len(self.scratches) < BRANCHES_MAX)
    @rule(which=fractions, quota=st.integers(0, 9))
    def child(self, which: int, quota: int) -> None:
        parent = self.pick(which)
        if parent.depth == DEPTH_MAX:
            return
        parent_layer, child_layer = self.new_layer(), self.new_layer()
        parent.open.freeze(parent_layer)
        scratch = Scratch(bytes(parent.image), parent.all, [*parent.layers, child_layer], parent.depth + 1, quota)
        parent.layers = [*parent.layers, parent_layer]
        parent.own = {}
        self.scratches.append(scratch)
        self.open(scratch)
        parent.open.go_on()
        self.check(parent)

    @rule(which=fractions, clean=st.booleans())
    def reopen(self, which: int, clean: bool) -> None:
        """Closed; or as the death of the process leaves it: what is not synced is in the page cache alone."""
        scratch = self.pick(which)
        layer = self.path / f"branches/layers/{scratch.layers[-1]:08x}"
        if not clean:
            shutil.copytree(layer, layer.with_suffix(".copy"))
        scratch.open.close()
        if not clean:
            shutil.rmtree(layer)
            layer.with_suffix(".copy").rename(layer)
        self.open(scratch)
        self.check(scratch)

    @rule(which=fractions, where=fractions, length=lengths)
    def look(self, which: int, where: int, length: int) -> None:
        scratch = self.pick(which)
        offset = where % self.size
        assert scratch.open.read(VOLUME, offset, length) == bytes(scratch.image[offset : offset + length])
        found = [(run.offset_bytes, run.length_bytes, run.kind) for run in scratch.open.changed(VOLUME)]
        assert found == scratch.runs()
        assert list(scratch.open.check(VOLUME)) == []

    def teardown(self) -> None:
        try:
            for scratch in self.scratches:
                self.check(scratch)
        finally:
            for scratch in self.scratches:
                scratch.open.close()
            self.journal.close()
            self.directory.close()
            shutil.rmtree(self.path)


@pytest.mark.timeout(1800)
def test_branches_are_as_their_bytes_say() -> None:
    run_state_machine_as_test(
        BranchMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not RANDOM,
            database=None,
            print_blob=RANDOM,
            suppress_health_check=list(HealthCheck),
        ),
    )
