/* hold.h: writes stand still for a moment, so that one cut can be made through several journals.
 *
 * While a journal is held, no write and no zero of a volume's user gets a record, and none is answered; reads, commits of what is there, and
 * events go on. What was answered before the hold began is in the position that it tells. So if several journals are held at one instant, their
 * positions are one cut: a write that waited for the answer of another is in it only together with that one.
 *
 * A hold ends when it is let go, and by itself when its time is over, when the journal fails (then writes go on without it, and are not behind
 * any position), at vs_journal_holds_end, and with the process: it lies in private memory, and who takes a journal over knows of none.
 * Whoever lets go learns whether it has stood until then; if not, the position is no part of a cut.
 *
 * A write waits for one hold at most: the next one begins when all that waited for the one before have their record. What must not wait
 * is not a user's write: the comparison of a gap, what a process takes over, what is applied to primaries.
 *
 * Threads: any. Errors: -errno. Costs a write that finds no hold one look at a field that it has under its lock.
 */
#ifndef VS_HOLD_H
#define VS_HOLD_H

#include "journal.h"

/* CFFI-BEGIN */
enum { VS_HOLD_MS_DEFAULT = 2000, VS_HOLD_MS_MAX = 10000 }; /* the kernel gives a request 20 s */

typedef struct vs_hold_position {
    uint64_t hold;    /* its number, for letting go; never 0, and never used twice by a process */
    uint64_t seqno;   /* the last record; 0: the journal has none */
    uint64_t time_ns; /* of that record; a seqno may be another record's after a crash, both together never are */
} vs_hold_position;

/* Hold the journal for at most milliseconds (0: VS_HOLD_MS_DEFAULT). Waits for the end of another hold, for as long at most: -EBUSY.
 * -EROFS: a reader; -EINVAL: longer than VS_HOLD_MS_MAX; -EIO or -ENOSPC: the journal failed, or there is a gap; -ECANCELED: after
 * vs_journal_holds_end. All with vs_fault_last. */
int vs_journal_hold(vs_journal *j, uint32_t milliseconds, vs_hold_position *out);

/* End it. 0: it stood until now; -ETIMEDOUT: it had ended before, or there is none of that number
 * (vs_fault_last). */
int vs_journal_let_go(vs_journal *j, uint64_t hold);

/* End a hold, and refuse others from now on: the owner is about to close. */
void vs_journal_holds_end(vs_journal *j);
/* CFFI-END */

#endif
