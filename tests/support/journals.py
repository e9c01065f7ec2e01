"""A repository's directory as the C core needs it, for tests that use the binding without a Repository around it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

from tests.support.reference import Add, History, Image, Kind, Mark, Record, Remove, Resize, Run, Write, Zero
from tests.support.trace import Trace, record_of
from vsnapfs.binding import BaseBuilder, Journal, RecordKind, Store, View
from vsnapfs.repository import layout

UUID = bytes(range(16))


class Directory:
    """A directory with an empty journal in it, or an existing one. Ends with ``close``; journals must be closed before."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if create:
            for name in layout.DIRECTORIES:
                (path / name).mkdir(exist_ok=True)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.store = Store(self._fd)
        if create:
            Journal.create(self.store, UUID)

    def open(self, *, owner: bool = True, segment_bytes: int = 0, batch_bytes: int = 0, uuid: bytes = UUID) -> Journal:
        return Journal(self.store, uuid, owner=owner, segment_bytes=segment_bytes, batch_bytes=batch_bytes)

    def build_base(self, volume: int, content: bytes) -> int:
        """Make base/<volume> with this content; returns the bytes of data it holds."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        source = os.memfd_create("source")
        image = os.open(self.path / layout.base_image(volume), flags, 0o600)
        index = os.open(self.path / layout.base_index(volume), flags, 0o600)
        try:
            os.write(source, content)
            builder = BaseBuilder(self.store, UUID, volume, len(content), source=source, image=image, index=index)
            try:
                builder.take(0, len(content), True)
                return builder.finish()
            finally:
                builder.close()
        finally:
            for fd in (source, image, index):
                os.close(fd)

    def close(self) -> None:
        self.store.close()
        os.close(self._fd)

    def segments(self) -> list[Path]:
        return sorted((self.path / layout.JOURNAL).glob("*.seg"))

    def torn(self) -> list[Path]:
        return sorted((self.path / layout.JOURNAL).glob("*.torn"))


def append(journal: Journal, history: History, record: Record) -> int:
    """Append one record to the journal and to the model; their seqnos must be equal. Returns it."""
    seqno = _append(journal, history, record)
    assert seqno == history.last_seqno + 1
    return history.append(record)


def _append(journal: Journal, history: History, record: Record) -> int:
    match record:
        case Add(volume, size_bytes, _):
            seqno, given = journal.event(
                RecordKind.VOLUME_ADD, volume=volume, a=512, b=size_bytes, body=b'{"name": "v"}'
            )
            assert given == volume
            return seqno
        case Write(volume, offset_bytes, content):
            return journal.write(volume, offset_bytes, content)
        case Zero(volume, offset_bytes, length_bytes):
            return journal.zero(volume, offset_bytes, length_bytes)
        case Resize(volume, size_bytes):
            old = history.state(history.last_seqno)[volume].size_bytes
            return journal.event(RecordKind.VOLUME_RESIZE, volume=volume, a=old, b=size_bytes)[0]
        case Remove(volume):
            return journal.event(RecordKind.VOLUME_REMOVE, volume=volume)[0]
        case Mark(text):
            return journal.event(RecordKind.BOOKMARK_ADD, body=text.encode())[0]


def runs_of(view: View, *, keep_zeros: bool = False) -> list[Run]:
    """The runs of a view in the model's words."""
    return [Run(run.offset_bytes, run.length_bytes, Kind(run.kind)) for run in view.runs(keep_zeros=keep_zeros)]


def assert_view(view: View, image: Image) -> None:
    """A view shows exactly this volume: size, bytes, runs with and without zeros, bytes of data, last write."""
    assert view.size_bytes == image.size_bytes
    assert view.read(0, image.size_bytes) == bytes(image.content)
    assert runs_of(view, keep_zeros=True) == image.runs(keep_zeros=True)
    assert runs_of(view) == image.runs()
    state = view.stat()
    found = (state.size_bytes, state.data_bytes, state.added_seqno, state.last_write_seqno)
    assert found == (image.size_bytes, image.data_bytes, image.added_seqno, image.last_write_seqno)


def assert_journal(journal: Journal, history: History, seqnos: Iterable[int]) -> None:
    """At each of some seqnos every volume that was there reads as the model says."""
    for seqno, state in history.states(seqnos):
        for volume, image in state.items():
            if not image.removed:
                with journal.view(volume, seqno) as view:
                    assert_view(view, image)


BASE_BYTES = 100_000


def sample(directory: Directory, *, segments: int = 10, seed: int = 1) -> History:
    """Fill an empty journal with some of everything; it is closed again, its last segment active.

    Volume 1 begins from a base and has no whole number of blocks, 2 is thin and resized, 3 comes late and goes again; each sealed segment
    has writes, discards and a bookmark; maps are merged; the active segment has several batches and the clean end of an earlier owner.
    """
    history = History()
    rng = random.Random(seed)
    base = bytearray(rng.randbytes(BASE_BYTES))
    base[8192:20480] = bytes(12288)
    directory.build_base(1, bytes(base))
    journal = directory.open()
    append(journal, history, Add(1, BASE_BYTES, bytes(base)))
    append(journal, history, Add(2, 65536))
    trace = Trace(seed, {"1": BASE_BYTES, "2": 40960}, write_max=20000)
    for number in range(segments):
        if number == 3:
            append(journal, history, Add(3, 4096))
            append(journal, history, Write(3, 512, rng.randbytes(1000)))
        _some_steps(journal, history, trace, 12)
        if number == 5:
            append(journal, history, Remove(3))
            append(journal, history, Resize(2, 50000))
            append(journal, history, Resize(2, 81920))
        append(journal, history, Mark(f'{{"name": "b{number}"}}'))
        journal.commit()
        journal.seal()
    while journal.merge_maps():
        pass
    for _ in range(2):
        _some_steps(journal, history, trace, 6)
        journal.commit()
    journal.close()
    journal = directory.open()
    _some_steps(journal, history, trace, 6)
    journal.close()
    return history


def _some_steps(journal: Journal, history: History, trace: Trace, count: int) -> None:
    for _ in range(count):
        step = trace.step()
        append(journal, history, record_of(step, int(step.volume)))
