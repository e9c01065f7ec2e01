"""The tables of ``tapes.db``, and their rows as values. This file is the authority on what is in it.

An archive's figures and a tape's are sums over its pieces, so there is one truth of each.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, PieceEntry, TapeEntry

VERSION = 1

TABLES = {
    "meta": """CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  version INTEGER NOT NULL,                -- VERSION of the program that made the file
  repository TEXT NOT NULL                 -- uuid of the repository, as in repository.json
) STRICT""",
    "tape": """CREATE TABLE tape (
  uuid TEXT PRIMARY KEY,           -- as in its label
  label TEXT NOT NULL UNIQUE,
  medium TEXT NOT NULL,            -- the setting that it was labelled by, "" none
  state TEXT NOT NULL,             -- open, full or retired
  protected INTEGER NOT NULL,      -- 1: nothing is written to it
  generation INTEGER NOT NULL,     -- how often it was labelled
  block_bytes INTEGER NOT NULL,
  made TEXT NOT NULL,              -- when it was labelled
  written_ns INTEGER,              -- when a piece on it was completed last, since 1970 UTC; NULL: it has none
  retired_ns INTEGER,              -- when it was retired
  note TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "archive": """CREATE TABLE archive (
  uuid TEXT PRIMARY KEY,
  repository TEXT NOT NULL,        -- uuid of the repository that the point is of
  kind TEXT NOT NULL,              -- full or incremental
  seqno INTEGER NOT NULL,          -- of the point
  point TEXT NOT NULL,             -- what is known of the point, a JSON object
  since TEXT,                      -- the same of the point that it holds the changes since, NULL: it is full
  parent TEXT,                     -- uuid of the archive that has that point; it need not be known
  volumes TEXT NOT NULL,           -- names of those in it, a JSON list
  made TEXT NOT NULL,
  state TEXT NOT NULL,             -- under way, complete, failed, dropped or lost
  medium TEXT NOT NULL,
  why TEXT NOT NULL                -- why it failed or is lost
) STRICT, WITHOUT ROWID""",
    "piece": """CREATE TABLE piece (
  archive TEXT NOT NULL,           -- uuid
  number INTEGER NOT NULL,         -- from 0
  tape_uuid TEXT NOT NULL,
  file INTEGER NOT NULL,           -- tape file; its index is the next one
  stream_offset INTEGER NOT NULL,
  stream_bytes INTEGER NOT NULL,
  stored_bytes INTEGER NOT NULL,
  index_bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,            -- of the stored bytes
  PRIMARY KEY (archive, number)
) STRICT, WITHOUT ROWID""",
    "stream": """CREATE TABLE stream (
  tape_uuid TEXT PRIMARY KEY,      -- what one run of a command took is a tape
  told TEXT NOT NULL,              -- what the command was told of the archive, a JSON object
  content BLOB NOT NULL            -- the index of its one piece, as a tape would have it
) STRICT""",
    "piece_on": """CREATE INDEX piece_on ON piece (tape_uuid, file)""",
}

TAPES = """SELECT tape.*, coalesce(max(piece.file) + 2, 1), coalesce(sum(stored_bytes + index_bytes), 0)
FROM tape LEFT JOIN piece ON tape_uuid = uuid"""
"""Ends in a WHERE and ``GROUP BY uuid``."""
ARCHIVES = """SELECT archive.*, count(number), coalesce(sum(stream_bytes), 0), coalesce(sum(stored_bytes), 0)
FROM archive LEFT JOIN piece ON archive = uuid"""
LABELS = """SELECT archive, label FROM piece JOIN tape ON uuid = tape_uuid
GROUP BY archive, tape_uuid ORDER BY archive, min(number)"""

Row = tuple[Any, ...]

_TAPE_COLUMNS = (
    "uuid",
    "label",
    "medium",
    "state",
    "protected",
    "generation",
    "block_bytes",
    "made",
    "written_ns",
    "retired_ns",
    "note",
)


def tape(row: Row) -> TapeEntry:
    """Raises: msgspec.ValidationError: no program of ours wrote it."""
    fields = dict(zip((*_TAPE_COLUMNS, "files", "used_bytes"), row, strict=True))
    return msgspec.convert(fields | {"protected": fields["protected"] == 1}, TapeEntry)


def tape_row(entry: TapeEntry) -> Row:
    return tuple(int(entry.protected) if name == "protected" else getattr(entry, name) for name in _TAPE_COLUMNS)


def archive(row: Row) -> ArchiveEntry:
    """Raises: msgspec.DecodeError: no program of ours wrote it."""
    uuid, repository, kind, _, point, since, parent, volumes, made, state, medium, why, *sums = row
    fields = {
        "uuid": uuid,
        "repository": repository,
        "kind": kind,
        "point": msgspec.json.decode(point, type=ArchivedPoint),
        "since": None if since is None else msgspec.json.decode(since, type=ArchivedPoint),
        "parent": parent,
        "volumes": msgspec.json.decode(volumes),
        "made": made,
        "state": state,
        "medium": medium,
        "why": why,
    }
    return msgspec.convert(
        fields | dict(zip(("pieces", "stream_bytes", "stored_bytes"), sums, strict=True)), ArchiveEntry
    )


def archive_row(entry: ArchiveEntry) -> Row:
    since = None if entry.since is None else msgspec.json.encode(entry.since).decode()
    return (
        entry.uuid,
        entry.repository,
        entry.kind,
        entry.point.seqno,
        msgspec.json.encode(entry.point).decode(),
        since,
        entry.parent,
        msgspec.json.encode(entry.volumes).decode(),
        entry.made,
        entry.state,
        entry.medium,
        entry.why,
    )


def piece(row: Row) -> PieceEntry:
    return PieceEntry(**dict(zip(PieceEntry.__struct_fields__, row, strict=True)))


def piece_row(entry: PieceEntry) -> Row:
    return msgspec.structs.astuple(entry)
