/* compact_write.h: one compacted segment, written whole under a temporary name (compact_write.c), and what it replaces.
 *
 * Who commits it (compact_commit.c) renames it to the name that vs_segment_new gives a segment of that first seqno and generation.
 */
#ifndef VS_COMPACT_WRITE_H
#define VS_COMPACT_WRITE_H

#include "compact.h"
#include "found.h"
#include "journal_internal.h"

/* Segments [from, to] by index of a directory, all sealed; they are an aligned group of ordinals. */
typedef struct vs_compact_group {
    vs_directory *directory;
    uint64_t from, to;
    uint64_t generation;    /* of the segment that is to be written */
    uint64_t assumed_floor; /* of an estimate: as if bases had moved to it, and no older segment had anything up to it; 0: as it is */
} vs_compact_group;

/* mu held: the segments of a group, all of them sealed and before the point from which on all are kept; fills from and to. 0: it cannot be compacted. */
int vs_compact_group_find(const vs_journal *j, uint64_t first, uint64_t count, uint64_t window_seqno, vs_compact_group *out);

/* mu not held. Write the compacted segment of the group to VS_COMPACT_TEMPORARY, sync it, fill *out. 1: done; 0: the group cannot be compacted, nothing
 * was written; or -errno, with a fault, and the file may be there. */
int vs_compact_write(vs_journal *j, const vs_compact_group *c, const uint64_t *points, uint64_t n_points, const uint64_t *dropped, uint64_t n_dropped,
                     vs_compact_facts *out);

#endif
