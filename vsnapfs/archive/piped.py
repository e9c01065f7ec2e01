"""An archive that comes once, from its beginning to its end: out of a pipe, or from what a program reads.

Nothing is known of it but what has come by. So each volume is written as it comes, and is in doubt until it was read back and compared
with the digests at the end. Memory holds a buffer of it, and the maps.

Source: docs/recall.md, section on pipes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from vsnapfs.archive.chain import Plan
from vsnapfs.archive.contents import Contents, require_sane
from vsnapfs.archive.damage import UNSURE, Damage, Flaw, Lost
from vsnapfs.archive.entries import archive_entry, first_piece
from vsnapfs.archive.extents import Extents
from vsnapfs.archive.heads import Reader, read_manifest, read_text
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.manifest import SUMS, ManifestVolume
from vsnapfs.archive.placing import Placed, Step
from vsnapfs.archive.readback import Where, read_back
from vsnapfs.archive.reading import BLOCK_BYTES, StoredPiece, plain_runs
from vsnapfs.archive.recall import Recalled, Report
from vsnapfs.archive.stream import VolumeMap
from vsnapfs.archive.tar import MemberHead, padded, parse_sums, read_head
from vsnapfs.core.errors import IntegrityError, UsageError
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.tape import TapeReader

FILE = 1
"""The number of the only tape file there is."""
SUMS_BYTES_MAX = 16 << 20


class Piped:
    """A full archive, plain, compressed or encrypted, out of ``reader``.

    Resource handling: ``close`` closes the reader too, and ends a program that decrypts. Concurrency: one thread.
    """

    def __init__(self, reader: TapeReader, name: str, identities: Sequence[Path] = ()) -> None:
        """Reads its head. name: for people.

        Raises: IntegrityError: no archive begins there. UsageError: it is an incremental one, or none of the identities is for it.
        """
        self.name = name
        self._damage = Damage()
        """Flaws of what is stored; nobody knows yet what they cost."""
        self._runs = plain_runs(StoredPiece(_Once(reader, name), FILE, None, self._damage), identities)
        self._reader = Reader(self._runs)
        self._maps: dict[str, VolumeMap] = {}
        self._sums = b""
        try:
            self.manifest = read_manifest(self._reader)
            require_sane(self.manifest)
        except IntegrityError as error:
            raise IntegrityError(f"{name} does not begin with an archive: {error.message}") from error
        if self.manifest.kind != "full":
            raise UsageError(
                f"{name} is an incremental archive, which goes onto others",
                hint="write it to a file, and give --from that and where the others are",
            )

    def close(self) -> None:
        """Twice is allowed."""
        self._runs.close()

    @property
    def plan(self) -> Plan:
        """It, as if it were on a tape."""
        tape = TapeEntry(label=self.name, uuid="", medium="", block_bytes=BLOCK_BYTES, made=self.manifest.made)
        piece = first_piece(self.manifest, tape.uuid, FILE)
        return Plan((Step(archive_entry(self.manifest, ""), (Placed(0, piece, tape, tape.label),), is_whole=True),))

    def recall(self, landing: Landing, report: Report, *, publish: bool = True) -> Recalled:
        """All of it into a landing, once. What a broken-off one has left there is written over.

        publish: see Recall.run. Raises: NotFoundError, NameTakenError, NoSpaceError, StoreError.
        """
        landing.begin(self.manifest)
        for volume in filter(lambda volume: landing.wants(volume.name), self.manifest.volumes):
            landing.zero(volume.name, 0, volume.size_bytes)  # holes are not read back
        self._take_all(landing, report)
        for flaw in self._damage.flaws:
            landing.damage.flaw(flaw)
        landing.settle(0, 0, 0)
        self._read_back(landing)
        landing.add_sums(hashlib.sha256(self._sums).hexdigest() if self._sums else "")
        landing.settle(1, 0, 0)
        images = landing.finish() if publish else landing.partials()
        return Recalled(
            manifest=self.manifest,
            archives=landing.state.archives,
            sums=tuple(landing.state.sums),
            images={name: str(path) for name, path in images.items()},
            resumed=False,
            verified=True,
            flaws=landing.damage.flaws,
            lost=landing.damage.lost(),
        )

    def _take_all(self, landing: Landing, report: Report) -> None:
        """Each volume, and the digests. What is behind something that cannot be understood is lost."""
        done, total = 0, sum(volume.stored_bytes for volume in self.manifest.volumes)
        left = list(self.manifest.volumes)
        try:
            while left:
                for length_bytes in self._volume(left[0], landing):
                    done += length_bytes
                    report(Progress(what="recall", done=done, total=total))
                left.pop(0)
            self._sums = self._digests()
            for _ in self._runs:
                pass  # whoever writes into the pipe may come to their end
        except IntegrityError as error:
            self._damage.flaw(Flaw(tape=self.name, file=FILE, why=error.message))
            for volume in left:
                if volume.name not in self._maps:  # else what is lost of it is named
                    self._lose(landing, volume.name, (0, volume.size_bytes), error.message)

    def _volume(self, volume: ManifestVolume, landing: Landing) -> Iterator[int]:
        """The next member, which is that volume's data. Yields: bytes that were taken."""
        head = read_head(self._reader.read)
        name = f"{self.manifest.name}/{volume.name}"
        if not isinstance(head, MemberHead) or head.map is None or head.name != name:
            raise IntegrityError(f"volume {volume.name} does not begin where it should")
        if (head.real_bytes, head.stored_bytes) != (volume.size_bytes, volume.stored_bytes):
            raise IntegrityError(f"volume {volume.name} has other sizes than the manifest says")
        self._maps[volume.name] = VolumeMap(head.map, Extents())
        self._lose(landing, volume.name, (0, volume.size_bytes), UNSURE, zeros=False)
        at = 0
        try:
            for run in self._reader.runs(head.stored_bytes):
                self._land(landing, volume.name, head.map.places(at, run.length_bytes), run.content)
                at += run.length_bytes
                yield run.length_bytes
            self._reader.skip(padded(head.stored_bytes) - head.stored_bytes)
        except IntegrityError as error:
            for place in head.map.places(at, head.stored_bytes - at):
                self._lose(landing, volume.name, place, error.message)
            raise

    def _land(
        self, landing: Landing, volume: str, places: Iterable[tuple[int, int]], content: memoryview | None
    ) -> None:
        done = 0
        for offset_bytes, length_bytes in places:
            if content is None:
                self._lose(landing, volume, (offset_bytes, length_bytes), "it cannot be read")
            elif landing.wants(volume):
                landing.write(volume, offset_bytes, content[done : done + length_bytes])
            done += length_bytes

    def _lose(self, landing: Landing, volume: str, place: tuple[int, int], why: str, *, zeros: bool = True) -> None:
        offset_bytes, length_bytes = place
        if not landing.wants(volume) or not length_bytes:
            return
        if zeros:
            landing.zero(volume, offset_bytes, length_bytes)
        landing.damage.lose(
            Lost(
                volume=volume,
                offset_bytes=offset_bytes,
                length_bytes=length_bytes,
                tape=self.name,
                file=FILE,
                why=why,
                zeros=zeros,
            )
        )

    def _digests(self) -> bytes:
        head = read_head(self._reader.read)
        if not isinstance(head, MemberHead) or head.name != f"{self.manifest.name}/{SUMS}":
            raise IntegrityError("the digests do not begin where they should")
        return read_text(self._reader, head, SUMS_BYTES_MAX)

    def _read_back(self, landing: Landing) -> None:
        """What does not match, or cannot be compared, stays in doubt."""
        if len(self._maps) < len(self.manifest.volumes):
            return
        with suppress(IntegrityError):
            said = parse_sums(self._sums)
            read_back(Contents(self.manifest, self._maps, landing.readinto), landing, said, Where(self.name, FILE))


class _Once:
    """A reader as the file of a tape."""

    label: TapeLabel | None = None

    def __init__(self, reader: TapeReader, name: str) -> None:
        self.name = name
        self._reader = reader

    def open(self, number: int) -> TapeReader:
        assert number == FILE
        return self._reader
