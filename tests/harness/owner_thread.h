/* owner_thread.h: the journal's own thread, played by the harness, so that a run is the same each time.
 *
 * A program that uses it is linked with --wrap of vs_journal_worker_start: journals then start no thread. What that thread does, at whatever
 * moment it comes to it, is done by these calls instead. Threads: the one that has the journal.
 */
#ifndef VS_TESTS_OWNER_THREAD_H
#define VS_TESTS_OWNER_THREAD_H

#include "journal.h"

/* Between two calls of the journal: write out early what has piled up, or sync primaries that nobody waits for. */
void owner_thread_turn(vs_journal *j, uint64_t drawn);

/* While the journal's leader is in a call of the store: the same, but only what does not need leadership. */
void owner_thread_beside(vs_journal *j);

#endif
