/* base_plan.h: what a move of a base will do, block by block (base_move.h), and what its index will say.
 *
 * The records after the old base are walked over that base. Blocks of the volume are of these kinds:
 *
 *   KEEP    the base's, untouched: its checksum goes along
 *   WRITE   touched, and nothing of it is the base's any more; or a patch of the old index: composed, and written in place
 *   PUNCH   touched, and all of it is zeros
 *   PATCH   touched, and partly the base's: composed, and put into the index
 *   NOTHING neither
 *
 * Threads: one at a time. Errors: -errno.
 */
#ifndef VS_BASE_PLAN_H
#define VS_BASE_PLAN_H

#include "base_move.h"
#include "view_internal.h"

enum { VS_BASE_PAGE_CRCS = VS_BLOCK_BYTES / 4 }; /* checksums in a block of the index */
enum { VS_BASE_NOTHING, VS_BASE_KEEP, VS_BASE_WRITE, VS_BASE_PUNCH, VS_BASE_PATCH };

typedef struct vs_base_span {
    int kind;
    uint64_t block, count;
} vs_base_span;

/* Filled by the caller up to over; the rest by vs_base_plan_make. */
typedef struct vs_base_plan {
    vs_journal *journal;
    uint32_t volume;
    uint64_t seqno;
    vs_volume_state state; /* at seqno */
    vs_base *old;          /* NULL: there is none */
    vs_view *over;         /* the volume at seqno, by the records after the old base over it */
    vs_base_index index;   /* map and patches are the plan's own */
    vs_base_move_facts facts;
    vs_packed_writer *map;
    uint64_t row_start, row_end, data_bytes;
    uint64_t *patches;
    size_t patch_count, patch_room;
    uint64_t data_blocks, crc_pages, crc_pages_end; /* pages of checksums that are not all zeros; behind the last of them */
} vs_base_plan;

/* The index but for its checksums and the bytes of its patches, and the facts. A row for each run of data, so that the map gives the very runs that the records
 * gave. Reads maps only. */
int vs_base_plan_make(vs_base_plan *p);

/* Call each for spans of blocks, in order, but for those of NOTHING, until it returns a negative number, which is returned then. */
int vs_base_plan_walk(vs_base_plan *p, int (*each)(void *arg, const vs_base_span *s), void *arg);

/* Gives back what is in it, old and over too. */
void vs_base_plan_end(vs_base_plan *p);

static inline uint64_t vs_base_blocks_of(uint64_t bytes) {
    return bytes / VS_BLOCK_BYTES + (bytes % VS_BLOCK_BYTES != 0);
}

#endif
