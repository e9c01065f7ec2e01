"""What the journal says was written, held against what the writers were going to write and what they were promised.

Promises: every acknowledged write is there, the history is a prefix of the writes in order, a write is there whole or
not at all, a bookmark stays what it was.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.crash.writers import STRIPE_BYTES, VOLUMES, Plan, Write
from vsnapfs.binding import RecordPiece
from vsnapfs.repository.repository import Repository

Digests = dict[str, str]
"""SHA-256 by volume."""


class History:
    """All volumes, brought forward record by record, with their digests at chosen seqnos.

    Args: images: content of each volume at seqno ``last_seqno``, of VOLUME_BYTES; ids: volume by id in the journal.
    """

    def __init__(self, images: dict[str, bytes], ids: dict[int, str], last_seqno: int) -> None:
        self.images = {name: bytearray(content) for name, content in images.items()}
        self.last_seqno = last_seqno
        self.digests: dict[int, Digests] = {}
        self.records = 0
        self._ids = ids

    def take(self, repository: Repository, plans: list[Plan], points: Iterable[int]) -> list[list[int]]:
        """Take in the records of one life of the server, and keep the digests at ``points``, all of this life.

        Every record has to be the next write of its writer, whole. Returns for each plan the seqnos of its writes.
        """
        wanted = sorted(points)
        plans_left = [plan.writes() for plan in plans]
        seqnos: list[list[int]] = [[] for _ in plans]
        for seqno, pieces in groupby(repository.journal.pieces(self.last_seqno), key=lambda piece: piece.seqno):
            self._keep_until(wanted, seqno)
            (piece,) = pieces
            stripe = piece.offset_bytes // STRIPE_BYTES
            self._apply(plans[stripe], next(plans_left[stripe]), piece)
            seqnos[stripe].append(seqno)
            self.records += 1
        self.last_seqno = repository.journal.facts().committed_seqno
        self._keep_until(wanted, self.last_seqno + 1)
        return seqnos

    def _keep_until(self, wanted: list[int], seqno: int) -> None:
        """Keep the digests at the points before ``seqno``, and take those off the list."""
        while wanted and wanted[0] < seqno:
            self.digests[wanted.pop(0)] = {name: digest(image) for name, image in self.images.items()}

    def _apply(self, plan: Plan, write: Write, piece: RecordPiece) -> None:
        place = (self._ids[piece.volume], piece.offset_bytes, piece.length_bytes, piece.zero)
        planned = (write.volume, write.offset_bytes, write.length_bytes, False)
        assert place == planned, f"record @{piece.seqno} is {place}, write {write.number} was {planned}"
        end = write.offset_bytes + write.length_bytes
        self.images[write.volume][write.offset_bytes : end] = plan.content(write)

    def assert_points(self, repository: Repository, rng: random.Random, count: int) -> None:
        """Some of the chosen seqnos, read from the journal, are what they were."""
        for seqno in rng.sample(sorted(self.digests), min(count, len(self.digests))):
            point = repository.resolve(f"@{seqno}")
            for name in VOLUMES:
                with repository.view(name, point) as view:
                    assert digest(view.read(0, view.size_bytes)) == self.digests[seqno][name], f"{name} at @{seqno}"

    def assert_directory(self, directory: Path, seqno: int) -> None:
        """A directory of the mount shows the volumes as they were at a chosen seqno."""
        for name in VOLUMES:
            found = digest((directory / name).read_bytes())
            assert found == self.digests[seqno][name], f"{directory / name} is not {name} at @{seqno}"

    def assert_newest(self, files: dict[str, Path]) -> None:
        """Files by volume (live ones, primaries) are equal to the newest state."""
        for name, path in files.items():
            assert path.read_bytes() == self.images[name], f"{path} is not {name} at @{self.last_seqno}"


def digest(content: bytes | bytearray) -> str:
    return hashlib.sha256(content).hexdigest()
