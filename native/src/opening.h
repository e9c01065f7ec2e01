/* opening.h: from the files in journal/ to a directory of segments, at first and whenever a reader finds that it has another one.
 *
 * Threads: as its journal is opened, or mu held. Errors: -errno with vs_fault_last.
 */
#ifndef VS_OPENING_H
#define VS_OPENING_H

#include "journal_internal.h"

/* Load what the files say as j->directory, with its active segment. Segments that the directory before has are taken over from it, and after a
 * failure it stays. An owner recovers the active segment, and notes superseded files. 0. */
int vs_journal_load(vs_journal *j);

/* The last segment's records cannot be read: is that damage that leaves what is before it as it is (sound_part)? 1: the segment was dropped. */
int vs_journal_drop_unreadable(vs_journal *j, int status);

/* Owner: has the journal lost its end? A tail that somebody knows to have been committed is no torn one. */
int vs_journal_end_check(const vs_journal *j, uint64_t last_seqno);

/* Does g follow the segment before it (NULL: none)? */
int vs_chain_check(vs_segment *before, const vs_segment *g);

/* An empty index for an unsealed segment; and take over what its index says. */
int vs_segment_index_begin(vs_segment *g, const vs_segment *before);
void vs_segment_index_adopt(vs_segment *g);

#endif
