/* base_move.h: giving up points at the old end of the window, and moving bases to the oldest that is left.
 *
 * The floor is the oldest point that can be opened. It is a record of the journal, so that everybody learns it who follows; it never goes back.
 * Once it is durable, and nobody reads below it any more (leases.h), a volume's base may be moved to it: what records after the base's seqno and up to
 * the floor put into the volume is copied into the image, in place, and a new index is put in the place of the old one. Records up to
 * a base's seqno are not needed any more: a compaction may drop them.
 *
 * Why that is safe at any moment: a block that is overwritten in place is one of which no byte is read from the base at a point from the floor on,
 * as records cover all that the base has of it. Blocks that records cover in part go into the new index, as patches (base.h); the next move puts them into
 * the image, since whoever reads by that index does not read them there. Whoever has an older index open, and finds such a block changed, reads it
 * by the newest one. A move that was interrupted is done again from its beginning and gives the same bytes.
 *
 * Threads: any; moves go one at a time. Errors: -errno with vs_fault_last. Lock order: moves before everything else of the journal.
 */
#ifndef VS_BASE_MOVE_H
#define VS_BASE_MOVE_H

#include "journal.h"

/* CFFI-BEGIN */
typedef struct vs_base_move_facts {
    uint64_t bytes_before, bytes_after; /* of the blocks of image and index together, without holes */
    uint64_t copied_bytes;              /* that go into the image */
    uint64_t patched_bytes;             /* that go into the index */
} vs_base_move_facts;

/* Points before seqno cannot be opened from now on, by anybody. Durable when it returns 0; also where it is the floor already. -ERANGE: before the
 * floor, or not committed. */
int vs_journal_floor(vs_journal *j, uint64_t seqno);

/* Move the base of a volume to seqno, which is the floor; a volume that has none gets one, and one that was removed by then loses its. 1: done; 0: there
 * is nothing to do. -EAGAIN: somebody reads below the floor. -EBUSY: a primary does not have everything up to it yet. -EBADMSG: a block that was to be
 * copied is damaged, the fault says which; no point is worse off than before. -ERANGE: not the floor. -ECANCELED: after vs_journal_work_end. */
int vs_journal_base_move(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out);

/* What a move to seqno, the floor or a later record, would come to. Reads maps only. 1: filled in; 0: there is nothing to do. */
int vs_journal_base_move_estimate(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out);

/* The record up to which the base of a volume has everything; 0: none, or as it was taken in. */
uint64_t vs_journal_base_seqno(vs_journal *j, uint32_t volume);
/* CFFI-END */

#endif
