/* take_over.c: what a process that was killed had answered and not yet written.
 *
 * It lies in the keep's batches, whole records in order (kept.h). Each batch is one that the dead process's leader wrote, was writing, or
 * would have written next, so it is in the segment whole or not at all: it is committed as it is, or it is there already. Applying it
 * to primaries is left to their attaching, which replays from the journal as after any crash.
 *
 * Before a byte of it is written it is put to the same parser that will read it back, and its payload to its checksums: a process that
 * died of stray stores may have damaged it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "batch.h"

static int unfit(const vs_batch *b, const char *why) {
    return vs_fault_set(-EUCLEAN, 0, b->first_seqno, 0, 0, "the kept records %" PRIu64 "..%" PRIu64 " %s; nothing of them was taken over",
                        b->first_seqno, b->first_seqno + b->records - 1, why);
}

/* 0: all of it is what its checksums say. */
static int payload_check(const vs_batch *b, const vs_index *x, uint64_t first_block) {
    for (size_t i = 0; i < b->payload_blocks; i++)
        if (vs_crc32c(b->payload + i * VS_BLOCK_BYTES, VS_BLOCK_BYTES) != vs_index_crc(x, first_block + i)) return -EBADMSG;
    return 0;
}

static int batch_check(const vs_journal *j, const vs_batch *b) {
    uint8_t *descriptors;
    uint32_t count;
    uint64_t payload;
    int r = vs_batch_descriptors(b, j->active->salt, b->first_seqno, j->applied_seqno, &descriptors, &count);
    if (r < 0) return r;
    vs_index *x = malloc(sizeof *x);
    if (x) {
        vs_index_init(x, b->first_seqno, j->active->index->last_time_ns);
        r = vs_index_add_batch(x, descriptors, count, j->active->salt, UINT64_MAX, &payload);
        if (r == 0) r = payload_check(b, x, 1 + (uint64_t)count);
    }
    vs_index_free(x);
    free(descriptors);
    return !x ? -ENOMEM : r == -EBADMSG ? unfit(b, "are damaged") : r;
}

static int batch_take_over(vs_journal *j, vs_batch *b) {
    uint64_t last = j->active->index->last_seqno;
    if (b->records == 0 || b->last_seqno <= last) return 0;
    if (b->first_seqno != last + 1) return unfit(b, "do not continue the journal");
    int r = batch_check(j, b);
    if (r == 0) r = vs_journal_commit_batch(j, b, j->applied_seqno);
    if (r == 0) j->kept_records += b->records;
    return r;
}

int vs_journal_take_over(vs_journal *j) {
    for (int i = 0; i < 2; i++)
        if (vs_batch_restore(&j->batch[i]) < 0) return unfit(&j->batch[i], "do not parse");
    vs_batch *a = &j->batch[0], *b = &j->batch[1];
    int swapped = a->records && b->records && b->first_seqno < a->first_seqno;
    int r = batch_take_over(j, swapped ? b : a);
    if (r == 0) r = batch_take_over(j, swapped ? a : b);
    if (r < 0) return r;
    vs_batch_reset(a);
    vs_batch_reset(b);
    if (j->kept_records) {
        vs_states_clear(&j->head);
        r = vs_journal_begin_head(j);
    }
    if (r == 0) vs_kept_carry(&j->kept, j->last_seqno);
    return r;
}
