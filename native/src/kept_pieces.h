/* kept_pieces.h: the pieces of a group that a compaction keeps.
 *
 * Of what survives (survivors.h) some is left out:
 *   - what has nothing below it and reads as zeros, since a hole does too; unless a root's last write would be gone
 *   - what the bases have and nothing else is below, up to the base floor: the oldest base of all volumes. Also the zeros of resizes
 * Of a block of which some bytes are kept all are kept that its record put there, so that no payload block stands twice; and of zeros all between the first
 * and the last that are, so that a record has no more pieces than it had. That does no harm: whatever covers them at a root is kept too.
 *
 * Threads: one at a time; the directory's sealed segments do not change. The journal's state lock is taken, and given up, inside.
 */
#ifndef VS_KEPT_PIECES_H
#define VS_KEPT_PIECES_H

#include "survivors.h"

/* What is to be kept of a row; it lies where the row says. */
typedef struct vs_kept_piece {
    uint64_t offset_bytes, length_bytes;
    uint32_t segment;                 /* index in the group */
    uint32_t number : 31, stays : 1;  /* of the row there; it is a last write */
} vs_kept_piece;

typedef struct vs_kept_pieces {
    vs_kept_piece *pieces; /* in the order of records, ascending in each */
    size_t count, room;
    uint64_t base_floor;  /* records up to here may be among those that are left out because the bases have them; 0: none are */
    uint64_t *sizes_alone; /* seqnos of resizes, ascending, whose zeros are left out */
    size_t size_count, size_room;
    uint64_t until_seqno; /* what came up to here was asked whether it covers anything */
} vs_kept_pieces;

/* The record up to which the bases of all volumes that stand at the oldest root have everything. -ERANGE: there is no such root. */
int vs_base_floor(vs_journal *j, const vs_directory *d, const vs_roots *roots, uint64_t *seqno);

/* All that is kept of a group. 1: *out is filled, and freed by the caller with vs_kept_pieces_clear. 0: the group holds more than
 * VS_COMPACT_ROWS_MAX. Or -errno, and nothing is to be freed. */
int vs_kept_pieces_find(vs_journal *j, const vs_compact_group *c, const vs_roots *roots, vs_kept_pieces *out);
void vs_kept_pieces_clear(vs_kept_pieces *p);

#endif
