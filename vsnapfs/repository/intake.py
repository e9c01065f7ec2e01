"""Taking images in as new writes: import, and resync of a primary that was written to behind the splitter's back.

Both compare an image with the newest committed state of a volume, 4 KiB by 4 KiB, and journal only what differs.
Nobody may write to an image, or to its volume, while it is imported: what is read from it is journalled as newer than
any such write. A volume that is resynced stays in use. A crash in the middle leaves a part of the difference in the
history, without a bookmark; doing it again completes it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.names import check_name
from vsnapfs.repository import bookmarks, volumes
from vsnapfs.repository.bring import bring, everything
from vsnapfs.repository.live_volume import LiveVolume, require_in_use
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.primary import OpenImage, find_image, open_image
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.sources import FileSource, data_of
from vsnapfs.repository.sparse import PIECE_BYTES, data_spans, union
from vsnapfs.repository.tally import Tally

COMMIT_BYTES = 64 << 20
"""Journalled between two commits, so that a long resync does not pend as a whole."""


def import_images(parts: Parts, images: dict[str, Path], body: BookmarkAdded, report: Report) -> Bookmark:
    """Bring volumes to the content of images, and name the result.

    A volume that is not there is made, without a primary; one of another size is resized. All images are opened and
    judged before the first write. Raises: NameTakenError, UsageError, NotFoundError: nothing was written.
    """
    parts.require_owner()
    if not images:
        raise UsageError("there is no image to import", hint="give VOLUME=IMAGE")
    with parts.working(f"the import of {body.name}"), ExitStack() as stack:
        bookmarks.refuse_taken(parts, body.name)
        opened = {name: _judged(parts, name, path, stack) for name, path in images.items()}
        total = sum(image.size_bytes for image in opened.values())
        done = 0
        for name, image in opened.items():
            entry = _fitting(parts, name, image.size_bytes)
            _take_in(parts, entry, image, Tally(parts, f"import of {name}", done, total, report))
            done += image.size_bytes
        return bookmarks.add(parts, body, 0)


def resync(parts: Parts, name: str, report: Report) -> int:
    """Journal what a volume's primary holds and the journal does not know. Returns the bytes journalled.

    Raises: UsageError: it has no primary. DegradedError: the primary is not in use.
    """
    parts.require_owner()
    with parts.working(f"the resync of {name}"):
        entry = parts.entry(name)
        if entry.primary_kind == "none":
            raise UsageError(f"volume {name} has no primary", volume=name, hint="use `vsnapfs import`")
        require_in_use(parts, entry)
        fd = parts.primaries[entry.id]
        return _compare(parts, entry, fd, Tally(parts, f"resync of {name}", 0, entry.size_bytes, report))


def _compare(parts: Parts, entry: VolumeEntry, fd: int, tally: Tally) -> int:
    """By the core, piece by piece, so that writes to the volume need not stop. Returns the bytes journalled, durably."""
    journal = parts.journal
    journal.commit()
    written, pending = 0, 0
    with view_of(parts, entry, journal.facts().committed_seqno) as head:
        spans = list(union(data_spans(fd, head.size_bytes), data_of(head), head.size_bytes))
    for span in spans:
        for at in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
            found = journal.resync(entry.id, at, min(PIECE_BYTES, span.end_bytes - at))
            written, pending = written + found, pending + found
            if pending >= COMMIT_BYTES:
                journal.commit()
                pending = 0
            tally.at(min(at + PIECE_BYTES, span.end_bytes))
    tally.at(entry.size_bytes)
    journal.commit()
    return written


def _take_in(parts: Parts, entry: VolumeEntry, image: OpenImage, tally: Tally) -> None:
    """Journal where an open image differs from the volume, which has its size; all is durable."""
    source = FileSource(image.fd, image.size_bytes, f"the image of {entry.name}")
    with LiveVolume(parts, entry) as live:
        spans = everything(source, data_of(live.head))
        bring(source, live, spans, tally, verify=False)
    tally.at(entry.size_bytes)


def _judged(parts: Parts, name: str, path: Path, stack: ExitStack) -> OpenImage:
    """Open an image, and refuse what could not be taken in."""
    check_name(name, "volume")
    image = open_image(find_image(path, parts.layout))
    stack.callback(os.close, image.fd)
    with parts.names:
        entry = parts.index.volume(name)
    if entry is not None and image.size_bytes != entry.size_bytes:
        volumes.check_resize(parts, entry, image.size_bytes)
    if entry is not None:
        require_in_use(parts, entry)
    return image


def _fitting(parts: Parts, name: str, size_bytes: int) -> VolumeEntry:
    with parts.names:
        entry = parts.index.volume(name)
    if entry is None:
        volumes.add_without_primary(parts, name, size_bytes)
    elif entry.size_bytes != size_bytes:
        volumes.resize(parts, name, size_bytes)
    return parts.entry(name)
