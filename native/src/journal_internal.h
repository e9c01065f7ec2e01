/* journal_internal.h: what the parts of the journal share.
 *
 * Locks, in the order they are taken:
 *   leadership (j->leading, under mu)  who writes a batch, seals, or attaches a primary; held over storage I/O
 *   mu                                 everything below; never held over storage I/O, but for first use of a segment's footer, and by readers
 *   leases.mu                          leases of this journal
 *   files.mu                           open files of segments
 * Beside leadership, before mu: generations_mu, for who makes another directory or deletes what an older one named; held over storage I/O.
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
#include "directory.h"
#include "gap.h"
#include "holds.h"
#include "journal.h"
#include "kept.h"
#include "leases.h"
#include "recovery.h"
#include "stack.h"
#include "superseded.h"

enum { VS_SEGMENT_ROWS_MAX = 65536 };

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

    vs_directory *directory; /* the newest; views keep the one that they were opened on */
    vs_segment *active; /* its last one, when it is unsealed; NULL: none */
    vs_leases leases;
    uint64_t leased;    /* reader: the lease on the directory; 0: none */
    uint64_t told_seqno; /* reader: committed_seqno when the last refresh returned */
    pthread_mutex_t generations_mu;
    uint64_t generation; /* owner: the greatest that any file has or was meant to have */
    int compacting;      /* one at a time */
    vs_superseded_list superseded;
    int active_file;    /* owner: open for writing */
    uint64_t unsure_bytes; /* reader: what the active segment's file held when it was opened; 0: it has begun since */
    uint64_t ahead_bytes; /* owner: its file has zeros up to here; 0: none */
    vs_digest *digest;  /* owner: of the active segment so far */

    vs_states head; /* appended, not only committed */
    uint64_t last_seqno, last_time_ns, committed_seqno;
    uint64_t written_seqno; /* on their primaries, but not all of it synced */
    uint64_t applied_seqno; /* and synced; a later open applies what comes after */
    uint64_t floor_seqno;   /* committed: points before it cannot be opened; 0: it was never set */
    vs_kept kept;
    vs_batch batch[2];
    int filling, leading, lead_wanted, hold_applied;
    int failed;
    vs_gap gap;
    vs_holds holds;

    vs_primary **primaries;
    size_t primary_count, primary_room;

    struct vs_base_slot *bases;
    pthread_mutex_t move_mu; /* one base is moved at a time; before all others */

    uint64_t payload_bytes, commits, commit_waits, torn_bytes, clock_jumps, kept_records;

    vs_fault broken;      /* sound_part: what ends the journal; code 0: nothing */
    uint64_t known_seqno; /* then: records up to it were there */
    _Atomic int check_ends, work_ends;
};

/* The newest directory, for who uses it with mu not held. The caller gives it back with vs_directory_unref. Takes mu itself. */
vs_directory *vs_journal_directory(vs_journal *j);

/* All of the following want mu held, unless they say "leader" (leadership held, mu not). */

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
/* States at a seqno inside segment `index` of a directory (or at its end). */
int vs_journal_states(const vs_directory *d, uint64_t index, uint64_t until, vs_states *out);

/* Set v->data_bytes to its value after `map`, which is what of v the segment `index` of d changed up to the point of interest. On entry it is the
 * value before that segment (VS_UNKNOWN: not known, everything is walked). Takes mu itself. */
#define VS_UNKNOWN UINT64_MAX
int vs_journal_data_bytes(vs_journal *j, vs_directory *d, uint64_t index, const vs_extent_map *map, vs_volume_state *v);

/* Push the layers of whole sealed segments [from, to] (indexes in d), newest first, using merged maps. memory: maps made for segments whose
 * footer is damaged are appended there, for the owner of the stack to free. Layers last as long as d. */
typedef struct vs_map_list {
    vs_extent_map **maps;
    size_t count, room;
} vs_map_list;
int vs_journal_push_layers(vs_journal *j, vs_directory *d, vs_stack *s, uint32_t volume, uint64_t from, uint64_t to, vs_map_list *memory);
int vs_map_list_add(vs_map_list *l, vs_extent_map *m);
void vs_map_list_clear(vs_map_list *l);

/* Compare a merged map with the segments of d that it stands for. 1 with *fault: it differs. 0 also for one that is of other segments than
 * these since a compaction: it is not used, and made again. Takes mu itself. */
int vs_merged_map_compare(vs_journal *j, vs_directory *d, vs_merged_map *m, vs_fault *fault);

/* Base image of a volume, of needed_seqno or later (0: whichever); NULL in *out: it has none. Kept until close, or until a later one is there. The
 * caller gets a reference. -EUCLEAN: it is needed, and missing or older. */
int vs_journal_base(vs_journal *j, uint32_t volume, uint64_t needed_seqno, vs_base **out);
void vs_journal_bases_close(vs_journal *j);

/* mu not held. The base as it is on the disk now, where it is later than `than`, which is of the same volume: 1, a reference in *out. 0: it is not. */
int vs_journal_base_later(vs_journal *j, uint32_t volume, const vs_base *than, vs_base **out);

/* Forget the base of a volume: the next who asks loads it. */
void vs_journal_base_forget(vs_journal *j, uint32_t volume);

/* Records up to a base's may be gone: then only its index knows the last write. v: a state at seqno, as d has it. -EUCLEAN: the base is needed, and missing. */
int vs_journal_state_of_base(vs_journal *j, const vs_directory *d, uint64_t seqno, vs_volume_state *v);

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

/* Find out up to where all primaries are synced. */
void vs_journal_applied_move(vs_journal *j);

/* mu not held. Does anybody read at a point before seqno, here or in another process? */
int vs_journal_reads_below(vs_journal *j, uint64_t seqno);

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

/* Reader: take in what the owner has done since; and of that only a compaction. A journal that ends with damage is not followed. */
int vs_journal_follow(vs_journal *j);
int vs_journal_follow_directory(vs_journal *j);

/* open, with an active segment: commit what kept memory holds and the journal does not, oldest first, and empty it. It is not applied; that is
 * done when primaries are attached. -EUCLEAN: it does not continue the journal. May be interrupted and done again. */
int vs_journal_take_over(vs_journal *j);

#endif
