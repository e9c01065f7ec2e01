/* compact.h: giving back what only points needed that are kept no more.
 *
 * Outside of the protection window only some points can be read: the roots. A piece of a record at seqno s that is next covered at seqno t is needed
 * where a root is in [s, t). A compaction writes the needed pieces of a group of neighbouring segments into one segment, which takes their place
 * (native/FORMAT.md, "Compacted segments"). Whatever a root shows stays as it is: bytes, size, last write.
 *
 * points are the roots: seqnos, ascending, the oldest first. The last one is the first point of the window: everything from there on is kept, and no
 * segment that reaches beyond it is compacted. dropped are seqnos, ascending, of bookmarks' events that are left out; only those of types
 * VS_RECORD_BOOKMARK_ADD, REMOVE and HOLD can be.
 *
 * Threads: any; one compaction at a time, beside everything else. Errors: -errno with vs_fault_last. -EBADMSG: a block that is needed is damaged, the
 * fault says which: the group stays as it is. -ECANCELED: after vs_journal_work_end. Memory: at most about 160 bytes for each row of the group,
 * of which there are VS_COMPACT_ROWS_MAX at most, and 4 MiB; a group with more stays as it is (0).
 */
#ifndef VS_COMPACT_H
#define VS_COMPACT_H

#include "journal.h"

/* CFFI-BEGIN */
enum { VS_COMPACT_ROWS_MAX = 524288 };

typedef struct vs_compact_facts {
    uint64_t segments;                      /* files that it stands for */
    uint64_t bytes_before, bytes_after;     /* of files; exact */
    uint64_t payload_blocks;                /* that are kept */
    uint64_t records_before, records_after; /* events among them */
} vs_compact_facts;

/* What a compaction of the segments [first_ordinal, first_ordinal + count) would come to. Reads maps only. 1: filled in. 0: it is not possible: count is
 * no power of 8, they are not aligned or not all there, one of them is not sealed, not applied, reaches beyond the last point, or they hold too much.
 * floor_seqno, if not 0: as if the bases of all volumes had moved to that point, and older segments had been compacted since; exact to few records, since
 * what bases then know of zeros is not known yet. */
int vs_journal_compact_estimate(vs_journal *j, uint64_t first_ordinal, uint64_t count, const uint64_t *points, uint64_t n_points,
                                const uint64_t *dropped, uint64_t n_dropped, uint64_t floor_seqno, vs_compact_facts *out);

/* Do it: 1: done, and in use. The files that it stands for are deleted when nobody reads them any more (vs_journal_superseded). -EBUSY: another one is
 * under way. What is kept free of the disk for other things than writes is for this too: it gives more than it takes. */
int vs_journal_compact(vs_journal *j, uint64_t first_ordinal, uint64_t count, const uint64_t *points, uint64_t n_points, const uint64_t *dropped,
                       uint64_t n_dropped, vs_compact_facts *out);

/* Of payload blocks in sealed segments: how many bytes only points[i] needs, in exclusive_bytes[i] (the last point stands for the whole window); and how
 * many none of them does. What is written after the last point is not counted. Segment by segment: memory does not grow with the journal. */
int vs_journal_space(vs_journal *j, const uint64_t *points, uint64_t n_points, uint64_t *exclusive_bytes, uint64_t *garbage_bytes);
/* CFFI-END */

#endif
