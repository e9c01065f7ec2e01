/* crash_plan.h: which of the writes in a disk's log a loss of power may have left on the medium.
 *
 * Between two flushes lies an epoch. What lies before it is on the medium; of its own writes any subset, in whole blocks any part of each.
 * A state is the beginning of an epoch and such a subset. Small epochs are gone through whole, of larger ones a sample is taken.
 */
#ifndef VS_TESTS_CRASH_PLAN_H
#define VS_TESTS_CRASH_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "logged_disk.h"

typedef struct crash_range {
    uint64_t start_bytes, end_bytes;
} crash_range;

typedef struct crash_state {
    uint64_t first, end;  /* the epoch: records [first, end) of the log */
    uint64_t subset;      /* bit i: write i of the epoch is there; used if the epoch is small */
    uint64_t seed;        /* chooses among the writes, and parts of them; 0: as subset says */
} crash_state;

typedef struct crash_plan {
    crash_state *states;
    size_t count, room;
    uint64_t epochs;
} crash_plan;

/* Epochs of no more writes are gone through whole. */
enum { CRASH_SMALL = 6 };

/* All states of the records [first, end), in order. The caller ends it with crash_plan_end. */
void crash_plan_make(crash_plan *p, const logged_disk *d, uint64_t first, uint64_t end, uint64_t seed);
void crash_plan_end(crash_plan *p);

/* Leave count of them, chosen by seed, in order. */
void crash_plan_thin(crash_plan *p, size_t count, uint64_t seed);

/* Write what a state says of its epoch into the disk's image. torn: ranges of the device that hold contents of files, where a write may also be
 * torn between the sectors of a block. No filesystem expects these to be whole; of its own blocks it may. Returns how many writes were torn. */
uint64_t crash_state_apply(const crash_state *s, logged_disk *d, const crash_range *torn, size_t torn_count);

#endif
