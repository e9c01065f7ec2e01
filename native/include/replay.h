/* replay.h: the records between two points again, one by one, in their order.
 *
 * A replay keeps the directory that it was opened on, so no compaction takes away what it reads. Where one was before, only bookmarks are
 * left and no records: that is refused at once. What is read is compared block by block with its checksum before it is written anywhere.
 *
 * Segments are read in their order, in pieces of 1 MiB, and what lies side by side in a volume is written with one call.
 *
 * Threads: one at a time. Errors: >= 0 ok, -errno; with vs_fault_last. Lifetime: borrows its journal, which outlives it. Memory: 2 MiB.
 */
#ifndef VS_REPLAY_H
#define VS_REPLAY_H

#include "journal.h"

/* CFFI-BEGIN */
typedef struct vs_replay vs_replay;

/* A piece of a record: a run of data, or of zeros. Of a resize: the zeros between both sizes. */
typedef struct vs_replay_row {
    uint64_t seqno, time_ns, offset_bytes, length_bytes;
    uint64_t block;   /* of its segment that holds the first byte, congruent; 0: zeros */
    uint32_t volume;
    uint32_t segment; /* its number in the replay's directory */
} vs_replay_row;

/* The records after since, up to until (<= committed). -ERANGE: until is not there, or a compaction has left no records of a part of them. */
int vs_replay_open(vs_journal *j, uint64_t since, uint64_t until, vs_replay **out);
void vs_replay_close(vs_replay *p);

/* The pieces of the records after a seqno, in order, whole records only. Returns how many, 0: no more. max must hold the pieces of the
 * largest write (258). -EUCLEAN: a table that is not sound. */
int vs_replay_rows(vs_replay *p, uint64_t after, vs_replay_row *rows, int max);

/* Write rows (of vs_replay_rows, or parts of such, with block moved along) of one volume to a file, in their order. Nothing is synced. -EBADMSG: a block
 * does not match its checksum. -EINVAL: no such row. Else what the file says, as -ENOSPC. After a failure a part of what came before may be written. */
int vs_replay_apply(vs_replay *p, const vs_replay_row *rows, int count, int file);
/* CFFI-END */

#endif
