/* journal.h: all writes of all volumes of a repository, in one order.
 *
 * One owner appends, any number of readers follow, also in other processes. An owner's append is answered from memory (of a keep, if there
 * is one: then it survives the death of the process, and the next owner takes it over); it is
 * durable, and then applied to its primary, when vs_journal_commit has returned (group commit: the first caller
 * writes for all who wait). Until it is applied, vs_journal_read_live finds it in memory: the primary is never ahead of the journal.
 * One thread belongs to an owner: it writes out early what only piles up, and syncs primaries nobody waits for. All else is done by the callers.
 *
 * Threads: every function but open and close may be called from any thread. Lock order: commit (leadership) before state before
 * segment. No lock is held over storage I/O but leadership; primaries are synced without it, so that the next batch goes on meanwhile.
 * Errors: after a failed write or sync of the journal every append, and every commit that has something left to write, returns -EIO
 * (-ENOSPC if the disk was full) until the journal is opened again; with options.available writes and commits of one volume go on without it, and events
 * fail, until it is revived.
 * Memory: bounded by batch_bytes * 3 and the active segment's index; it does not grow with the journal.
 */
#ifndef VS_JOURNAL_H
#define VS_JOURNAL_H

#include "keep.h"
#include "status.h"
#include "store_ops.h"
#include "volume_file.h"

/* CFFI-BEGIN */
typedef struct vs_journal vs_journal;

enum { VS_BLOCK = 4096, VS_BODY_MAX = 32768, VS_WRITE_MAX = 1048576 };
enum {
    VS_RECORD_WRITE = 1,
    VS_RECORD_ZERO = 2,
    VS_RECORD_VOLUME_ADD = 3,
    VS_RECORD_VOLUME_RESIZE = 4,
    VS_RECORD_VOLUME_REMOVE = 5,
    VS_RECORD_BOOKMARK_ADD = 6,
    VS_RECORD_BOOKMARK_REMOVE = 7,
    VS_RECORD_BOOKMARK_HOLD = 8,
    VS_RECORD_GAP_BEGIN = 9,
    VS_RECORD_GAP_END = 10,
    VS_RECORD_GO_TO = 11, /* 11 to 13: in compacted segments, no records of their own */
    VS_RECORD_POINT = 12,
    VS_RECORD_STATE = 13,
    VS_RECORD_FLOOR = 14,
};

typedef struct vs_journal_options {
    uint8_t uuid[16];
    int32_t owner;           /* 0: reader; nothing is changed, appends give -EROFS */
    int32_t ack_journal;     /* 1: a commit returns after the journal's sync, 0: after the primaries' too */
    uint64_t segment_bytes;  /* a segment is sealed when it has grown past this; 0: 64 MiB */
    uint64_t batch_bytes;    /* appends past this write the batch out; 0: 8 MiB */
    vs_keep *keep;           /* owner: what is appended lies there until it is in a segment and applied; borrowed; NULL: in private memory */
    uint64_t known_seqno;    /* owner: records up to it were committed; a journal that ends before has lost them: -ENODATA, nothing is cut */
    int32_t available;       /* owner: a journal that fails does not fail writes: they go to the primaries, and a gap begins */
    uint64_t reserve_bytes;  /* owner: with less than this free the disk counts as full; 0: never before it is */
    int32_t sound_part;      /* reader: where damage makes the rest unreadable, open what stands before it (vs_journal_broken) */
} vs_journal_options;

typedef struct vs_journal_facts {
    uint64_t first_seqno;      /* the oldest point that can be opened, the floor; 1 in an empty journal */
    uint64_t last_seqno;       /* appended */
    uint64_t committed_seqno;  /* on stable storage (reader: seen) */
    uint64_t applied_seqno;    /* on the primaries, synced */
    uint64_t last_time_ns;     /* of the last record */
    uint64_t segments;
    uint64_t journal_bytes;    /* files of the journal */
    uint64_t payload_bytes;    /* of payload blocks, committed by this process */
    uint64_t commits;          /* batches written by this process */
    uint64_t commit_waits;     /* commit calls answered by this process */
    uint64_t torn_bytes;       /* cut off when this process opened the journal */
    uint64_t kept_records;     /* taken over from a process that died when this one opened the journal */
    uint64_t generation;       /* of the last compaction; whoever has read the events before it reads them again: some were dropped. 0: none */
    uint64_t clock_jumps;      /* records whose time was moved on because the clock stood or went back by over 1 s */
    uint64_t failed_volume;    /* id of a volume whose primary failed: its writes are refused; 0: none */
    int32_t failed;            /* 0, or the -errno that ended all appends */
    int32_t pending;           /* 1: something appended is not committed yet */
    int32_t gap;               /* 0: none is open; 1: one is that the journal does not tell of yet; 2: it does (owner) */
    int32_t gap_reason;        /* -errno of what began it */
    uint64_t gap_since_ns;     /* the first instant that is not in the journal */
    uint64_t gap_since_seqno;  /* the last record before it */
    uint64_t changed_bytes;    /* so much of the volumes may differ from the journal */
} vs_journal_facts;

typedef struct vs_segment_facts {
    uint64_t first_seqno, last_seqno; /* last = first - 1: it holds no record */
    uint64_t bytes;                   /* of its file; of an unsealed one up to its last batch */
    int32_t sealed, reserved;
    uint8_t digest[32];               /* sealed: what the next one names as before it; by the chain it speaks for all segments before, as they were first written */
    uint64_t ordinal, ordinals;       /* its number, and how many it stands for */
    uint64_t generation;              /* of the compaction that wrote it; 0: none did */
    uint64_t until_seqno;             /* compacted: from here on later points, too, have all that they show of it; else 0 */
} vs_segment_facts;

typedef struct vs_event {
    uint64_t seqno, time_ns, a, b;
    uint32_t type, volume, body_bytes, reserved;
} vs_event;

typedef struct vs_event_cursor {
    uint64_t after, segment, position, generation;
} vs_event_cursor;

typedef struct vs_journal_row {
    uint64_t seqno, time_ns, offset_bytes, length_bytes;
    uint32_t volume;
    int32_t zero;
} vs_journal_row;

typedef struct vs_volume_state {
    uint32_t id, removed;
    uint64_t size_bytes, added_seqno, last_write_seqno, last_write_ns, data_bytes;
} vs_volume_state;

/* Open the journal of the repository below s (borrowed, outlives *out). An owner recovers first: cuts a torn tail (kept as *.torn),
 * finishes an interrupted seal, and commits what a dead process has left in the keep (then a torn tail is a piece of that, and not
 * kept). -EUCLEAN, -EXDEV, -ENODATA, -EPROTO (the keep), -EPROTONOSUPPORT, -ENOENT with vs_fault_last. */
int vs_journal_open(vs_store *s, const vs_journal_options *o, vs_journal **out);

/* Make journal/ ready in a new repository: writes the first segment. */
int vs_journal_create(vs_store *s, const uint8_t uuid[16]);

/* Commit, apply, and note the clean end (owner); then free. Views must be closed before. Returns the commit's status. */
int vs_journal_close(vs_journal *j);

void vs_journal_facts_get(vs_journal *j, vs_journal_facts *out);

/* Reader: take in what was appended since. 1: something new, 0: nothing. */
int vs_journal_refresh(vs_journal *j);

/* Append one write of at most VS_WRITE_MAX bytes (buf is copied) or one zero of any length; *seqno may be NULL. They may write a batch
 * out when much is pending. The caller has checked them against the volume's size.
 *
 * q (may be NULL) is the request it came with. One with VS_REQUEST_RESENT that is in the journal already is not appended again: *seqno is
 * its record. A process that resends to itself what it is still working on gets it twice: ask for resends before the first request is read. */
int vs_journal_write(vs_journal *j, uint32_t volume, uint64_t offset_bytes, const void *buf, uint64_t length_bytes, const vs_request *q,
                     uint64_t *seqno);
int vs_journal_zero(vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q, uint64_t *seqno);

/* Append an event (type >= VS_RECORD_VOLUME_ADD). For VOLUME_ADD, volume 0 takes the next free id; *volume_out says which.
 * For BOOKMARK_ADD a = 0 names the event's own seqno. */
int vs_journal_event(vs_journal *j, uint32_t type, uint32_t volume, uint64_t a, uint64_t b, const void *body, uint32_t body_bytes,
                     uint64_t *seqno, uint32_t *volume_out);

/* A gap, where a journal that fails does not fail writes (options.available): what follows closes it, in this order.
 *
 * revive: verify the journal on its medium, cut off what is behind its last commit, and append VS_RECORD_GAP_BEGIN (a: gap_since_ns, b:
 * gap_since_seqno). 1: done; 0: there is no gap, or it is noted already; -errno: the journal does not work yet, call again later.
 * in_reserve: also while the disk counts as full: then it takes events, and fails again with the first write.
 * next_changed: the next piece of a volume at or behind from_bytes that may differ. 1: filled in; 0: none.
 * resync: compare a piece of at most 1 MiB, from a block's beginning on, with the newest state and journal what differs; writes wait meanwhile. Also without a gap, where
 * somebody wrote to a primary directly.
 * gap_close: append VS_RECORD_GAP_END, durably. -EAGAIN: something may still differ, such as what was being written during revive: compare
 * again. 0 also where there is no gap. */
int vs_journal_revive(vs_journal *j, int in_reserve);
int vs_journal_next_changed(vs_journal *j, uint32_t volume, uint64_t from_bytes, uint64_t *offset_bytes, uint64_t *length_bytes);
int vs_journal_resync(vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes, uint64_t *changed_bytes);
int vs_journal_gap_close(vs_journal *j);

/* Wait until everything appended before the call is on stable storage, and (ack_journal 0) on its primary, synced. */
int vs_journal_commit(vs_journal *j);

/* Seal the active segment now (owner), whatever its size, unless it is empty. */
int vs_journal_seal(vs_journal *j);

/* Merge the next group of maps that has none. 1: done one, call again; 0: nothing to do. Safe beside everything else. */
int vs_journal_merge_maps(vs_journal *j);

/* Give a volume its primary: file of the store (a descriptor), borrowed until detach or close. What is committed but not yet on it is
 * applied and synced first. Then writes of that volume go to it. */
int vs_journal_attach_primary(vs_journal *j, uint32_t volume, int file);
/* Commit, sync the primary and give it back. Whatever is returned, it is detached afterwards; -EIO: it has not got all, and gets it when
 * it is attached after the next open. */
int vs_journal_detach_primary(vs_journal *j, uint32_t volume);

/* A volume's primary is not there: applied_seqno stays where it is, so that the journal is replayed onto it when it is back. */
void vs_journal_hold_applied(vs_journal *j);

/* Read a volume that has a primary, as it is now, newest appended writes included. Bytes read; short at the end. */
int64_t vs_journal_read_live(vs_journal *j, uint32_t volume, uint64_t offset_bytes, void *buf, uint64_t length_bytes);

/* The next event with seqno > c->after. 1: *out filled and up to body_max bytes of its body copied; 0: none (yet). Start with a
 * zeroed cursor, or with after set; it moves along. */
int vs_journal_next_event(vs_journal *j, vs_event_cursor *c, vs_event *out, void *body, uint32_t body_max);

/* The pieces (runs of data or of zeros) of the writes, zeros and resizes after a seqno, in order, whole records only. Returns how many,
 * 0: no more. max must hold the pieces of the largest write (258). */
int vs_journal_rows(vs_journal *j, uint64_t after, vs_journal_row *rows, int max);

/* State of volume at seqno (<= committed). -ERANGE: as for a view. -ENOENT: not added yet; removed is set when it was removed. data_bytes is only
 * filled by vs_view_stat. */
int vs_journal_volume_at(vs_journal *j, uint32_t volume, uint64_t seqno, vs_volume_state *out);

/* Last seqno whose time is <= time_ns, 0 if none; and the time of a record's seqno. -ERANGE: where only bookmarks are kept (a compaction), and it is not one,
 * or not exactly its time. */
int vs_journal_seqno_at(vs_journal *j, uint64_t time_ns, uint64_t *seqno);
int vs_journal_time_of(vs_journal *j, uint64_t seqno, uint64_t *time_ns);

/* Can the point at seqno be opened? 0; or -ERANGE with vs_fault_last, which says why not. */
int vs_journal_point_check(vs_journal *j, uint64_t seqno);

/* The oldest point at or after seqno that can be opened. 1: *out; 0: there is none. */
int vs_journal_point_next(vs_journal *j, uint64_t seqno, uint64_t *out);

/* Owner: delete files that a compaction has replaced and that nobody reads any more. Returns how many are left. Done at open too. */
int vs_journal_superseded(vs_journal *j);

/* Segment number index (0 .. segments - 1); -ENOENT past the last. A compaction makes numbers smaller. */
int vs_journal_segment_at(vs_journal *j, uint64_t index, vs_segment_facts *out);

/* All segments at one time: fills out with up to max of them, and returns how many there are. */
uint64_t vs_journal_segments(vs_journal *j, vs_segment_facts *out, uint64_t max);

/* Opened with sound_part: 1 if damage ends it; *fault says where and what, and records up to *known_seqno at least were in the journal.
 * Such a journal is not followed any further. */
int vs_journal_broken(vs_journal *j, vs_fault *fault, uint64_t *known_seqno);

/* Check the segment that begins with first_seqno: header, trailer, chain, every section against the batches; with read_payload its digest and
 * the CRC of every payload block that can still be told. 0: sound; 1: *fault says what is wrong, and *next where to go on looking (0: the
 * end). Start at 0. -ENOENT: none begins there (any more). -ECANCELED: after vs_journal_check_end. */
int vs_journal_check_segment(vs_journal *j, uint64_t first_seqno, int read_payload, uint64_t *next, vs_fault *fault);

/* Have checks of segments give up, now and from now on. */
void vs_journal_check_end(vs_journal *j);

/* Have long work of the owner (compactions, moves of bases) give up with -ECANCELED, now and from now on. */
void vs_journal_work_end(vs_journal *j);

/* Check what reading a base does not see: the checksums of its holes. 0: sound, or the volume has none; else as vs_base_open, with
 * vs_fault_last. */
int vs_journal_check_base(vs_journal *j, uint32_t volume);

/* Is the small file that tells readers of a compaction damaged? 1: it is, and readers look at the names of the files instead; 0: it is sound, or missing. */
int vs_journal_check_generation(vs_journal *j);

/* Check one merged map against the segments below it, by number; 0 sound, 1 damaged (*fault), -ENOENT past the last. */
int vs_journal_check_map(vs_journal *j, uint64_t index, vs_fault *fault, char name[64]);
/* CFFI-END */

#endif
