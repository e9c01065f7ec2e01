"""The catalog's tables. This file is the authority; a file whose tables read otherwise is not used, but made again.

Everything in here but ``events`` follows from the journal (native/FORMAT.md, sections 2 and 7). Seqnos and ids fit SQLite's signed
64 bits: a journal that could exceed them would take 58 000 years at five million records a second.
"""

from __future__ import annotations

VERSION = 4

TABLES = {
    "meta": """CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  version INTEGER NOT NULL,                -- VERSION of the program that made the file
  repository TEXT NOT NULL,                -- uuid of the repository, as in repository.json
  applied_seqno INTEGER NOT NULL,          -- every event up to it is in the tables
  event_seqno INTEGER NOT NULL,            -- the last of those events, 0: none
  event_time_ns INTEGER NOT NULL,          -- its time; if the journal says otherwise, it is another journal
  generation INTEGER NOT NULL              -- of the journal's last compaction by then; if the journal has another, events
                                           -- were dropped that may not be in the tables, so they are not believed
) STRICT""",
    "volumes": """CREATE TABLE volumes (
  id INTEGER PRIMARY KEY,          -- as in the journal's records
  name TEXT NOT NULL,              -- unique among those that are not removed
  size_bytes INTEGER NOT NULL,     -- after the last resize
  block_size_bytes INTEGER NOT NULL,
  primary_kind TEXT NOT NULL,      -- repository, path or none
  primary_path TEXT,               -- of kind path: where, absolute; else NULL
  base INTEGER NOT NULL,           -- 1: it starts from base/<id>.img; 0: from zeros
  added_seqno INTEGER NOT NULL,    -- the record that added it
  removed_seqno INTEGER            -- the record that removed it, NULL: none
) STRICT""",
    "bookmarks": """CREATE TABLE bookmarks (
  name TEXT PRIMARY KEY,
  seqno INTEGER NOT NULL,          -- the point it names
  time_ns INTEGER NOT NULL,        -- of that record, since 1970 UTC
  consistency TEXT NOT NULL,       -- crash, filesystem or application
  application TEXT NOT NULL,       -- "" when nobody said
  note TEXT NOT NULL,
  held INTEGER NOT NULL,           -- 1: it cannot be removed
  hold_note TEXT NOT NULL,         -- who holds it and why
  hold_until_ns INTEGER,           -- when the hold ends, by the journal's time; NULL: when it is released
  created_seqno INTEGER NOT NULL,  -- the record that made it
  created_ns INTEGER NOT NULL,     -- its time
  federation TEXT NOT NULL,        -- as in the record's body, "" where there is none
  schedule TEXT NOT NULL,          -- which made it, "" when somebody asked for it
  profile TEXT NOT NULL,           -- of the quiesce it was made in, "" of none
  members TEXT NOT NULL,           -- as in the record's body, "" where there are none
  verdicts TEXT NOT NULL           -- the last one of each profile, a JSON list, "" where there is none
) STRICT, WITHOUT ROWID""",
    "gaps": """CREATE TABLE gaps (
  begin_seqno INTEGER PRIMARY KEY, -- the record that tells of it
  since_seqno INTEGER NOT NULL,    -- the last record before it
  since_ns INTEGER NOT NULL,       -- the first instant that is not in the journal, since 1970 UTC
  reason TEXT NOT NULL,            -- why the journal could not take writes
  end_seqno INTEGER,               -- the record that ends it, NULL: it is open
  end_ns INTEGER                   -- its time
) STRICT""",
    "volume_states": """CREATE TABLE volume_states (
  volume INTEGER NOT NULL,           -- id
  last_write_seqno INTEGER NOT NULL, -- the volume reads the same at every point from here to its next write
  data_bytes INTEGER NOT NULL,       -- bytes that hold data there: counting them walks maps, so they are kept
  PRIMARY KEY (volume, last_write_seqno)
) STRICT, WITHOUT ROWID""",
    "events": """CREATE TABLE events (
  id INTEGER PRIMARY KEY,          -- from 1, in the order in which they were told
  time_ns INTEGER NOT NULL,        -- of the clock then, since 1970 UTC
  kind TEXT NOT NULL,              -- docs/events.md
  severity TEXT NOT NULL,          -- info, warning or error
  subject TEXT NOT NULL,           -- name of the bookmark, volume or schedule, "" for the repository
  detail TEXT NOT NULL             -- a JSON object
) STRICT""",
}
