/* journal_internal.h: what the parts of the journal share.
 *
 * Locks, in the order they are taken:
 *   leadership (j->leading, under mu)  who writes a batch, seals, or attaches a primary; held over storage I/O
 *   mu                                 everything below; never held over storage I/O, but for first use of a segment's footer
 *   files.mu                           open files of segments
 *
 * Batches: one is filled by appends while the leader writes the other and applies it. A batch's maps answer reads of live volumes until
 * its records are on the primaries, so a batch is emptied only after that. Their bytes lie in kept memory (kept.h).
 */
#ifndef VS_JOURNAL_INTERNAL_H
#define VS_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base.h"
#include "codec.h"
#include "gap.h"
#include "holds.h"
#include "journal.h"
#include "kept.h"
#include "merged_map.h"
#include "recovery.h"
#include "segment.h"
#include "stack.h"

enum { VS_DIRECTORY_CHUNK = 1024, VS_DIRECTORY_CHUNKS = 4096, VS_SEGMENT_ROWS_MAX = 65536, VS_MERGE_LEVELS = 7 };

typedef struct vs_batch_map {
    uint32_t volume;
    vs_extent_map *map; /* blocks count from 1 in the batch's payload */
} vs_batch_map;

typedef struct vs_batch {
    vs_kept_batch *kept; /* what of it outlives the process */
    uint64_t first_seqno, last_seqno;
    uint32_t records;
    uint8_t *stream; /* with payload: in kept memory */
    size_t stream_bytes, stream_room;
    uint8_t *payload; /* payload_room blocks */
    size_t payload_blocks, payload_room;
    vs_batch_map *maps;
    size_t map_count, map_room;
} vs_batch;

typedef struct vs_primary {
    uint32_t volume;
    int file;
    uint64_t dirty_from;   /* seqno: from here on it was written to since its last sync began; 0: it was not */
    uint64_t syncing_from; /* the same before the sync that is under way; 0: none is */
    int error; /* -errno of the failure after which nothing is trusted, 0: none */
    int users; /* reads, syncs and writes that use file now; detach waits for them */
    vs_changed changed;
} vs_primary;

struct vs_journal {
    vs_store *store;
    vs_journal_options options;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* for everybody: leadership, commits, syncs */
    pthread_cond_t work;    /* for the owner's thread */
    pthread_t worker;
    int working, stopping, sync_wanted;
    vs_files files;

    /* Segments by ordinal. Chunks never move and slots are filled before a view can ask for them, so views look up without the lock. */
    vs_segment **chunks[VS_DIRECTORY_CHUNKS];
    uint64_t segment_count, first_ordinal;
    vs_segment *active; /* the last one, when it is unsealed; NULL: none */
    int active_file;    /* owner: open for writing */
    uint64_t unsure_bytes; /* reader: what the active segment's file held when it was opened; 0: it has begun since */
    uint64_t ahead_bytes; /* owner: its file has zeros up to here; 0: none */
    vs_digest *digest;  /* owner: of the active segment so far */

    vs_states head; /* appended, not only committed */
    uint64_t last_seqno, last_time_ns, committed_seqno;
    uint64_t written_seqno; /* on their primaries, but not all of it synced */
    uint64_t applied_seqno; /* and synced; a later open applies what comes after */
    vs_kept kept;
    vs_batch batch[2];
    int filling, leading, lead_wanted, hold_applied;
    int failed;
    vs_gap gap;
    vs_holds holds;

    vs_primary **primaries;
    size_t primary_count, primary_room;

    vs_merged_map **maps;
    size_t map_count, map_room;
    struct vs_base_slot *bases;
    uint64_t merge_next[VS_MERGE_LEVELS]; /* per level: groups before this ordinal have their map */

    uint64_t payload_bytes, commits, commit_waits, torn_bytes, clock_jumps, kept_records;

    vs_fault broken;      /* sound_part: what ends the journal; code 0: nothing */
    uint64_t known_seqno; /* then: records up to it were there */
    _Atomic int check_ends;
};

static inline vs_segment *vs_journal_segment(const vs_journal *j, uint64_t index) {
    return j->chunks[index / VS_DIRECTORY_CHUNK][index % VS_DIRECTORY_CHUNK];
}

/* All of the following want mu held, unless they say "leader" (leadership held, mu not). */

int vs_journal_add_segment(vs_journal *j, vs_segment *g);
/* The segment that holds seqno (first_seqno <= seqno <= last); UINT64_MAX: none. */
uint64_t vs_journal_find_segment(const vs_journal *j, uint64_t seqno);

/* Wait until nobody leads, then lead; and give it up. */
void vs_journal_lead_begin(vs_journal *j);
void vs_journal_lead_end(vs_journal *j);

/* leader: cut off the zeros behind the active segment's last batch. */
int vs_journal_cut_ahead(vs_journal *j);

/* leader: make a new active segment after the last one. */
int vs_journal_begin_segment(vs_journal *j);
/* leader: write the active segment's footer and begin the next. -EAGAIN: no memory for the footer, nothing was changed. */
int vs_journal_seal_active(vs_journal *j);

/* Rows of a segment with seqno <= until as an array; *owned is to be freed (NULL: borrowed from the index). */
int vs_segment_rows_array(vs_segment *g, uint64_t until, const vs_row **rows, size_t *count, vs_row **owned);
/* States at a seqno inside segment `index` (or at its end). */
int vs_journal_states(vs_journal *j, uint64_t index, uint64_t until, vs_states *out);

/* Set v->data_bytes to its value after `map`, which is what of v the segment `index` changed up to the point of interest. On entry it is the
 * value before that segment (VS_UNKNOWN: not known, everything is walked). Takes mu itself. */
#define VS_UNKNOWN UINT64_MAX
int vs_journal_data_bytes(vs_journal *j, uint64_t index, const vs_extent_map *map, vs_volume_state *v);

/* Push the layers of whole sealed segments [from, to] (indexes), newest first, using merged maps. memory: maps made for segments whose
 * footer is damaged are appended there, for the owner of the stack to free. */
typedef struct vs_map_list {
    vs_extent_map **maps;
    size_t count, room;
} vs_map_list;
int vs_journal_push_layers(vs_journal *j, vs_stack *s, uint32_t volume, uint64_t from, uint64_t to, vs_map_list *memory);
int vs_map_list_add(vs_map_list *l, vs_extent_map *m);
void vs_map_list_clear(vs_map_list *l);

/* Compare a merged map with the segments it stands for. 1 with *fault: it differs. */
int vs_merged_map_compare(vs_journal *j, vs_merged_map *m, vs_fault *fault);

/* Base image of a volume; NULL in *out: it has none. Loaded once, kept until close. */
int vs_journal_base(vs_journal *j, uint32_t volume, vs_base **out);
void vs_journal_bases_close(vs_journal *j);

vs_extent_map *vs_batch_find(const vs_batch *b, uint32_t volume);
vs_primary *vs_journal_primary(const vs_journal *j, uint32_t volume);

/* leader: commit what is in the filling batch, write it to the primaries, seal if that is due. */
int vs_journal_flush(vs_journal *j);
/* Lead one flush, when nobody leads. */
void vs_journal_lead_flush(vs_journal *j);

/* Set what ends all appends; returns it. And what callers get after it: a full disk is a thing that people can mend. */
int vs_journal_fail(vs_journal *j, int status);
int vs_journal_failed(const vs_journal *j);

/* Up to where a durable request has nothing to wait for. */
uint64_t vs_journal_durable(const vs_journal *j);

/* vs_journal_commit for one volume: other primaries need not be synced. 0: for all. Takes mu itself. */
int vs_journal_commit_volume(vs_journal *j, uint32_t volume);

/* Sync what was written to a primary (volume 0: to all of them) up to target, and wait for those who are at it. Gives mu up meanwhile. */
void vs_journal_sync_primaries(vs_journal *j, uint32_t volume, uint64_t target);

/* Owner's thread. Tell it that a record was appended. Start and stop want mu not held. */
void vs_journal_work_tell(vs_journal *j);
int vs_journal_worker_start(vs_journal *j);
void vs_journal_worker_stop(vs_journal *j);

/* leader: write a batch to its primaries, and (mu held) note that one has failed for good. */
void vs_journal_batch_apply(vs_journal *j, const vs_batch *b);
void vs_journal_primary_fail(vs_journal *j, vs_primary *p, int status);

/* Does the disk have more than the reserve? */
int vs_journal_has_room(const vs_journal *j);

/* mu held, the batch has room: append a record. And, mu not held, a write or zero from whoever holds gap.order, or needs it not. */
int vs_journal_append(vs_journal *j, struct vs_record *r);
int vs_journal_append_extent(vs_journal *j, struct vs_record *r);

/* leader: make a batch durable in the journal and known to readers of it. */
int vs_journal_commit_batch(vs_journal *j, const vs_batch *b, uint64_t applied_seqno);

/* mu held: is q a request that was sent again and is in the journal already? Then *seqno (may be NULL) is its record. q may be NULL. */
int vs_journal_find_request(vs_journal *j, const vs_request *q, uint64_t *seqno);

/* open: where the loaded segments end is where we go on. */
int vs_journal_begin_head(vs_journal *j);

/* open, with an active segment: commit what kept memory holds and the journal does not, oldest first, and empty it. It is not applied; that is
 * done when primaries are attached. -EUCLEAN: it does not continue the journal. May be interrupted and done again. */
int vs_journal_take_over(vs_journal *j);

#endif
