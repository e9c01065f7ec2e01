/* space.c: which points the journal's payload is there for (compact.h).
 *
 * A block is needed by the roots from the first one behind its record up to the last one before all of it is covered. So a block that one root alone needs
 * is seen where its segment is swept with what came up to the second root behind it.
 */
#include <errno.h>
#include <string.h>

#include "kept_pieces.h"

typedef struct account {
    const vs_roots *roots;
    uint64_t base_floor;
    uint64_t *exclusive_bytes, *garbage_bytes;
    /* The last block of the last part: the next part of its row may be in it too. */
    uint64_t segment, number, block, first_rank, end_rank;
    int open;
} account;

static void block_count(account *a, uint64_t first_rank, uint64_t end_rank, uint64_t blocks) {
    if (end_rank > a->roots->count) end_rank = a->roots->count;
    if (end_rank <= first_rank) *a->garbage_bytes += blocks * VS_BLOCK_BYTES;
    else if (end_rank - first_rank == 1) a->exclusive_bytes[first_rank] += blocks * VS_BLOCK_BYTES;
}

static void block_end(account *a) {
    if (a->open) block_count(a, a->first_rank, a->end_rank, 1);
    a->open = 0;
}

static int part_count(void *arg, const vs_survivor_part *part) {
    account *a = arg;
    if (part->row->block == 0 || part->first_rank == a->roots->count) return 0; /* no payload; or behind the last point */
    uint64_t first = part->offset_bytes / VS_BLOCK_BYTES, last = (part->offset_bytes + part->length_bytes - 1) / VS_BLOCK_BYTES;
    uint64_t end_rank = part->row->seqno <= a->base_floor ? 0 : part->end_rank;
    if (a->open && a->segment == part->segment && a->number == part->number && a->block == first) {
        if (end_rank > a->end_rank) a->end_rank = end_rank;
        if (first == last) return 0;
        first++;
    }
    block_end(a);
    block_count(a, part->first_rank, end_rank, last - first);
    a->segment = part->segment;
    a->number = part->number;
    a->block = last;
    a->first_rank = part->first_rank;
    a->end_rank = end_rank;
    a->open = 1;
    return 0;
}

static int segment_count(account *a, vs_journal *j, vs_directory *d, uint64_t index) {
    vs_survivors s;
    int r = vs_survivors_begin(&s, j, d, index, index, a->roots, 2);
    if (r == 0) r = vs_survivors_sweep(&s, part_count, a);
    vs_survivors_end(&s);
    block_end(a);
    return r;
}

int vs_journal_space(vs_journal *j, const uint64_t *points, uint64_t n_points, uint64_t *exclusive_bytes, uint64_t *garbage_bytes) {
    vs_roots roots = {points, n_points};
    account a = {.roots = &roots, .exclusive_bytes = exclusive_bytes, .garbage_bytes = garbage_bytes};
    memset(exclusive_bytes, 0, n_points * sizeof *exclusive_bytes);
    *garbage_bytes = 0;
    vs_fault_clear();
    int r = vs_roots_check(j, &roots);
    if (r < 0) return r;
    vs_directory *d = vs_journal_directory(j);
    pthread_mutex_lock(&j->mu);
    uint64_t count = d->count - (d->count && !vs_directory_last(d)->sealed);
    pthread_mutex_unlock(&j->mu);
    r = vs_base_floor(j, d, &roots, &a.base_floor);
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        vs_segment *g = vs_directory_at(d, i);
        if (g->first_seqno > points[n_points - 1]) break;
        if (g->sealed) r = segment_count(&a, j, d, i);
    }
    vs_directory_unref(d);
    return r;
}
