/* holds.h: what a journal knows of being held (hold.h). All under the journal's mu. */
#ifndef VS_HOLDS_H
#define VS_HOLDS_H

#include <pthread.h>
#include <stdint.h>

typedef struct vs_holds {
    uint64_t until_ns; /* CLOCK_MONOTONIC: the hold that is on ends by itself; 0: none is on */
    uint64_t number;   /* of the last one */
    uint64_t waiting;  /* writes that have met a hold and have no record yet */
    int ended;         /* no more are taken */
    pthread_cond_t moved; /* on CLOCK_MONOTONIC: a hold has ended, or nobody waits any more */
} vs_holds;

struct vs_journal;

int vs_holds_init(struct vs_journal *j);
void vs_holds_end(struct vs_journal *j);

/* mu held: the journal has failed. */
void vs_holds_fail(struct vs_journal *j);

/* mu held, given up meanwhile: a write waits until no hold is on. *met counts it as waiting, until vs_hold_passed; 0 at first.
 * 0: there was none; 1: there was one, and the caller has to look again at whatever it has looked at before. */
int vs_hold_wait(struct vs_journal *j, int *met);

/* mu not held: the write has its record, or will never have one. */
void vs_hold_passed(struct vs_journal *j, int met);

#endif
