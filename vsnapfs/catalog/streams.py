"""What commands took, in the catalog of tapes: what each was told, and the index of the archive, for which it has no place itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from vsnapfs.catalog.file import our_errors
from vsnapfs.catalog.tape_file import TapeFile


class Kept(NamedTuple):
    """told: what the command was told of the archive. content: of its index, as it would be a tape file."""

    told: dict[str, str]
    content: bytes


class Streams(TapeFile):
    """Errors and concurrency: see catalog.tapes."""

    def keep(self, tape_uuid: str, told: Mapping[str, str], content: bytes) -> None:
        """Of a run of a command. content: of the index; before its piece is done."""
        with self._changing():
            self._insert("stream", [(tape_uuid, msgspec.json.encode(told).decode(), content)], "OR REPLACE")

    def kept(self, tape_uuid: str) -> Kept | None:
        """None: no command took that tape."""
        with our_errors(f"read {self._name}"):
            row = self._db.execute("SELECT told, content FROM stream WHERE tape_uuid = ?", (tape_uuid,)).get
            return None if row is None else Kept(msgspec.json.decode(row[0], type=dict[str, str]), row[1])
