/* workload.h: a history made by a seed, what it must read as, and whether a journal that was found after a crash has it.
 *
 * A workload does to a journal what a server does to it: writes, zeros, bursts, resizes, bookmarks, commits of all or of one volume, seals,
 * merged maps, compactions (of odd seeds), volumes that come and go, some with a primary, some from a base, clean closes. Beside it it keeps a plain model, which shares
 * no code with the core: the list of records, from which each volume's bytes at each seqno follow by doing them again.
 *
 * It notes what was *appended* (answered, maybe only in memory) and what is *durable* (a durable request was answered). After a crash the
 * history must end between the two; what it says up to there must be exact; a primary must never have a byte of a record that the history
 * lacks, and (ack = both) none that is older than its last durable request. A compaction keeps some points, chosen by chance: those must be there, whether it
 * came to its end or not. The others may be gone, and where they are, it must say so: no point opens that is not whole.
 *
 * The same seed does the same steps, whatever the store and the options are, as long as none fails: a process that was killed can be judged by
 * one that does the steps again without a journal (workload_step before workload_open: only the model moves).
 *
 * Files are reached through the store alone. The caller makes the directories journal, maps, base and primary beforehand.
 *
 * Threads: a workload belongs to one. Errors: -errno of the call of the core or the store that failed; the step counts as not done then.
 * A history, a byte or a fact that is wrong is WORKLOAD_WRONG, and workload_why says what.
 */
#ifndef VS_TESTS_WORKLOAD_H
#define VS_TESTS_WORKLOAD_H

#include "journal.h"
#include "view.h"

enum { WORKLOAD_WRONG = 1, WORKLOAD_VOLUMES_MAX = 3, WORKLOAD_VOLUME_BLOCKS = 24 };

typedef struct workload workload;

/* Never fails: a test that has no memory ends. */
workload *workload_new(uint64_t seed);
void workload_free(workload *w); /* the journal must be closed; NULL is allowed */

/* The same history and promises, not open, for a judge of a crash of it; what it does next is drawn from another seed. */
workload *workload_copy(const workload *w, uint64_t seed);

/* How the journal is opened, drawn from the seed; may be changed before any open. A keep is borrowed. */
vs_journal_options *workload_options(workload *w);

/* An empty journal in an empty repository. */
int workload_create(workload *w, vs_store *s);

/* Open the journal as its owner, and give every volume that has one its primary. Used at first and wherever a recovery is to be judged: it looks at
 * the primaries before they are attached, and compares them with the newest state after. When the journal itself could be opened, the model
 * ends where it does, and all of it is durable. -errno or WORKLOAD_WRONG: the journal may be open or not; close it. */
int workload_open(workload *w, vs_store *s);

/* Read what the open journal has: every event with its body, and at `points` seqnos drawn from seed (0: at all) its time, and each volume byte for
 * byte. */
int workload_check(workload *w, uint64_t seed, int points);

/* workload_open, workload_check. */
int workload_verify(workload *w, vs_store *s, uint64_t seed, int points);

/* The process before this one died after its last requests were answered; they are sent again. Each must be known, get the seqno it had, and
 * change nothing. The journal is open on the keep of that process. */
int workload_resend(workload *w);

/* Do the next thing. Without a journal: only the model does it, and takes all of it as answered. */
int workload_step(workload *w);

/* Close the journal (nothing: when there is none); its status. The model stays. */
int workload_close(workload *w);

vs_journal *workload_journal(const workload *w); /* NULL: not open */
uint64_t workload_durable(const workload *w);    /* the last seqno that a durable request has answered for */
uint64_t workload_appended(const workload *w);   /* the last seqno that was given to a record */
uint64_t workload_steps(const workload *w);      /* done so far */
uint64_t workload_opens(const workload *w);      /* how often the journal was opened, also by steps */
uint64_t workload_compactions(const workload *w); /* that were done */

/* For a judge in another process, which does the steps without a journal. Of those that were answered, what was told is durable; the next
 * one, which was begun: what it appends may be there or not; and once the journal was opened and judged: the history that was found. */
void workload_durable_set(workload *w, uint64_t seqno);
int workload_step_begun(workload *w);
void workload_found(workload *w, uint64_t last);

/* What is wrong, or which call failed: one line. */
const char *workload_why(const workload *w);

#endif
